"""Which ids end a completion, by generation config, config, tokenizer and chat template."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.checkpoint.chat_template import ChatTemplate
from rubricrm_export.checkpoint.files import TOKENIZER, TOKENIZER_CONFIG, read_json_object, read_tokenizer_config
from rubricrm_export.errors import CheckpointInvalid

logger = logging.getLogger(__name__)

# Conversations, by their roles' initials, whose last answer shows what ends a turn: alone first, because some
# templates end the last turn with another token than earlier ones, then with the user's next turn after it, because
# some models end a turn with the token that begins the next.
_CONVERSATIONS = ("ua", "sua", "uau", "suau")


def read_stop_ids(
    path: Path,
    config: Mapping[str, object],
    generation_config: Mapping[str, object] | None,
    tokenizer: Tokenizer,
    template: ChatTemplate,
) -> tuple[int, ...]:
    """Return the stop ids, sorted.

    A fine-tune often rewrites one of the four places and leaves the others; an id that any of them names ends the
    text, since none of them is ever part of a rubric.

    Raises:
        CheckpointInvalid: None is named, or one is no id of the tokenizer.
    """
    found: set[int] = set()
    for source, value in (
        ("generation_config.json", (generation_config or {}).get("eos_token_id")),
        ("config.json", config.get("eos_token_id")),
    ):
        found |= _ids(value, f"{path / source}", tokenizer)
    token = _eos_token(path)
    if token in tokenizer.added_tokens:
        found.add(tokenizer.added_tokens[token])
    end = turn_end(template, tokenizer.added_tokens, tokenizer.special_ids)
    if end is not None:
        found.add(tokenizer.added_tokens[end])
    if not found:
        raise CheckpointInvalid(
            f"{path}: no end token: neither eos_token_id in generation_config.json or config.json, nor eos_token in "
            f"{TOKENIZER_CONFIG}, nor a token after the assistant's message in the chat template. Without one a "
            "generation never ends: add it."
        )
    return tuple(sorted(found))


def turn_end(template: ChatTemplate, added_tokens: Mapping[str, int], special_ids: Collection[int]) -> str | None:
    """Return the added token that ends the assistant's turn in a chat template; None if text or nothing ends it.

    Of several tokens in a row it is the first that is marked special: a model may write others as part of an answer.
    Where text ends the turn, a warning says so: a model then ends by the ids of the configurations alone.
    """
    tails = [tail for roles in _CONVERSATIONS if (tail := template.after_answer(roles)) is not None]
    for tail in tails:
        tokens, _ = _leading_tokens(tail, added_tokens)
        if tokens:
            return next((token for token in tokens if added_tokens[token] in special_ids), tokens[0])
    text = _leading_tokens(tails[0], added_tokens)[1] if tails else ""
    if text:
        logger.warning(
            "%s: the assistant's turn ends with the text %r, which is no token of the tokenizer; only the end tokens "
            "that the configurations name end a generation",
            template.where,
            text[:40],
        )
    return None


def read_turn_end(directory: Path) -> tuple[str, int] | None:
    """Return the token that ends the assistant's turn, and its id, for any directory with a tokenizer and a template.

    The tokenizer may be of any kind, unlike in a bundle.

    Raises:
        PromptTemplateInvalid: There is no chat template, or it is no jinja.
        CheckpointInvalid: tokenizer.json or tokenizer_config.json is damaged.
    """
    listed = read_json_object(directory / TOKENIZER).get("added_tokens")
    tokens = [token for token in listed if isinstance(token, dict)] if isinstance(listed, list) else []
    ids = {token["content"]: token["id"] for token in tokens if token.get("content") and type(token.get("id")) is int}
    special = {token["id"] for token in tokens if token.get("special") and type(token.get("id")) is int}
    end = turn_end(ChatTemplate.read(directory), ids, special)
    return None if end is None else (end, ids[end])


def _leading_tokens(text: str, added_tokens: Collection[str]) -> tuple[list[str], str]:
    """Return the added tokens that a text begins with, white space between them, and the text after them."""
    longest_first = sorted(added_tokens, key=len, reverse=True)
    token = re.compile(r"\s*(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
    found, position = [], 0
    while token and (match := token.match(text, position)):
        found.append(match[1])
        position = match.end()
    return found, text[position:].strip()


def _ids(value: object, where: str, tokenizer: Tokenizer) -> set[int]:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token_id in ids:
        if type(token_id) is not int or not 0 <= token_id < tokenizer.num_tokens:
            raise CheckpointInvalid(
                f'{where}: "eos_token_id" holds {token_id!r}, expected an id below {tokenizer.num_tokens}, the '
                "tokenizer's size. Config and tokenizer are of different models."
            )
    return set(ids)


def _eos_token(checkpoint: Path) -> str:
    value = read_tokenizer_config(checkpoint).get("eos_token")
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""
