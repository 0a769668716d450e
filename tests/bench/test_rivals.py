"""benchmarks/rivals.py with systems that are scripts: turns, ratios, agreement, commits, and what fails."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SYSTEMS = Path(__file__).parents[2] / "benchmarks" / "systems"
COMMIT = "0123456789ab"

FAKE = """
'Runs nothing, fast.'

import time
from pathlib import Path
from protocol import main

REQUIREMENTS = {pins}
VARIANTS = {{"a": None, "b": None}}
MODEL_OF = {model_of}


def prepare(checkpoint, directory, variant):
    {prepare}
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(bytes(1000))


class Model:
    kept = ()

    {keep}

    def best(self, ids, count):
        return [ids[0], *range(count - 1)]

    def run(self, ids, new_tokens):
        with Path({log!r}).open("a") as log:
            log.write({name!r} + f" {{len(self.kept)}}+{{len(ids)}}/{{new_tokens}}\\n")
        print("a library prints this")
        {run}
        now = time.perf_counter()
        first = {first}
        return [now + 0.001 * n * {pace} for n in range(1, new_tokens + 1)], [first] * new_tokens


def open_model(directory, variant, threads):
    {open}
    model = Model()
    model.runs = {runs}
    return model


if __name__ == "__main__":
    main(prepare, open_model)
"""
KEEP = "def keep(self, ids): self.kept = ids"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fake systems: ours, one that takes twice as long a token, one that computes nonsense, and three that fail."""
    folder = tmp_path / "systems"
    folder.mkdir()
    shutil.copy(SYSTEMS / "protocol.py", folder)
    plain = {
        "pins": ("nothing==1",),
        "model_of": {"b": "slow:a"},
        "runs": None,
        "prepare": "pass",
        "run": "pass",
        "open": "pass",
        "pace": 1,
        "first": "ids[0]",
        "keep": KEEP,
        "log": str(tmp_path / "log"),
    }
    kinds: dict[str, dict[str, Any]] = {
        "ours": {"pins": ("{root}[cpu]",), "runs": "variant + ' kernels'", "model_of": {"b": "ours:a"}},
        "referee": {"log": str(tmp_path / "referee-log")},
        "slow": {"pace": 2, "first": "ids[0] if ids[0] % 2 else 7", "keep": ""},
        "wrong": {"first": "7"},
        "unprepared": {"prepare": "raise SystemExit('no converter for this')"},
        "unopened": {"open": "raise SystemExit('no kernel for this')"},
        "breaking": {"run": "raise SystemExit('out of memory')"},
        "killed": {"prepare": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"},
        "short": {"run": "if new_tokens > 1: raise SystemExit('out of memory')"},
    }
    for name, change in kinds.items():
        (folder / f"{name}.py").write_text(FAKE.format(**(plain | change | {"name": name})))
    return folder


@pytest.fixture
def rivals(
    load_script: Callable[[str], ModuleType], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(folder), str(SYSTEMS.parent), *sys.path])
    module = load_script("rivals")
    monkeypatch.setattr(sys.modules["contender"], "SYSTEMS", folder)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "PAUSE_S", 0)
    return module


def options(tmp_path: Path, systems: list[str], shapes: list[str]) -> argparse.Namespace:
    (tmp_path / "checkpoint").mkdir(exist_ok=True)
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps({"vocab_size": 500}))
    names = ["ours", "referee", *(system.partition(":")[0] for system in systems)]
    return argparse.Namespace(
        checkpoint=tmp_path / "checkpoint",
        name="test",
        work=tmp_path / "work",
        ours="ours:a",
        referee="referee:a",
        systems=systems,
        shapes=shapes,
        openings=2,
        rounds=2,
        threads=1,
        environment=[(name, sys.executable) for name in names],
    )


def run(rivals: ModuleType, given: argparse.Namespace, commit: str = COMMIT) -> dict[str, Any]:
    rivals.Comparison(given, commit).run()
    found: dict[str, Any] = json.loads((given.work.parent / "results" / "rivals-test" / f"{commit}.json").read_text())
    return found


def asked(tmp_path: Path, shape: str) -> list[str]:
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    return [name for name, what in lines if what == shape]


def test_both_sides_answer_in_turns(rivals: ModuleType, tmp_path: Path) -> None:
    own_memory = bytearray(b"x") * 300_000_000  # it is not theirs
    found = run(rivals, options(tmp_path, ["slow:a"], ["8/5"]))
    assert asked(tmp_path, "0+8/4") == ["slow", "ours"] * 2  # a short pair warms each opening up
    assert asked(tmp_path, "0+8/5") == ["ours", "slow", "slow", "ours"] * 2
    assert found["contenders"]["ours:a"]["agreement"] == found["contenders"]["ours:a"]["same_first"] == 1
    slow = found["contenders"]["slow:a"]
    assert 0 < slow["agreement"] < 1
    assert slow["num_bytes"] == 1000
    assert slow["requirements"] == ["nothing==1"]
    row = slow["shapes"]["8/5"]
    assert len(row["ours"]["ttft_ms"]) == len(row["rival"]["tpot_ms"]) == 4
    assert 1e6 < row["rival"]["peak_rss_bytes"] < len(own_memory)
    text = rivals.table(found)
    assert "- slow: Runs nothing, fast. (`nothing==1`)" in text
    assert "Prompt/new tokens 8/5" in text
    assert re.search(r"\| slow a \| 0.00 \| 0.\d\d \| .* \| 2.0 \| 2.00 \(2.00 to 2.00\) \| \d\d% \| \d\d% \|", text)


