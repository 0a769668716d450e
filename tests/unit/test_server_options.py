"""The options of a model on a server: the same names, help and errors in every command that has them."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rubricrm.api_keys import read_keys
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm.served_model import ServedModel
from rubricrm.server_options import refuse_given, server_options

NAMES = ("server", "prompt", "server_model", "dialect", "server_key_file")
# Every command that has them, with what else it must be given, and the kind of its model.
COMMANDS = [
    pytest.param(["generate", "Write a haiku."], "", "--model", id="generate"),
    pytest.param(["judge", "Write a haiku.", "--a", "x", "--b", "y", "--rubric", "r"], "", "--model", id="judge"),
    pytest.param(["bench"], "", "BUNDLE", id="bench"),
    pytest.param(["serve"], "", "--model", id="serve"),
    pytest.param(["serve"], "judge-", "--judge", id="serve-judge"),
    pytest.param(["batch", "in.jsonl", "-o", "out"], "", "--model", id="batch"),
    pytest.param(["batch", "in.jsonl", "-o", "out"], "judge-", "--judge", id="batch-judge"),
]


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="rubricrm")


def bundle(spelling: str) -> list[str]:
    return ["bundle"] if spelling == "BUNDLE" else [spelling, "bundle"]


@pytest.mark.parametrize(
    ("command", "kind"), [(case.values[0], case.values[1]) for case in COMMANDS] + [(["certify"], "")]
)
def test_every_command_says_the_same_of_them(command: list[str], kind: str) -> None:
    helps = {}
    for words in (["generate"], command[:1]):
        context = click.Context(cli)
        found = cli.get_command(context, words[0])
        assert found is not None
        helps[words[0]] = {p.name: p for p in found.params if isinstance(p, click.Option)}
    model = kind.rstrip("-") or "model"
    for name in NAMES:
        known, other = helps["generate"][name], helps[command[0]][f"{kind.replace('-', '_')}{name}"]
        assert (other.type.name, other.metavar) == (known.type.name, known.metavar)
        expected = str(known.help).replace("--", f"--{kind}").replace("a model", f"a {model}")
        assert str(other.help).replace("RUBRICRM_JUDGE_", "RUBRICRM_") == expected


@pytest.mark.parametrize(("command", "kind", "spelling"), COMMANDS)
def test_every_command_refuses_the_same(command: list[str], kind: str, spelling: str, tmp_path: Path) -> None:
    model = kind.rstrip("-") or "model"
    server = [f"--{kind}server", "http://127.0.0.1:9"]
    prompt = [f"--{kind}prompt", "p"]
    for words, said in (
        (server, f"--{kind}server needs --{kind}prompt DIR, the prompt directory of its {model}, or {spelling} with a"),
        (prompt, f"--{kind}prompt has no effect without --{kind}server. Leave it out."),
        ([f"--{kind}server-model", "x"], f"--{kind}server-model has no effect without --{kind}server"),
        ([f"--{kind}dialect", "vllm"], f"--{kind}dialect has no effect without --{kind}server"),
        ([f"--{kind}server-key-file", "k"], f"--{kind}server-key-file has no effect without --{kind}server"),
        ([*server, *prompt, f"--{kind}dialect", "x"], "'x' is not one of 'vllm'"),
        ([*bundle(spelling), *server, *prompt], f"{spelling} and --{kind}prompt both name the prompt of the {model}"),
        ([*server, *prompt, f"--{kind}server-key-file", tmp_path / "none"], "none: the keys cannot be read"),
    ):
        result = invoke(*command, *words)
        assert result.exit_code == 2, result.output
        assert said in " ".join(result.stderr.split()), result.output


@pytest.mark.parametrize("option", ["--prompt", "--server-model", "--dialect", "--server-key-file"])
def test_a_command_whose_bundle_stays_refuses_options_without_a_server(option: str) -> None:
    result = invoke("certify", "bundle", "--reference", "r", option, "vllm")
    assert (result.exit_code, f"{option} has no effect without --server" in result.stderr) == (2, True)


def given(*words: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """What a command gets."""
    seen: dict[str, Any] = {}

    @click.command()
    @click.option("-m", "--model", "path", type=click.Path(path_type=Path), envvar="MODEL")
    @server_options("path")
    @click.option("--threads", type=int)
    def command(**options: Any) -> None:
        if options["server"] is not None:
            refuse_given(("threads",), "with --server")
        seen.update(options)

    result = CliRunner().invoke(command, words, env=environment, catch_exceptions=True)
    if isinstance(result.exception, OptionInvalid):
        raise result.exception
    if result.exit_code:
        raise click.UsageError(result.output)
    return seen


def test_a_command_gets_one_value_for_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    server = ("--server", "http://x", "--dialect", "vllm", "--server-model", "demo")
    assert given("--threads", "2") == {"path": None, "server": None, "threads": 2}
    found = given(*server, "--prompt", "p", "--server-key-file", str(tmp_path / "key"))["server"]
    assert found == ServedModel("http://x", Path("p"), "demo", "vllm", "secret")
    assert "secret" not in repr(found)
    # A bundle has a prompt too; one of the environment gives way.
    assert given("--server", "http://x", "-m", "b") == {
        "path": None,
        "server": ServedModel("http://x", Path("b")),
        "threads": None,
    }
    found = given("--server", "http://x", "--prompt", "p", environment={"MODEL": "b"})
    assert (found["path"], found["server"].prompt) == (None, Path("p"))
    with pytest.raises(click.UsageError, match="--threads has no effect with --server"):
        given("--server", "http://x", "--prompt", "p", "--threads", "2")


def test_the_key_is_the_files_or_the_variables(tmp_path: Path) -> None:
    server, file = ("--server", "http://x", "--prompt", "p"), tmp_path / "key"
    environment = {"RUBRICRM_SERVER_API_KEY": " told ", "RUBRICRM_API_KEY": "of clients"}
    assert given(*server, environment=environment)["server"].api_key == "told"
    file.write_text("written\n")
    with_file = (*server, "--server-key-file", str(file))
    assert given(*with_file, environment=environment)["server"].api_key == "written"
    assert given(*server, environment={"RUBRICRM_SERVER_API_KEY": " "})["server"].api_key is None
    file.write_text("one\ntwo\n")
    with pytest.raises(OptionInvalid, match="holds 2 keys, expected one"):
        given(*with_file)


@pytest.mark.parametrize("content", [b"\n \n", b"\xff", "schl\u00fcssel".encode(), b"a\x00b"], ids=repr)
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(OptionInvalid):
        read_keys(tmp_path / "keys")
