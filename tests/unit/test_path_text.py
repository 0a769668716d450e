"""Paths as text, whatever their bytes and the locale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rubricrm.runtime.path_text import printable_path, utf8_path


@pytest.mark.parametrize(
    ("raw", "utf8", "printable"),
    [
        (b"/a", "/a", "/a"),
        ("/größe".encode(), "/größe", "/größe"),
        (b"/bad\xff\xfe", None, "/bad\\xff\\xfe"),
    ],
)
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=["", "C"])
def test_a_path(raw: bytes, utf8: str | None, printable: str, locale: dict[str, str]) -> None:
    path = Path(os.fsdecode(raw))
    assert (utf8_path(path), printable_path(path)) == (utf8, printable)
    script = (
        "import os, sys; from rubricrm.runtime.path_text import printable_path, utf8_path\n"
        f"path = os.fsdecode({raw!r})\nassert ascii((utf8_path(path), printable_path(path))) == sys.argv[1]"
    )
    subprocess.run([sys.executable, "-c", script, ascii((utf8, printable))], env=os.environ | locale, check=True)
