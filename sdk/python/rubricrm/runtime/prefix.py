"""The keys and values of the tokens that begin every prompt: computed once, restored for each request."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.errors import BundleInvalid, OutputInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.cache_directory import cache_reason, own_directory, warn_without_cache
from rubricrm.runtime.kv_cache import STORAGE_TYPES, count_not_finite
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.session import Session
from rubricrm.runtime.whole_file import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_TENSOR = "positions"
# Storage types as safetensors names them.
_NAMES = {"float32": "F32", "float16": "F16", "uint16": "U16", "int8": "I8", "uint8": "U8"}


@dataclass(frozen=True)
class Prefix:
    """Token ids and their keys and values.

    `positions` is [layers, 2, 1, kv_heads, len(token_ids), head_dim] in the cache's storage type (`STORAGE_TYPES`).
    """

    token_ids: tuple[int, ...]
    positions: NDArray[Any]

    def save(self, path: Path) -> None:
        """Write to a temporary sibling, then rename: a reader sees all of it or none."""
        from safetensors.numpy import save

        metadata = {"token_ids": _joined(self.token_ids), "sha256": _digest(self.positions)}
        contents = _with_sorted_metadata(save({_TENSOR: self.positions}, metadata))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, contents)


def prefix_file(prompt: str, kv_type: str) -> str:
    """Return the name of the file that holds a prompt's prefix in one type of KV cache."""
    return f"prefix.{prompt}.{kv_type}.safetensors"


def compute_prefix(session: Session, token_ids: list[int]) -> Prefix:
    """Run the tokens through the model (as long as one prefill of them).

    Raises:
        OutputInvalid: A key, a value or a logit is NaN or infinite.
    """
    slot = session.new_slot(len(token_ids))
    for start in range(0, len(token_ids), session.max_rows):
        part = token_ids[start : start + session.max_rows]
        # A cache of integers cannot hold NaN, only rounded rubbish: there the logits of every token are looked at.
        session.run(slot, part, len(part) if session.facts.kv_type == "int8" else 1)
    prefix = Prefix(tuple(token_ids), slot.cache.positions(len(token_ids)))
    if count := count_not_finite(prefix.positions):
        raise OutputInvalid(
            f"the prefix: {count} of {prefix.positions.size} keys and values are not finite, expected numbers. The "
            f"model's weights hold NaN or infinity, or exceed the range of {session.facts.kv_type}. Export it again "
            "with another type of the KV cache, or from sound weights."
        )
    return prefix


def kept_prefix(bundle: Bundle, session: Session, prompt: str = RUBRIC) -> Prefix | None:
    """Return a prompt's prefix that the bundle brings, else the one in this machine's cache; None: there is neither.

    The file is mapped, not copied. Checking it takes 65 ms for a 4B model, nearly all without Python's lock: it can be
    done beside other work. A cached file that cannot be read or does not fit costs a warning.

    Raises:
        BundleInvalid: The bundle's own file does not fit its model.
    """
    kv_type = session.facts.kv_type
    facts = bundle.manifest.prompt_of(prompt).prefix
    name = facts.files.get(kv_type)
    if name is not None:
        return _load(bundle.file(name), bundle, kv_type)
    if facts.num_tokens == 0:
        return None
    try:
        path = _cached_file(bundle, session, prompt)
    except OSError as error:
        warn_without_cache(error)
        return None
    try:
        return _load(path, bundle, kv_type, has_digest=True) if path.exists() else None
    except (BundleInvalid, OSError) as error:
        logger.warning("computing the prefix again: %s", error)
        return None


def open_prefix(
    bundle: Bundle, session: Session, token_ids: list[int], kept: Prefix | None, prompt: str = RUBRIC
) -> Prefix:
    """Return the prefix of these tokens: the kept one if it is theirs, else computed and kept in this machine's cache.

    Where there is no cache directory, or none that is this user's alone, it is computed at each opening, with a
    warning.

    Args:
        bundle: Whose prefix it is.
        session: Its graph.
        token_ids: What begins every prompt.
        kept: As `kept_prefix` returned it.
        prompt: The prompt's name.

    Raises:
        BundleInvalid: The bundle's own file is of other tokens.
        OutputInvalid: As `compute_prefix`.
    """
    if kept is not None:
        if kept.token_ids == tuple(token_ids):
            return kept
        own = bundle.manifest.prompt_of(prompt).prefix.files.get(session.facts.kv_type)
        path = _cached_file(bundle, session, prompt) if own is None else bundle.file(own)
        problem = f"{path}: holds the keys and values of other tokens. Export the bundle again."
        if own is not None:
            raise BundleInvalid(problem)
        logger.warning("computing the prefix again: %s", problem)
    prefix = compute_prefix(session, token_ids)
    try:
        path = _cached_file(bundle, session, prompt)
    except OSError as error:
        warn_without_cache(error)
        return prefix
    try:
        prefix.save(path)
    except OSError as error:
        logger.warning("the prefix could not be kept (%s): the next opening computes it again", cache_reason(error))
    return prefix


def _cached_file(bundle: Bundle, session: Session, prompt: str) -> Path:
    return own_directory(bundle.manifest_sha256, session.cache_key) / prefix_file(prompt, session.facts.kv_type)


def _joined(token_ids: Sequence[int]) -> str:
    return ",".join(map(str, token_ids))


def _split(token_ids: str) -> tuple[int, ...]:
    return tuple(map(int, token_ids.split(","))) if token_ids else ()


def _with_sorted_metadata(contents: bytes) -> bytes:
    """Put the metadata of a safetensors file in order: its writer's order is another one in every run."""
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + contents[start:]


def _digest(positions: NDArray[Any]) -> str:
    """SHA-256 of all keys and values (50 ms for the prefix of a 4B model)."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(positions).data).hexdigest()


def _load(path: Path, bundle: Bundle, kv_type: str, *, has_digest: bool = False) -> Prefix:
    """Map and check a file; the manifest has the hash of the bundle's own, one in the cache brings its own."""
    metadata, positions = _mapped(path, bundle, kv_type)
    if count := count_not_finite(positions):
        raise BundleInvalid(f"{path}: {count} of its keys and values are not finite. Export the bundle again.")
    if has_digest and metadata.get("sha256") != _digest(positions):
        raise BundleInvalid(f"{path}: its contents do not have the SHA-256 that it states: it was damaged.")
    return Prefix(_split(metadata.get("token_ids", "")), positions)


def _mapped(path: Path, bundle: Bundle, kv_type: str) -> tuple[dict[str, str], NDArray[Any]]:
    """Return a file's metadata and its one tensor, in place."""
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensor = file.get_slice(_TENSOR) if list(file.keys()) == [_TENSOR] else None
            found = None if tensor is None else (tensor.get_dtype(), tensor.get_shape())
        model, count = bundle.manifest.model, len(_split(metadata.get("token_ids", "")))
        shape = [model.num_layers, 2, 1, model.num_kv_heads, count, model.head_dim]
        if found != (_NAMES[STORAGE_TYPES[kv_type]], shape):
            raise BundleInvalid(
                f"{path}: holds {found or 'other tensors'}, expected {_TENSOR} of {STORAGE_TYPES[kv_type]} {shape} for "
                f"its {count} tokens. Export the bundle again."
            )
        with path.open("rb") as contents:
            start = 8 + int.from_bytes(contents.read(8), "little")  # after the header's length and the header
        return metadata, np.asarray(np.memmap(path, STORAGE_TYPES[kv_type], "r", start, tuple(shape)))
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleInvalid(f"{path}: cannot be read ({error}). Export the bundle again.") from error
