"""Tables that scripts write into documents, between two marks."""

from __future__ import annotations

from pathlib import Path

from rubricrm.runtime.whole_file import write_whole


def insert(document: Path, name: str, text: str) -> None:
    """Replace what lies between the marks of a table in a document."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = document.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{document}: has no {begin} before {end}; the table is written between them.")
    write_whole(document, f"{before}{begin}\n{text}\n{end}{after}")