def test_a_side_that_computes_another_model_is_not_ranked(rivals: ModuleType, tmp_path: Path) -> None:
    found = run(rivals, options(tmp_path, ["wrong:a"], ["8/5"]))
    assert found["contenders"]["wrong:a"]["agreement"] == 0
    line = next(line for line in rivals.table(found).splitlines() if "wrong" in line)
    assert line.count("not ranked") == 2
    found["contenders"]["wrong:a"]["agreement"], found["contenders"]["ours:a"]["agreement"] = 1, 0
    assert rivals.table(found).count("not ranked") == 2


def test_the_state_of_a_prompt_is_kept_on_both_sides_or_the_row_fails(rivals: ModuleType, tmp_path: Path) -> None:
    found = run(rivals, options(tmp_path, ["wrong:a", "slow:a"], ["5+3/6"]))
    assert asked(tmp_path, "5+8/6")[:4] == ["ours", "wrong", "wrong", "ours"]
    assert found["contenders"]["slow:a"]["shapes"]["5+3/6"] == {"error": "keeps no state of a prompt here"}
    assert "- slow:a 5+3/6 failed: keeps no state of a prompt here" in rivals.table(found)


def test_what_was_measured_is_kept(rivals: ModuleType, tmp_path: Path) -> None:
    run(rivals, options(tmp_path, ["slow:a"], ["8/5"]))
    (tmp_path / "log").unlink()
    found = run(rivals, options(tmp_path, ["slow:a", "wrong:a"], ["8/5"]))
    assert set(asked(tmp_path, "0+8/5")) == {"ours", "wrong"}
    assert list(found["contenders"]) == ["ours:a", "slow:a", "wrong:a"]
    other = options(tmp_path, ["slow:a"], ["8/5"])
    other.threads = 2
    with pytest.raises(SystemExit, match="measured with other options"):
        rivals.Comparison(other, COMMIT)


def test_results_are_kept_per_commit_and_ours_is_made_again(rivals: ModuleType, tmp_path: Path) -> None:
    first = run(rivals, options(tmp_path, ["slow:a"], ["8/5"]))
    assert first["commit"] == COMMIT
    (tmp_path / "log").unlink()
    second = run(rivals, options(tmp_path, ["slow:a"], ["8/5"]), "fedcba987654")
    assert set(asked(tmp_path, "0+8/5")) == {"ours", "slow"}
    assert second["began"] >= first["began"]
    work = tmp_path / "work"
    made = {path.relative_to(work).as_posix() for path in work.rglob("weights")}
    assert made == {
        f"{COMMIT}/models/ours-a/weights",
        "fedcba987654/models/ours-a/weights",
        "models/slow-a/weights",
        "models/referee-a/weights",
    }


def test_a_variant_may_run_the_model_of_another(rivals: ModuleType, tmp_path: Path) -> None:
    found = run(rivals, options(tmp_path, ["ours:b", "wrong:b", "slow:a"], ["8/5"]))
    made = [path.parent.name for path in (tmp_path / "work").rglob("weights")]
    assert sorted(made) == ["ours-a", "referee-a", "slow-a"]
    assert found["contenders"]["wrong:b"]["num_bytes"] == 1000
    assert found["contenders"]["ours:b"]["runs"] == "b kernels"
    text = rivals.table(found)
    assert "Here a ran a kernels; b ran b kernels." in text
    assert "| ours b |" in text


def test_what_is_measured_by_default(rivals: ModuleType) -> None:
    names = rivals.default_systems("ours:a")
    assert {"ours:b", "slow:a", "wrong:b"} <= set(names)
    assert "ours:a" not in names
    assert not [name for name in rivals.default_systems("ours:b") if name.startswith("ours")]


@pytest.mark.parametrize(
    ("system", "message", "where"),
    [
        ("unprepared", "no converter for this", ""),
        ("unopened", "no kernel for this", ""),
        ("breaking", "out of memory", ""),
        ("killed", "lack of memory", ""),
        ("short", "out of memory", " 8/5"),
    ],
)
def test_a_system_that_fails_has_its_error(
    rivals: ModuleType, tmp_path: Path, system: str, message: str, where: str
) -> None:
    found = run(rivals, options(tmp_path, [f"{system}:a", "slow:a"], ["8/5"]))
    how = "ended by signal 9: " if system == "killed" else "exit code 1: "
    assert f"- {system}:a{where} failed: {how}" in rivals.table(found)
    assert message in rivals.table(found)
    assert "rival" in found["contenders"]["slow:a"]["shapes"]["8/5"]


