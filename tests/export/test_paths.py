"""Exports from and to directories whose names are not ASCII, or no UTF-8, in any locale."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MakeCheckpoint = Callable[..., Path]

LOCALES = {"": {}, "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}}
NAMES = {"not-ascii": "größe \u4e2d".encode(), "no-utf8": b"gr\xc3\xb6\xff"}


def command(*words: str | Path | bytes, locale: str) -> subprocess.CompletedProcess[bytes]:
    script = "from rubricrm.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *map(os.fsencode, words)],
        env=os.environ | LOCALES[locale],
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("--weights", "int4")], ids=["float", "int4"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("locale", LOCALES)
def test_any_name(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, locale: str, name: bytes, options: tuple[str, ...]
) -> None:
    folder = os.fsencode(tmp_path)
    source, output, text = (folder + b"/" + part + name for part in (b"in-", b"out-", b"text-"))
    make_checkpoint().rename(os.fsdecode(source))
    Path(os.fsdecode(text)).write_text("The response is short and rhymes. " * 60)
    if options:
        options = (*options, "--method", "gptq", "--symmetric", "--calibration", os.fsdecode(text))
        # What is lost of random weights is no matter here; the text's name is.
        options = (*options, "--max-kl", "none", "--no-rubrics", "--eval-text", os.fsdecode(text))
    done = command("export", "onnx", source, "-o", output, *options, locale=locale)
    assert done.returncode == 0, done.stderr
    written = json.loads((Path(os.fsdecode(output)) / "rubricrm.json").read_text("utf-8"))
    assert written["model"]["name"] == (b"in-" + name).decode("utf-8", errors="backslashreplace")
    done = command("generate", "-m", output, "--max-new-tokens", "4", "--verify", "Hi", locale=locale)
    assert done.returncode in (0, 3), done.stderr  # what random weights write ends by its length
    assert b"OUTPUT" not in done.stderr


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("words", [("inspect",), ("export", "onnx", "-o", "x"), ("generate", "Hi", "-m")], ids=" ".join)
def test_a_name_that_is_not_there_is_said_in_one_line(locale: str, words: tuple[str, ...]) -> None:
    done = command(*words, b"/nowhere/gr\xc3\xb6\xff", locale=locale)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"Error: ")
    assert len(done.stderr.splitlines()) <= 2
    assert b"Traceback" not in done.stderr
