"""The Unicode tables of librubricrm are what the installed library `tokenizers` knows."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "sdk" / "cpp" / "text" / "make_tables.py"


def test_the_tables_are_those_of_the_installed_library() -> None:
    subprocess.run([sys.executable, str(SCRIPT), "--check"], check=True)
