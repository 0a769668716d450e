"""`rubricrm prompt`: the prompt directory of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rubricrm.runtime.byte_size import byte_text


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Directory to write.")
@click.option("--force", is_flag=True, help="Replace an older bundle or prompt directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def prompt(bundle: Path, output: Path, force: bool, as_json: bool) -> None:
    """Write the prompt directory of BUNDLE: all that a client needs to use the model on a server.

    It holds manifest, tokenizer and grammar, and no weights. `rubricrm export tensorrt` writes one into its directory.
    """
    from rubricrm.runtime.bundle import Bundle
    from rubricrm.runtime.prompt_directory import write_prompt_directory

    made = write_prompt_directory(Bundle.open(bundle), output, force=force)
    if as_json:
        facts = {"prompt": str(made.path), "num_bytes": made.num_bytes, "manifest_sha256": made.manifest_sha256}
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        click.echo(f"{made.path}: prompt of {made.manifest.model.name}, {byte_text(made.num_bytes)}")
