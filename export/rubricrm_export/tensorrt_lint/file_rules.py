"""Rules of the linter for every directory, whatever form its weights are in; see `findings` for what a rule is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from rubricrm.errors import RubricrmError
from tokenizers import Tokenizer

from rubricrm_export.checkpoint.files import CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_json_object
from rubricrm_export.checkpoint.stop_ids import read_turn_end
from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.tensorrt.tokenizer_config import MAY_PIN_TRANSFORMERS_4, PINS_TRANSFORMERS_4, unloadable_keys
from rubricrm_export.tensorrt.weight_file import StoredTensor
from rubricrm_export.tensorrt_lint.findings import EXPORT, Finding, Inspected, Rule, damaged_file

# What a tokenizer can lie in beside tokenizer.json; transformers and vLLM convert these.
_OTHER_TOKENIZERS = (("tokenizer.model",), ("tekken.json",), ("vocab.json", "merges.txt"))
# Names of scales in every form: weight_scale, weight_scale_inv, k_scale, scales, absmax, weights_scaling_factor.
_SCALE = re.compile(r"(scale|scales|scale_inv|scale_\d|absmax|scaling_factor)$")


def damaged_files(found: Inspected) -> Iterator[Finding]:
    """Headers that do not fit their files, and JSON that is none."""
    yield from found.damaged


def judged_form(found: Inspected) -> Iterator[Finding]:
    """Say what the other rules did not look at."""
    if found.unknown_form is not None:
        yield Finding(
            "not-judged",
            f"{found.path / CONFIG}",
            f"the weights are {found.unknown_form}: not judged.",
            f"Whether --for {found.reader} loads them, its own documents say.",
            "Files, tokenizer, stop ids and scales were looked at all the same.",
            is_error=False,
        )
        if found.hf_quant_config is not None and "ModelOpt's form" in found.unknown_form:
            yield Finding(
                "configs-differ",
                f"{found.path / 'hf_quant_config.json'}",
                "is ModelOpt's file, and config.json names another form.",
                "Readers that look into the one or the other load different models.",
                "Remove the one that is not true.",
            )


def whole_index(found: Inspected) -> Iterator[Finding]:
    """An index and its shards: every shard there, every tensor in its shard."""
    for index in sorted(found.path.glob("*.safetensors.index.json")):
        try:
            weight_map = read_json_object(index).get("weight_map")
        except CheckpointInvalid as error:
            yield damaged_file(index, error)
            continue
        if not isinstance(weight_map, dict):
            yield damaged_file(index, CheckpointInvalid('has no object "weight_map".'))
            continue
        damaged = {finding.where for finding in found.damaged}
        for name, shard in weight_map.items():
            stored = found.tensors.get(name)
            file = found.path / str(shard)
            if f"{file}" in damaged or (stored is not None and stored.file == file):
                continue
            said = f'says that "{name}" is in {shard}, ' + (
                "where it is not." if file.is_file() else "which is missing."
            )
            yield Finding("missing-shard", f"{index}", said, "The reader stops.", "Download or export it whole.")
            break


def tokenizer_files(found: Inspected) -> Iterator[Finding]:
    """Servers need the tokenizer beside the weights, whole."""
    if found.is_legacy:
        return
    if not (found.path / TOKENIZER).is_file():
        others = [names for names in _OTHER_TOKENIZERS if all((found.path / name).is_file() for name in names)]
        if not others:
            yield Finding(
                "tokenizer",
                f"{found.path}",
                f"has no {TOKENIZER}.",
                "The server does not start.",
                "Copy the tokenizer's files of the checkpoint into the directory.",
            )
        return
    if isinstance(found.tokenizer, str):
        yield Finding(
            "tokenizer",
            f"{found.path / TOKENIZER}",
            f"cannot be loaded ({found.tokenizer}).",
            "The server does not start.",
            "Download it again.",
        )


def tokenizer_class(found: Inspected) -> Iterator[Finding]:
    """TensorRT-LLM issue 12321: a tokenizer that transformers 5 saved, and a reader that has transformers 4."""
    if found.reader not in MAY_PIN_TRANSFORMERS_4:
        return
    is_pinned = found.reader in PINS_TRANSFORMERS_4
    version = "has transformers 4.57" if is_pinned else "may have transformers 4.57"
    for key, remedy in unloadable_keys(found.tokenizer_config).items():
        yield Finding(
            "tokenizer-class",
            f"{found.path / TOKENIZER_CONFIG}",
            f'"{key}" is {_shown(found.tokenizer_config[key])}, as transformers 5 writes it.',
            f"--for {found.reader} {version}, which stops there.",
            remedy,
            is_error=is_pinned,
        )


def _shown(value: object) -> str:
    return "a list" if isinstance(value, list) else f'"{value}"'


def stop_ids(found: Inspected) -> Iterator[Finding]:
    """LlamaFactory issue 7454: fine-tunes whose configurations name another token than their chat template writes."""
    tokenizer = found.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        return
    where = f"{found.path / GENERATION_CONFIG}"
    named = _named_stop_ids(found, tokenizer)
    if not named:
        yield Finding(
            "no-stop-id",
            where,
            'neither it nor config.json has "eos_token_id", and tokenizer_config.json no "eos_token".',
            "Answers go on until their tokens are used up.",
            'Set "eos_token_id" to the ids that end an answer.',
        )
    token, token_id = _turn_end(found) or (None, None)
    if named and token_id is not None and token_id not in named:
        yield Finding(
            "stop-id",
            where,
            f'the chat template ends a turn with "{token}" ({token_id}), the stop ids are {sorted(named)}.',
            "Answers go on after their end, until their tokens are used up.",
            f'Add {token_id} to "eos_token_id", there and in config.json.',
            is_error=False,
        )


def _named_stop_ids(found: Inspected, tokenizer: Tokenizer) -> set[int]:
    """Return the ids that any of the three files names: readers take one, or all of them."""
    ids: set[int] = set()
    for source in (found.generation_config, found.config):
        value = source.get("eos_token_id")
        ids |= {number for number in (value if isinstance(value, list) else [value]) if type(number) is int}
    token = found.tokenizer_config.get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    token_id = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return ids if token_id is None else ids | {token_id}


def _turn_end(found: Inspected) -> tuple[str, int] | None:
    """Return the token that the chat template writes after an answer; None: there is no template that does."""
    try:
        return read_turn_end(found.path)
    except RubricrmError:
        return None


def finite_numbers(found: Inspected) -> Iterator[Finding]:
    """NaN and infinity: of a cast that does not saturate, of a scale that was divided by zero, of a damaged file."""
    reported: set[str] = set()
    for name, stored in found.tensors.items():
        rule = _kind(name, stored)
        if rule in reported or rule is None or _is_finite(stored):
            continue
        reported.add(rule)
        message, reason = _WORDS[rule]
        yield Finding(rule, name, message, reason, f"The checkpoint is damaged. {EXPORT}")


_WORDS = {
    "fp8-nan": ("holds NaN.", "A cast turned numbers beyond 448 into it; every answer is no text."),
    "scale-positive": ("holds a scale that is not finite.", "Everything after that layer is no number."),
    "not-finite": ("holds NaN or infinity.", "Everything after it is no number."),
}
# Bits that are all set in NaN, in types that have it also in infinity, and in no other number.
_NOT_FINITE: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F8_E4M3": (np.uint8, 0x7F),
    "F8_E5M2": (np.uint8, 0x7C),
    "F8_E8M0": (np.uint8, 0xFF),
}
_AT_ONCE = 4 << 20


def _kind(name: str, stored: StoredTensor) -> str | None:
    """Return the rule that a tensor with such numbers breaks; None: it holds whole numbers."""
    if stored.dtype not in _NOT_FINITE:
        return None
    if _SCALE.search(name):
        return "scale-positive"
    return "fp8-nan" if stored.dtype == "F8_E4M3" else "not-finite"


def _is_finite(stored: StoredTensor) -> bool:
    unsigned, mask = _NOT_FINITE[stored.dtype]
    codes, bits = stored.array().reshape(-1).view(unsigned), unsigned(mask)
    return not any((codes[at : at + _AT_ONCE] & bits == bits).any() for at in range(0, len(codes), _AT_ONCE))


FILE_RULES: tuple[Rule, ...] = (
    damaged_files,
    judged_form,
    whole_index,
    tokenizer_files,
    tokenizer_class,
    stop_ids,
    finite_numbers,
)
