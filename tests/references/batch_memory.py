"""Peak memory of staging and of an audit: `python tests/references/batch_memory.py DIR ROWS`. Linux."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from pyarrow import parquet

REQUEST = "Write a haiku about row {}. " + "It has to be about something that nobody has written about before. " * 4


def peak_mb() -> float:
    """Of this program alone: ru_maxrss also knows what the process was before."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def stage_rows(directory: Path) -> None:
    from rubricrm_batch.inputs import open_source
    from rubricrm_batch.staging import stage

    source = open_source(str(directory / "rows.jsonl"), request="request", split="train")
    stage(source, directory / "staged", request="request", id_column="name")


def audit_rows(directory: Path) -> None:
    from rubricrm_batch.audit import audit

    found = audit(directory / "staged", directory / "written", directory / "scratch")
    assert found.is_whole
    assert found.rows == int(sys.argv[2])


def write_answers(directory: Path) -> None:
    """Give every row an answer of 1,000 characters, 256 rows per file."""
    from rubricrm_batch.columns import written_schema
    from rubricrm_batch.worker import answered_table
    from scripted_model import result

    (directory / "written").mkdir()
    for number, path in enumerate(sorted((directory / "staged").glob("*.parquet"))):
        table = parquet.read_table(path)
        schema = written_schema(table.schema)
        for start in range(0, len(table), 256):
            rows = table.slice(start, 256)
            answers = {row: result("x" * 1000) for row in rows["id"].to_pylist()}
            name = f"{number}-{start}.parquet"
            parquet.write_table(answered_table(rows, answers, schema), directory / "written" / name)


def main() -> None:
    directory, num_rows = Path(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        import rubricrm_batch.audit
        import rubricrm_batch.inputs  # noqa: F401 (what imports take is not measured)

        before, started = peak_mb(), time.monotonic()
        {"stage": stage_rows, "audit": audit_rows}[sys.argv[3]](directory)
        facts = {"what": sys.argv[3], "rows": num_rows, "seconds": round(time.monotonic() - started, 1)}
        print(json.dumps({**facts, "peak_mb": round(peak_mb()), "imports_mb": round(before)}))
        return
    directory.mkdir(parents=True)
    with (directory / "rows.jsonl").open("w") as file:
        for number in range(num_rows):
            file.write(json.dumps({"name": f"row-{number:09}", "request": REQUEST.format(number)}) + "\n")
    again = [sys.executable, __file__, str(directory), str(num_rows)]
    subprocess.run([*again, "stage"], check=True)
    write_answers(directory)
    subprocess.run([*again, "audit"], check=True)


if __name__ == "__main__":
    main()
