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
        contents = _with_sorted_metadata(save(dict(_named(self.positions)), metadata))
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


def open_prefix(bundle: Bundle, session: Session, token_ids: list[int]) -> Prefix:
    """Return the bundle's prefix: from the bundle, else from this machine's cache, else computed and kept there.

    A cached file that cannot be read or does not fit is computed again. Where there is no cache directory, or none that
    is this user's alone, it is computed at each opening, with a warning.

    Raises:
        BundleInvalid: The bundle's own file does not fit its model.
        OutputInvalid: As `compute_prefix`.
    """
    kv_type = session.facts.kv_type
    name = bundle.manifest.prompt.prefix.files.get(kv_type)
    if name is not None:
        return _load(bundle.file(name), bundle, kv_type, token_ids)
    try:
        path = own_directory(bundle.manifest_sha256, session.cache_key) / prefix_file(RUBRIC, kv_type)
    except OSError as error:
        warn_without_cache(error)
        return compute_prefix(session, token_ids)
    try:
        if path.exists():
            return _load(path, bundle, kv_type, token_ids, has_digest=True)
    except (BundleInvalid, OSError) as error:
        logger.warning("computing the prefix again: %s", error)
    prefix = compute_prefix(session, token_ids)
    try:
        prefix.save(path)
    except OSError as error:
        logger.warning("the prefix could not be kept (%s): the next opening computes it again", cache_reason(error))
    return prefix


def _named(positions: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """Return each layer's keys and values under the graph's names, as views [1, kv_heads, positions, head_dim]."""
    return [
        (f"past_key_values.{layer}.{name}", positions[layer, half])
        for layer in range(len(positions))
        for half, name in enumerate(("key", "value"))
    ]


def _joined(token_ids: Sequence[int]) -> str:
    return ",".join(map(str, token_ids))


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


def _load(path: Path, bundle: Bundle, kv_type: str, token_ids: list[int], *, has_digest: bool = False) -> Prefix:
    """Read and check a file; the manifest has the hash of the bundle's own, one in the cache brings its own."""
    import numpy as np
    from safetensors import SafetensorError, safe_open

    model = bundle.manifest.model
    shape = (model.num_layers, 2, 1, model.num_kv_heads, len(token_ids), model.head_dim)
    positions: NDArray[Any] = np.empty(shape, STORAGE_TYPES[kv_type])
    try:
        with safe_open(path, framework="np") as tensors:
            metadata = tensors.metadata() or {}
            if metadata.get("token_ids", "") != _joined(token_ids):
                raise BundleInvalid(f"{path}: holds the keys and values of other tokens. Export the bundle again.")
            for name, view in _named(positions):
                tensor = tensors.get_tensor(name)
                if tensor.shape != view.shape or tensor.dtype != view.dtype:
                    raise BundleInvalid(
                        f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, expected {view.dtype} "
                        f"{list(view.shape)}. Export the bundle again."
                    )
                view[:] = tensor
    except (SafetensorError, OSError) as error:
        raise BundleInvalid(f"{path}: cannot be read ({error}). Export the bundle again.") from error
    if count := count_not_finite(positions):
        raise BundleInvalid(f"{path}: {count} of its keys and values are not finite. Export the bundle again.")
    if has_digest and metadata.get("sha256") != _digest(positions):
        raise BundleInvalid(f"{path}: its contents do not have the SHA-256 that it states: it was damaged.")
    return Prefix(tuple(token_ids), positions)
