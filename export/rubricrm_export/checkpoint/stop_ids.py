"""Which ids end a completion: the union of what generation config, config and tokenizer say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.checkpoint.files import TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.errors import CheckpointInvalid


def read_stop_ids(
    path: Path, config: Mapping[str, object], generation_config: Mapping[str, object] | None, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """Return the stop ids, sorted.

    A fine-tune often rewrites one of the three places and leaves the others; an id that any of them names ends the
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
    if not found:
        raise CheckpointInvalid(
            f"{path}: no end token: neither eos_token_id in generation_config.json or config.json, nor eos_token in "
            f"{TOKENIZER_CONFIG}. Without one a generation never ends: add it."
        )
    return tuple(sorted(found))


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
