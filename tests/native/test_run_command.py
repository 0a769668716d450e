"""rubricrm-run prints what the command `rubricrm` prints, and exits as it does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from rubricrm.cli import cli
from rubricrm.text_model import DEMO_BUNDLE

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
PROGRAM = BUILD / "rubricrm-run"
TEXT = '1. The response is short. [Hard Rule]\n- *Rhymes* "x" \u65e5\n2) The response scans. (principle)\n\x07bye\n'

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not PROGRAM.is_file(), reason=f"no rubricrm-run in {BUILD}: run `make native-release`"),
]


def run(*arguments: str | Path, text: str | None = None) -> tuple[int, str, str]:
    done = subprocess.run([PROGRAM, *arguments], input=text, capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments", [["parse"], ["parse", "--json"], ["parse", "-", "--starts-in-thought", "--json"]], ids=" ".join
)
def test_parse_prints_the_same(arguments: list[str]) -> None:
    expected = CliRunner().invoke(cli, arguments, input=TEXT)
    assert run(*arguments, text=TEXT) == (expected.exit_code, expected.stdout, "")


@pytest.mark.parametrize("options", [["--json"], ["--json", "--verify"]], ids=" ".join)
def test_inspect_prints_the_same(options: list[str]) -> None:
    expected = CliRunner().invoke(cli, ["inspect", str(DEMO_BUNDLE), *options])
    assert run("inspect", DEMO_BUNDLE, *options) == (0, expected.stdout, "")


def test_an_error_is_one_line_with_the_code_of_the_package(tmp_path: Path) -> None:
    expected = CliRunner().invoke(cli, ["inspect", str(tmp_path / "none")])
    code, out, error = run("inspect", tmp_path / "none")
    assert (code, out) == (expected.exit_code, "") == (2, "")
    assert error == expected.stderr


@pytest.mark.parametrize("name", ["none.txt", "."])
def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    expected = CliRunner().invoke(cli, ["parse", str(path)])
    code, out, error = run("parse", path)
    assert (code, out) == (expected.exit_code, "") == (2, "")
    assert error.removeprefix("Error: ") == expected.stderr.split("'[FILE]': ")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["parse", "--bogus"],
        ["generate", "--model"],
        ["generate", "--model", "x", "--top-k", "-1", "request"],
        ["generate", "--model", "x", "--max-new-tokens", "0", "request"],
        ["generate", "--model", "x", "--temperature", "hot", "request"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str]) -> None:
    code, out, error = run(*arguments)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("Error: ")


def test_help_is_there_for_each_command() -> None:
    for command in ("generate", "parse", "inspect"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert out.startswith(f"Usage: rubricrm-run {command} ")
