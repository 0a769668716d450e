"""The prompt's template of a model card.

Nothing of the checkpoint is executed: the card's Python block is parsed and its one assignment read as a literal.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from rubricrm.runtime.manifest import JUDGE_PAIRWISE, PROMPT_FIELDS, RUBRIC

from rubricrm_export.checkpoint.template_text import read_template_text, storable
from rubricrm_export.errors import PromptTemplateInvalid

CARD = "README.md"
# What model cards call the template of each prompt.
VARIABLES = {RUBRIC: "RUBRIC_PROMPT_TEMPLATE", JUDGE_PAIRWISE: "JUDGE_PROMPT_TEMPLATE"}

_CODE_BLOCK = re.compile(r"^```[ \t]*(?:python|py)[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
_FIELD = r"^{}:[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*(?:#.*)?$"
_ASSIGNMENT = r"^[ \t]*{}[ \t]*(?::[^=\n]*)?[-+*/%|&^@<>]*=(?!=)"


def read_prompt_template(checkpoint: Path, template_file: Path | None, name: str = RUBRIC) -> tuple[str, str]:
    """Return a prompt's template, with the placeholder of each of its fields once, and where it was found.

    Args:
        checkpoint: Its directory.
        template_file: Replaces the card; None: the card is read.
        name: Which prompt, a key of `PROMPT_FIELDS`, which has the placeholders too.

    Raises:
        PromptTemplateInvalid: None was found, several differ, it is no literal, or its fields are others.
    """
    if template_file is not None:
        return _checked_template(read_template_text(template_file), str(template_file), name), template_file.name
    card, variable = checkpoint / CARD, VARIABLES[name]
    remedy = f"Pass the template in a file: --prompt-template FILE, with {_placeholders(name)} where its values go."
    if not card.is_file():
        raise PromptTemplateInvalid(f"{checkpoint}: no {CARD}, where a model card assigns {variable}. {remedy}")
    text = read_template_text(card)
    found = list(dict.fromkeys(_assignments(text, card, variable)))
    if len(found) != 1:
        others = [other for other in VARIABLES if other != name and list(_assignments(text, card, VARIABLES[other]))]
        if not found and others:
            remedy = f"It assigns {VARIABLES[others[0]]}: pass --prompt {others[0]}."
        raise PromptTemplateInvalid(
            f"{card}: {len(found)} different assignments of {variable} in its Python blocks, expected 1. {remedy}"
        )
    return _checked_template(found[0], str(card), name), CARD


def template_sha256(template: str) -> str:
    """Return the hash by which a template is recognized."""
    return hashlib.sha256(template.encode()).hexdigest()


def read_card_field(checkpoint: Path, field: str) -> str | None:
    """Return a one-line field of the model card's front matter ("license", "model_name"), None if not declared."""
    card = checkpoint / CARD
    front = _FRONT_MATTER.match(read_template_text(card)) if card.is_file() else None
    match = re.search(_FIELD.format(field), front.group(1), re.MULTILINE) if front else None
    return match.group(1) or None if match else None


def _assignments(card: str, path: Path, variable: str) -> Iterator[str]:
    assignment = re.compile(_ASSIGNMENT.format(variable), re.MULTILINE)
    for block in _CODE_BLOCK.findall(card):
        # Other blocks are often sketches, and no Python.
        if not assignment.search(block):
            continue
        try:
            tree = ast.parse(block)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _unusable(path, f"the block that assigns {variable} is not valid Python ({error})") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.AugAssign) and _is_variable(node.target, variable):
                raise _unusable(path, f"{variable} is changed in place, not assigned a literal")
            if isinstance(node, ast.Assign) and any(_is_variable(target, variable) for target in node.targets):
                yield _literal(node.value, path, variable)
            if isinstance(node, ast.AnnAssign) and node.value and _is_variable(node.target, variable):
                yield _literal(node.value, path, variable)


def _is_variable(target: ast.expr, variable: str) -> bool:
    return isinstance(target, ast.Name) and target.id == variable


def _literal(value: ast.expr, path: Path, variable: str) -> str:
    try:
        template = _formatted(value) if isinstance(value, ast.JoinedStr) else ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _unusable(path, f"{variable} is assigned an expression, not a literal") from error
    if not isinstance(template, str):
        raise _unusable(path, f"{variable} is assigned a {type(template).__name__}, not a string")
    return template


def _formatted(value: ast.JoinedStr) -> str:
    """Return the template that an f-string is; judges' cards write theirs so.

    Without names its doubled braces have become single ones, as `str.format` then gets them. A name in braces is a
    field; then no `str.format` follows, and each other brace is text.

    Raises:
        ValueError: There is more in braces than a name.
    """
    has_names = any(isinstance(piece, ast.FormattedValue) for piece in value.values)
    template = ""
    for piece in value.values:
        if isinstance(piece, ast.Constant):
            text = str(piece.value)
            template += text.replace("{", "{{").replace("}", "}}") if has_names else text
        else:
            template += f"{{{_plain_name(piece)}}}"
    return template


def _plain_name(piece: ast.expr) -> str:
    is_plain = isinstance(piece, ast.FormattedValue) and piece.format_spec is None and piece.conversion == -1
    name = piece.value if isinstance(piece, ast.FormattedValue) and is_plain else None
    if isinstance(name, ast.Name):
        return name.id
    raise ValueError("more than a name in braces")


def _unusable(path: Path, finding: str) -> PromptTemplateInvalid:
    return PromptTemplateInvalid(f"{path}: {finding}. Pass the template in a file: --prompt-template FILE.")


def _placeholders(name: str) -> str:
    return ", ".join(PROMPT_FIELDS[name].values())


def _checked_template(template: str, where: str, name: str) -> str:
    """Return the template with `{{` and `}}` unescaped, as `str.format` would, and the placeholders kept."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise PromptTemplateInvalid(f"{where}: {error}. Write a literal brace twice.") from error
    fields = [field for _, field, _, _ in pieces if field is not None]
    expected = [placeholder[1:-1] for placeholder in PROMPT_FIELDS[name].values()]
    if sorted(fields) != sorted(expected) or any(spec or conversion for _, _, spec, conversion in pieces):
        raise PromptTemplateInvalid(
            f"{where}: the fields are {fields}, expected {_placeholders(name)} exactly once. Write a literal brace "
            "twice."
        )
    text = "".join(literal + (f"{{{field}}}" if field is not None else "") for literal, field, _, _ in pieces)
    for placeholder in PROMPT_FIELDS[name].values():
        if text.count(placeholder) != 1:
            raise PromptTemplateInvalid(
                f"{where}: the literal text {placeholder} stands in it too. Reword the template."
            )
    return storable(text, where)
