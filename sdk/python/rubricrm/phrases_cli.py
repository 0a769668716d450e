"""`rubricrm phrases`: what a saved table of phrases holds, and its removal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rubricrm.errors import OptionInvalid, WriteFailed
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.cache_directory import cache_reason

if TYPE_CHECKING:
    from rubricrm.runtime.bundle import Bundle


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--table", type=click.Path(path_type=Path), help="File of the table.  [default: BUNDLE's, in the cache]")
@click.option("--most", type=click.IntRange(0), default=20, metavar="N", help="Phrases to show.  [default: 20]")
@click.option("--clear", is_flag=True, help="Remove the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def phrases(bundle: Path, table: Path | None, most: int, clear: bool, as_json: bool) -> None:
    """Show the phrases from which rubrics of BUNDLE are drafted, or remove them.

    Phrases are saved only on request: they are parts of what the model wrote.
    """
    from rubricrm.generation.phrase_table import saved_table
    from rubricrm.runtime.bundle import Bundle

    opened = Bundle.open(bundle)
    path = table or saved_table(opened.manifest_sha256)
    facts = _clear(path, is_given=table is not None) if clear else _facts(opened, path, most)
    click.echo(json.dumps(facts, ensure_ascii=False, indent=2) if as_json else _text(facts))


def _facts(bundle: Bundle, path: Path, most: int) -> dict[str, Any]:
    from rubricrm.generation.item_number import ItemNumbers
    from rubricrm.generation.phrase_table import PhraseTable
    from rubricrm.runtime.tokenizer import Tokenizer

    file = bundle.manifest.tokenizer.file
    tokenizer = Tokenizer.from_file(bundle.file(file))
    found = PhraseTable.load(path, ItemNumbers(tokenizer), bundle.manifest.files[file].sha256)
    return {
        "table": str(path),
        "exists": path.exists(),
        "entries": len(found.entries),
        "memory_bytes": found.num_bytes,
        "phrases": [{"text": phrase.text(tokenizer.decode), "hits": phrase.hits} for phrase in found.phrases(most)],
    }


def _clear(path: Path, *, is_given: bool) -> dict[str, Any]:
    """Remove a table; a damaged one too if it lies where this bundle's belongs."""
    from rubricrm.generation.phrase_table import is_table

    exists = path.exists()
    if is_given and exists and not is_table(path):
        raise OptionInvalid(f"--table: {path} is not a table of phrases, expected one. It was left as it is.")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteFailed(f"{path}: the phrases cannot be removed ({cache_reason(error)}).") from error
    return {"table": str(path), "cleared": exists}


def _text(facts: dict[str, Any]) -> str:
    if "cleared" in facts:
        return f"{facts['table']}: {'removed' if facts['cleared'] else 'there was none'}"
    if not facts["exists"]:
        return f"{facts['table']}: no phrases are saved"
    lines = [f"{facts['table']}: {facts['entries']} entries, {byte_text(facts['memory_bytes'])} of memory"]
    lines += [f"{phrase['hits']:4} {phrase['text']!r}" for phrase in facts["phrases"]]
    return "\n".join(lines)