def test_a_conversion_that_fails_later_loses_no_row(rivals: ModuleType, folder: Path, tmp_path: Path) -> None:
    run(rivals, options(tmp_path, ["slow:a"], ["8/5"]))
    shutil.rmtree(tmp_path / "work" / "models" / "slow-a")  # of the system, not of a commit
    shutil.copy(folder / "unprepared.py", folder / "slow.py")
    slow = run(rivals, options(tmp_path, ["slow:a"], ["8/5", "6/5"]))["contenders"]["slow:a"]
    assert "no converter for this" in slow["error"]
    assert list(slow["shapes"]) == ["8/5"]


def test_unknown_systems_and_variants(rivals: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no system 'nosuch'; there are breaking, killed, ours, referee, short, slow"):
        run(rivals, options(tmp_path, ["nosuch:a"], ["8/5"]))
    with pytest.raises(SystemExit, match="slow has the variants a, b, got 'c'"):
        run(rivals, options(tmp_path, ["slow:c"], ["8/5"]))


def test_every_system_states_its_pins_without_its_packages(
    load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(SYSTEMS), str(SYSTEMS.parent), *sys.path])
    contender = load_script("contender")
    known = contender.known_contenders()
    assert {name.partition(":")[0] for name in known} == {path.stem for path in SYSTEMS.glob("*.py")} - {"protocol"}
    for system in {name.partition(":")[0] for name in known}:
        pins = load_script(f"systems/{system}").REQUIREMENTS
        assert all("==" in pin or pin == "onnx-ir" or ">=" in pin or "{root}" in pin for pin in pins)
    assert {contender.model_of(name) for name in known} <= set(known)
    assert all(contender.model_of(contender.model_of(name)) == contender.model_of(name) for name in known)
    assert contender.model_of("ours:int4-128-off") == "ours:int4-128"


def test_a_system_is_installed_with_what_its_build_needs(
    rivals: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "slow.py").open("a") as file:
        file.write('BUILD = {"CXXFLAGS": "-O3"}\n')
    contender, ran = sys.modules["contender"], []
    monkeypatch.setattr(contender, "_prepare", lambda *_: None)

    def run(words: list[str], log: Path, variables: Any = None) -> None:
        (tmp_path / "work" / "environments" / "slow").mkdir(parents=True, exist_ok=True)
        ran.append((words[1:4], log.name, variables))

    monkeypatch.setattr(contender, "_run", run)
    for _ in range(2):
        rivals.make_contender("slow:a", tmp_path, tmp_path / "work", {}, COMMIT)
    assert ran == [
        (["-m", "venv", str(tmp_path / "work" / "environments" / "slow")], "install-slow.log", None),
        (["-m", "pip", "install"], "install-slow.log", {"CXXFLAGS": "-O3"}),
    ]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit that changes the SDK."""
    root = tmp_path / "checkout"
    (root / "sdk").mkdir(parents=True)
    (root / "sdk" / "code.py").write_text("first\n")
    git(root, "init", "--quiet")
    commit(root)
    return root


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", root, *who, *words], check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "change")
    return git(root, "rev-parse", "HEAD")[:12]


def test_results_belong_to_the_last_commit_that_changed_what_is_measured(
    load_script: Callable[[str], ModuleType], checkout: Path
) -> None:
    measured_commit = load_script("measured_commit").measured_commit
    first = measured_commit(checkout)
    assert first == git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "README.md").write_text("a document\n")
    assert measured_commit(checkout) == first
    assert commit(checkout) != first
    assert measured_commit(checkout) == first
    (checkout / "benchmarks" / "systems").mkdir(parents=True)
    (checkout / "benchmarks" / "systems" / "new.py").write_text("new\n")
    with pytest.raises(SystemExit, match=r"are in none. Commit or stash them.\n.*benchmarks/"):
        measured_commit(checkout)
    assert commit(checkout) == measured_commit(checkout) != first


def test_a_folder_without_commits_has_no_results(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    measured_commit = load_script("measured_commit").measured_commit
    with pytest.raises(SystemExit, match="results are kept per commit, and git says"):
        measured_commit(tmp_path)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "README.md").write_text("a document\n")
    commit(tmp_path)
    with pytest.raises(SystemExit, match="no commit has CMakeLists.txt"):
        measured_commit(tmp_path)


def test_a_table_is_written_between_its_marks(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    module = load_script("marked_table")
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- t: begin -->\nold\n<!-- t: end -->\nafter\n")
    module.insert(document, "t", "new")
    assert document.read_text() == "before\n<!-- t: begin -->\nnew\n<!-- t: end -->\nafter\n"
    with pytest.raises(SystemExit, match="has no <!-- u: begin -->"):
        module.insert(document, "u", "new")
    assert document.read_text() == "before\n<!-- t: begin -->\nnew\n<!-- t: end -->\nafter\n"
