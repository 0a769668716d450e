"""The rubric template of a model card.

Nothing of the checkpoint is executed: the card's Python block is parsed and its one assignment read as a literal.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from rubricrm.runtime.manifest import REQUEST_FIELD

from rubricrm_export.checkpoint.template_text import read_template_text, storable
from rubricrm_export.errors import PromptTemplateInvalid

CARD = "README.md"
VARIABLE = "RUBRIC_PROMPT_TEMPLATE"

_CODE_BLOCK = re.compile(r"^```[ \t]*(?:python|py)[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
_FIELD = r"^{}:[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*(?:#.*)?$"
_ASSIGNMENT = re.compile(rf"^[ \t]*{VARIABLE}[ \t]*(?::[^=\n]*)?[-+*/%|&^@<>]*=(?!=)", re.MULTILINE)


def read_prompt_template(checkpoint: Path, template_file: Path | None) -> tuple[str, str]:
    """Return the rubric template, with `{prompt}` once, and where it was found.

    Raises:
        PromptTemplateInvalid: None was found, several differ, it is no literal, or has no single field `prompt`.
    """
    if template_file is not None:
        return _checked_template(read_template_text(template_file), str(template_file)), template_file.name
    card = checkpoint / CARD
    if not card.is_file():
        raise PromptTemplateInvalid(
            f"{checkpoint}: no {CARD}, where a model card assigns {VARIABLE}. "
            f"Pass the template in a file: --prompt-template FILE, with {REQUEST_FIELD} where the request goes."
        )
    found = list(dict.fromkeys(_assignments(read_template_text(card), card)))
    if len(found) != 1:
        raise PromptTemplateInvalid(
            f"{card}: {len(found)} different assignments of {VARIABLE} in its Python blocks, expected 1. "
            f"Pass the template in a file: --prompt-template FILE, with {REQUEST_FIELD} where the request goes."
        )
    return _checked_template(found[0], str(card)), CARD


def template_sha256(template: str) -> str:
    """Return the hash by which a template is recognized."""
    return hashlib.sha256(template.encode()).hexdigest()


def read_card_field(checkpoint: Path, field: str) -> str | None:
    """Return a one-line field of the model card's front matter ("license", "model_name"), None if not declared."""
    card = checkpoint / CARD
    front = _FRONT_MATTER.match(read_template_text(card)) if card.is_file() else None
    match = re.search(_FIELD.format(field), front.group(1), re.MULTILINE) if front else None
    return match.group(1) or None if match else None


def _assignments(card: str, path: Path) -> Iterator[str]:
    for block in _CODE_BLOCK.findall(card):
        # Other blocks are often sketches, and no Python.
        if not _ASSIGNMENT.search(block):
            continue
        try:
            tree = ast.parse(block)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _unusable(path, f"the block that assigns {VARIABLE} is not valid Python ({error})") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.AugAssign) and _is_variable(node.target):
                raise _unusable(path, f"{VARIABLE} is changed in place, not assigned a literal")
            if isinstance(node, ast.Assign) and any(map(_is_variable, node.targets)):
                yield _literal(node.value, path)
            if isinstance(node, ast.AnnAssign) and node.value and _is_variable(node.target):
                yield _literal(node.value, path)


def _is_variable(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == VARIABLE


def _literal(value: ast.expr, path: Path) -> str:
    try:
        template = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _unusable(path, f"{VARIABLE} is assigned an expression, not a literal") from error
    if not isinstance(template, str):
        raise _unusable(path, f"{VARIABLE} is assigned a {type(template).__name__}, not a string")
    return template


def _unusable(path: Path, finding: str) -> PromptTemplateInvalid:
    return PromptTemplateInvalid(f"{path}: {finding}. Pass the template in a file: --prompt-template FILE.")


def _checked_template(template: str, where: str) -> str:
    """Return the template with `{{` and `}}` unescaped, as `str.format` would, and `{prompt}` kept."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise PromptTemplateInvalid(f"{where}: {error}. Write a literal brace twice.") from error
    fields = [name for _, name, _, _ in pieces if name is not None]
    if fields != ["prompt"] or any(spec or conversion for _, _, spec, conversion in pieces):
        raise PromptTemplateInvalid(
            f"{where}: the fields are {fields}, expected {REQUEST_FIELD} exactly once. Write a literal brace twice."
        )
    text = "".join(literal + (REQUEST_FIELD if name is not None else "") for literal, name, _, _ in pieces)
    if text.count(REQUEST_FIELD) != 1:
        raise PromptTemplateInvalid(f"{where}: the literal text {REQUEST_FIELD} stands in it too. Reword the template.")
    return storable(text, where)
