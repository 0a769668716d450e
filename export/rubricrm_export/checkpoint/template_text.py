"""Texts of templates: read as UTF-8, and known to be storable as UTF-8."""

from __future__ import annotations

from pathlib import Path

from rubricrm_export.errors import PromptTemplateInvalid


def read_template_text(path: Path) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        PromptTemplateInvalid: It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")  # an editor's byte order mark is no part of a prompt
    except (OSError, UnicodeDecodeError) as error:
        raise PromptTemplateInvalid(f"{path}: cannot be read as UTF-8 text ({error}). Check the file.") from error


def storable(text: str, where: str) -> str:
    """Return the text itself, once it is known that UTF-8 can hold it: an escape in a literal may name a surrogate.

    Raises:
        PromptTemplateInvalid: It holds a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = f"U+{ord(text[error.start]):04X}"
        raise PromptTemplateInvalid(f"{where}: holds the lone surrogate {surrogate}. Remove it.") from None
    return text
