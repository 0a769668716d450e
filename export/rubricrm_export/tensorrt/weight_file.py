"""Writes safetensors files tensor by tensor: the library's own writer wants all of them in memory.

The format: eight bytes with the length of a JSON header, the header with type, shape and place of every tensor, then
their bytes in a row (github.com/huggingface/safetensors, "Format"). Reading is the library's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rubricrm_export.errors import CheckpointInvalid, ExportFailed

Array = NDArray[Any]

_TYPES: Mapping[str, Any] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}
_ALIGNMENT = 8


@dataclass(frozen=True)
class WeightTensor:
    """A tensor of a file that is yet to be written.

    Attributes:
        name: Its name.
        dtype: Its type, as safetensors calls it.
        shape: Its shape; () for a scalar.
        parts: Gives its bytes as consecutive arrays, once.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[Array]]

    @property
    def num_bytes(self) -> int:
        """Bytes it takes."""
        return int(_TYPES[self.dtype].itemsize) * prod(self.shape)


def small_tensor(name: str, values: Array) -> WeightTensor:
    """Return a tensor of float32 numbers that are known now: a scale."""
    numbers = np.asarray(values, np.float32)
    return WeightTensor(name, "F32", numbers.shape, lambda: [numbers])


def write_weights(
    path: Path, tensors: Sequence[WeightTensor], metadata: Mapping[str, str], on_bytes: Callable[[int], None]
) -> None:
    """Write a file. Memory: what one tensor's parts take at a time.

    Args:
        path: The file.
        tensors: In the order they are written in; their parts are made then.
        metadata: Of the whole file.
        on_bytes: Gets the number of bytes of every tensor that was written.

    Raises:
        ExportFailed: A tensor gave other bytes than its type and shape promise. A fault of this package.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.num_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            written = sum(file.write(part) for part in _buffers(tensor.parts()))
            if written != tensor.num_bytes:
                raise ExportFailed(
                    f'{path}: tensor "{tensor.name}" made {written} bytes, expected {tensor.num_bytes}. Please report.'
                )
            on_bytes(written)


def _buffers(parts: Iterable[Array]) -> Iterator[memoryview]:
    for part in parts:
        yield np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def split_files(tensors: Sequence[WeightTensor], max_bytes: int) -> list[list[WeightTensor]]:
    """Return the tensors of each file, in order; a file has at most `max_bytes`, or one tensor."""
    files: list[list[WeightTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if files[-1] and size + tensor.num_bytes > max_bytes:
            files.append([])
            size = 0
        files[-1].append(tensor)
        size += tensor.num_bytes
    return files


_MOST_HEADER_BYTES = 100 << 20  # the library's own limit


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file that was written. The library's reader for numpy knows no FP8.

    Attributes:
        file: Where it is stored.
        dtype: Its type, as safetensors calls it.
        shape: Its shape.
        offset: Its first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def array(self) -> Array:
        """Return it, mapped: what is not looked at is not read.

        Raises:
            CheckpointInvalid: Its type is none that these directories hold.
        """
        if self.dtype not in _TYPES:
            raise CheckpointInvalid(f"{self.file}: holds {self.dtype}, expected one of {', '.join(_TYPES)}.")
        if not prod(self.shape):
            return np.empty(self.shape, _TYPES[self.dtype])
        return np.memmap(self.file, _TYPES[self.dtype], "r", self.offset, self.shape or (1,)).reshape(self.shape)


def read_weights_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by their names. Reads its header.

    Raises:
        CheckpointInvalid: It is no safetensors file, or is cut off.
    """
    try:
        length, header = _read_header(path)
        size = path.stat().st_size
        header.pop("__metadata__", None)
        tensors, end = {}, 0
        for name, facts in header.items():
            start, stop = facts["data_offsets"]
            tensors[name] = StoredTensor(path, facts["dtype"], tuple(facts["shape"]), 8 + length + start)
            end = max(end, 8 + length + stop)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointInvalid(f"{path}: is no safetensors file ({error}). Export or download it again.") from error
    if end > size:
        raise CheckpointInvalid(f"{path}: has {size} bytes, its header promises {end}. Export or download it again.")
    return tensors


def _read_header(path: Path) -> tuple[int, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, _MOST_HEADER_BYTES))
    if len(text) < length:
        raise ValueError("its header is cut off")
    return length, json.loads(text)
