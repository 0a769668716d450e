"""Programs of others, in the cache directory: run only if no other user can have written them."""

import os
import sys
from pathlib import Path

import pytest
from rubricrm_export.errors import ExportFailed
from rubricrm_export.system import tool
from rubricrm_export.system.tool import own_program


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for making an environment; collects the commands."""
    run: list[list[str]] = []

    def make(words: list[str]) -> None:
        run.append(words)
        if "venv" in words:
            (Path(words[-1]) / "bin").mkdir(parents=True)
        else:
            (Path(words[0]).parent / "program").write_text("")

    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tool, "run_tool", make)
    return run


def test_an_environment_is_made_once_for_this_user_alone(commands: list[list[str]], tmp_path: Path) -> None:
    first = own_program("program", ("some==1",))
    assert own_program("program", ("some==1",)) == first
    assert commands == [
        [sys.executable, "-m", "venv", str(first.parents[1])],
        [str(first.parent / "python"), "-m", "pip", "install", "some==1"],
    ]
    assert (tmp_path / "cache/environments").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770])
@pytest.mark.parametrize("level", range(4), ids=["program", "bin", "environment", "environments"])
def test_a_program_that_others_may_have_written_is_not_run(
    commands: list[list[str]], tmp_path: Path, level: int, mode: int
) -> None:
    program = own_program("program", ())
    places = (program, *program.parents)
    for place in (*places[1:4], tmp_path / "cache"):
        place.chmod(0o755)
    places[level].chmod(mode)
    commands.clear()
    with pytest.raises(ExportFailed, match="may be written by other users.*--environment"):
        own_program("program", ())
    assert commands == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
@pytest.mark.parametrize("level", range(4), ids=["program", "bin", "environment", "environments"])
def test_a_program_of_another_user_is_not_run(commands: list[list[str]], level: int) -> None:
    program = own_program("program", ())
    os.chown((program, *program.parents)[level], 54321, 54321)
    commands.clear()
    with pytest.raises(ExportFailed, match="belongs to user 54321"):
        own_program("program", ())
    assert commands == []


def test_without_a_cache_an_environment_must_be_given(
    commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "file/below"))
    with pytest.raises(ExportFailed, match="program cannot be kept in the cache directory .*pass --environment"):
        own_program("program", ())
    assert commands == []
