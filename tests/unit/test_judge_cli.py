"""`rubricrm judge`: outputs, exit codes, and never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from judge_bundle import judge_bundle
from rubricrm import JudgeModel
from rubricrm.cli import cli
from rubricrm.errors import EngineBusy
from rubricrm.text_model import DEMO_BUNDLE
from scripted_judge import Asked, ScriptedJudge

RUBRIC = "1. The response is a haiku. [Hard Rule]"


def invoke(*arguments: str | Path, **options: Any) -> Result:
    words = ["judge", *map(str, arguments)]
    result = CliRunner().invoke(cli, words, prog_name="rubricrm", **options)
    # Anything but an exit code would be a traceback for the user.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


class OpenedJudge(ScriptedJudge):
    """A scripted judge that a command opens."""

    def __enter__(self) -> ScriptedJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True


@pytest.fixture
def rubric(tmp_path: Path) -> Path:
    path = tmp_path / "rubric.txt"
    path.write_text(RUBRIC + "\n", "utf-8")
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> OpenedJudge:
    """A judge that prefers the longer answer, in the place of every bundle."""
    judge = OpenedJudge(
        lambda asked: f"Winner: Response {'A' if len(asked.response_a) > len(asked.response_b) else 'B'}"
    )
    monkeypatch.setattr(JudgeModel, "open", lambda *_, **__: judge)
    return judge


def test_a_verdict_as_text_and_as_json(scripted: OpenedJudge, rubric: Path) -> None:
    words = ("Write a haiku.", "--a", "short", "--b", "much longer", "-m", "x", "--rubric", rubric, "--votes", "2")
    result = invoke(*words)
    assert result.exit_code == 0
    assert result.stdout == "winner: B\nvotes: 0 for A, 4 for B, 0 for none\norders agree: yes\n"
    assert scripted.asked[0] == Asked("Write a haiku.", RUBRIC, "short", "much longer", 0)
    assert scripted.is_closed
    document = json.loads(invoke(*words, "--json", "--reward").stdout)
    assert (document["outcome"], document["value"], document["verdict"]["winner"]) == ("scored", 0.0, "B")
    assert invoke(*words, "--reward").stdout.endswith("reward: 0.0\n")
    document = json.loads(invoke(*words, "--json", "--orders", "given").stdout)
    assert (document["outcome"], document["winner"], document["consistent"]) == ("verdict", "B", None)
    assert len(document["votes"]) == 2


def test_texts_come_from_files_and_standard_input(scripted: OpenedJudge, rubric: Path, tmp_path: Path) -> None:
    files = {"a": "eins\r\nzwei\r\n".encode("utf-16"), "b": "日本\n".encode()}
    for name, contents in files.items():
        (tmp_path / name).write_bytes(contents)
    arguments = ("-", "--a-file", tmp_path / "a", "--b-file", tmp_path / "b", "-m", "x", "--rubric", rubric)
    assert invoke(*arguments, input="Schreib ein Haiku.\n").exit_code == 0
    assert scripted.asked[0] == Asked("Schreib ein Haiku.", RUBRIC, "eins\nzwei", "日本", 0)


def test_the_seed_and_the_sampling_are_the_callers(scripted: OpenedJudge, rubric: Path) -> None:
    words = ("x", "--a", "y", "--b", "z", "-m", "x", "--rubric", rubric)
    assert invoke(*words, "--seed", "7", "--votes", "2", "--temperature", "1").exit_code == 0
    assert [asked.seed for asked in scripted.asked] == [7, 8, 7, 8]
    result = invoke(*words, "--votes", "2", "--temperature", "0")
    assert result.exit_code == 2
    assert "all votes of an order would be the same" in result.stderr


@pytest.mark.parametrize(
    ("answer", "exit_code", "reason"),
    [
        ("no idea", 3, "no_quorum"),
        ("CUT:Winner: Response A", 3, "truncated"),
        (EngineBusy("full"), 1, "judge_failed"),
    ],
)
def test_no_verdict_has_its_reason_and_exit_code(
    scripted: OpenedJudge, rubric: Path, answer: Any, exit_code: int, reason: str
) -> None:
    scripted.script = lambda _: answer
    words = ("x", "--a", "y", "--b", "z", "-m", "x", "--rubric", rubric)
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (exit_code, "winner: none\n")
    assert result.stderr.startswith(f"No verdict: {reason}: 0 of 1 samples of the given order are votes")
    document = json.loads(invoke(*words, "--json", "--reward").stdout)
    assert (document["outcome"], document["reason"]) == ("unscored", reason)
    assert "value" not in document


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "--b", "z", "--rubric", "R"), "Give either --a TEXT or --a-file FILE."),
        (("x", "--a", "y", "--a-file", "R", "--b", "z", "--rubric", "R"), "Give either --a TEXT or --a-file FILE."),
        (("x", "--a", "y", "--b", "z"), "Give either --rubric FILE or --rubric-model BUNDLE."),
        (("x", "--a", "y", "--b", "z", "--rubric", "R", "--rubric-model", "D"), "Give either --rubric"),
        (("x", "--a", "y", "--b", "z", "--rubric", "missing"), "missing: cannot be read (No such file"),
        (("x", "--a-file", "latin", "--b", "z", "--rubric", "R"), "latin: not UTF-8 at byte 2"),
        (("x", "--a", "y", "--b", "z", "--rubric", "R", "--votes", "0"), "--votes"),
        (("x", "--a", "y", "--b", "z", "--rubric", "R", "--seed", "-1"), "seed must be"),
        (("x", "--a", "y", "--b", "z", "--rubric", "R", "--orders", "given", "--reward"), "needs both orders"),
        (("x", "--a", " ", "--b", "z", "--rubric", "R"), "REQUEST_INVALID: a: is empty"),
        ((" ", "--a", "y", "--b", "z", "--rubric", "R"), "REQUEST_INVALID: request: is empty"),
        (("x", "--a", "y", "--b", "z", "--rubric", "empty"), "REQUEST_INVALID: rubric: is empty"),
    ],
)
@pytest.mark.usefixtures("scripted")
def test_bad_input_is_said_in_one_line(
    rubric: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin").write_bytes("fu\u00dfball".encode("latin-1"))
    (tmp_path / "empty").write_bytes(b"\n")
    result = invoke(*(str(rubric) if word == "R" else word for word in arguments), "-m", "x")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "\n" not in result.stdout.replace("winner: none\n", "")


def test_a_real_judge_that_names_nobody(tmp_path: Path, rubric: Path) -> None:
    path = judge_bundle(tmp_path / "bundle", keep_rubric=True)
    words = ("Write a haiku.", "--a", "Rain falls.", "--b", "Drops.", "-m", path, "--threads", "1")
    result = invoke(*words, "--rubric-model", path, "--max-new-tokens", "40", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["reason"] in ("no_quorum", "truncated")
    assert [vote["text"] != "" for vote in document["votes"]] == [True, True]
    assert invoke(*words[:-4], "-m", DEMO_BUNDLE, "--rubric", rubric).exit_code == 2
    assert invoke(*words[:-4], "-m", tmp_path / "nothing", "--rubric", rubric).exit_code == 2


def test_without_a_judge_the_demo_judge_checks_the_hard_rules(tmp_path: Path) -> None:
    path = tmp_path / "rubric.txt"
    path.write_text('1. The response must use the word "river". [Hard Rule]\n', "utf-8")
    result = invoke("Describe a garden.", "--a", "A river runs there.", "--b", "A wall stands there.", "--rubric", path)
    assert result.exit_code == 0
    assert result.stdout == "winner: A\nvotes: 2 for A, 0 for B, 0 for none\norders agree: yes\n"
    assert result.stderr == "Using the demo judge; --model JUDGE uses yours.\n"
