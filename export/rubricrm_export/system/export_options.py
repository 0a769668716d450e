"""The options that every `rubricrm export` has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rubricrm.runtime.manifest import PROMPT_FIELDS, RUBRIC

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option(
        "--prompt",
        type=click.Choice(tuple(PROMPT_FIELDS)),
        default=RUBRIC,
        show_default=True,
        help="What the model is for: judge-pairwise for a judge.",
    ),
    click.option("--temperature", type=float, metavar="T", help="What a judge samples with.  [default: 0.7]"),
    click.option("--resume", is_flag=True, help="Continue an interrupted export."),
    click.option(
        "--prompt-template", type=click.Path(path_type=Path), help="Text file with the prompt's placeholders in it."
    ),
    click.option("--chat-template", type=click.Path(path_type=Path), help="Jinja file."),
    click.option("--revision", help="Branch, tag or commit, if CHECKPOINT is on the hub."),
    click.option("--force", is_flag=True, help="Replace what an older export wrote."),
    click.option("--dry-run", is_flag=True, help="Check everything, write nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)


def export_options(command: _Command) -> _Command:
    """Add them, in the order of the help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
