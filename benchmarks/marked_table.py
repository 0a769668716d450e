"""Tables that scripts write into documents, between two marks, and results that are replaced whole."""

from __future__ import annotations

from pathlib import Path


def insert(document: Path, name: str, text: str) -> None:
    """Replace what lies between the marks of a table in a document."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = document.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{document}: has no {begin} before {end}; the table is written between them.")
    write(document, f"{before}{begin}\n{text}\n{end}{after}")


def write(path: Path, text: str) -> None:
    """Write to a temporary sibling, then rename."""
    writing = path.with_name(f".{path.name}.writing")
    writing.write_text(text, "utf-8")
    writing.replace(path)
