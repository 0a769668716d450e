"""The commit that results belong to: the last one that changed what is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Documents, tests and results may change in between: a run that was stopped goes on under the same commit.
MEASURED = ("CMakeLists.txt", "pyproject.toml", "export", "sdk", "benchmarks/systems")


def measured_commit(root: Path) -> str:
    """Return the first 12 digits of the last commit of a checkout that changed what is measured.

    Raises:
        SystemExit: It is no checkout, or has changes there that no commit holds.
    """
    if changes := _git(root, "status", "--porcelain", "--", *MEASURED):
        raise SystemExit(
            f"{root}: results are kept per commit, and these changes are in none. Commit or stash them.\n{changes}"
        )
    if not (commit := _git(root, "log", "-1", "--format=%H", "--", *MEASURED)):
        raise SystemExit(f"{root}: no commit has {', '.join(MEASURED)}. Run this in a checkout of the repository.")
    return commit[:12]


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{root}: results are kept per commit, and git says: {done.stderr.strip()}")
    return done.stdout.rstrip()
