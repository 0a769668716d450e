"""Batches that are killed at random moments and resumed: `python tests/references/killed_batches.py BUNDLE DIR`.

Each run is a job of its own. Its process gets SIGKILL at a random moment of the time that an undisturbed run takes, and
the same command is given again. At the end the output is read without this project's code: every id of the input must
be there once. Prints a line of JSON per run, and exits with 1 if one was not whole.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pyarrow import parquet

THINGS = ("rain", "a lighthouse", "the tax form", "two cats", "an old map", "bread", "the night train", "a lost glove")


def write_input(path: Path, num_rows: int) -> None:
    rows = (
        {"name": f"r{number}", "request": f"Write a haiku about {THINGS[number % 8]}, number {number}."}
        for number in range(num_rows)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def command(rows: Path, output: Path, bundle: Path, max_new_tokens: int) -> list[str]:
    given = ("--id", "name", "--max-new-tokens", max_new_tokens, "--json")
    return [
        sys.executable,
        "-m",
        "rubricrm",
        "batch",
        str(rows),
        "-o",
        str(output),
        "-m",
        str(bundle),
        *map(str, given),
    ]


def whole(todo: list[str]) -> dict[str, Any]:
    done = subprocess.run(todo, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)  # and nothing else is there, whatever Ray prints
    return report


def rows_that_were_kept(output: Path) -> int:
    """Rows in committed blocks at this moment, as the next run will see them."""
    names = output.glob("attempt-1/run-*/checkpoint/*.parquet")
    return sum(parquet.read_metadata(path).num_rows for path in names if not path.name.endswith(".pending.parquet"))


def killed(todo: list[str], output: Path, after_s: float) -> dict[str, Any] | None:
    """Start a job, kill it, and give the same command again; None where it ended before."""
    process = subprocess.Popen(todo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    process.kill()
    if process.wait() >= 0:
        shutil.rmtree(output)
        return None
    kept = rows_that_were_kept(output)
    report = whole(todo)
    ids = Counter(parquet.read_table(output / "rubrics", columns=["name"])["name"].to_pylist())
    return {
        "killed_after_s": round(after_s, 1),
        "rows_kept": kept,
        "ids": len(ids),
        "most_of_one_id": max(ids.values()),
        "failed": report["failed"],
        "seconds_of_resume": report["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    rows = given.directory / "rows.jsonl"
    write_input(rows, given.rows)
    chosen = random.Random(given.seed)
    started = time.monotonic()
    whole(command(rows, given.directory / "undisturbed", given.bundle, given.max_new_tokens))
    undisturbed_s = time.monotonic() - started
    print(json.dumps({"undisturbed_s": round(undisturbed_s, 1), "rows": given.rows}), flush=True)
    faulty = 0
    for number in range(given.runs):
        output = given.directory / f"run-{number}"
        todo = command(rows, output, given.bundle, given.max_new_tokens)
        while (found := killed(todo, output, chosen.uniform(1, undisturbed_s))) is None:
            pass
        faulty += found["ids"] != given.rows or found["most_of_one_id"] != 1 or found["failed"] != 0
        print(json.dumps({"run": number, **found}), flush=True)
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
