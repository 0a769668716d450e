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

from rubricrm_export.checkpoint.files import refuse_lfs_pointer
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
# What others store beside these, and numpy can read.
_READ_TYPES: Mapping[str, Any] = {
    **_TYPES,
    "F64": np.dtype("<f8"),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "BOOL": np.dtype(np.bool_),
    **{f"{sign}{8 * size}": np.dtype(f"<{sign.lower()}{size}") for sign in "IU" for size in (2, 4, 8)},
}
# Every type of the format (github.com/huggingface/safetensors, "Dtype") with its bits.
_BITS: Mapping[str, int] = {
    **{name: 8 * dtype.itemsize for name, dtype in _READ_TYPES.items()},
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "C64": 64,
}


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

    @property
    def num_bytes(self) -> int:
        """Bytes it takes."""
        return _BITS[self.dtype] * prod(self.shape) // 8

    @property
    def is_readable(self) -> bool:
        """Whether `array` knows its type."""
        return self.dtype in _READ_TYPES

    def array(self) -> Array:
        """Return it, mapped: what is not looked at is not read.

        Raises:
            CheckpointInvalid: numpy has no such type.
        """
        if not self.is_readable:
            raise CheckpointInvalid(f"{self.file}: holds {self.dtype}, expected one of {', '.join(_READ_TYPES)}.")
        if not prod(self.shape):
            return np.empty(self.shape, _READ_TYPES[self.dtype])
        return np.memmap(self.file, _READ_TYPES[self.dtype], "r", self.offset, self.shape or (1,)).reshape(self.shape)


def read_weights_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by their names. Reads its header, and holds it against the file's size.

    Raises:
        CheckpointInvalid: It is no safetensors file, or is damaged: the library would not open it either.
    """
    refuse_lfs_pointer(path)
    try:
        size = path.stat().st_size
        data, header = _read_header(path, size)
        metadata = header.pop("__metadata__", None)
        if metadata is not None and not _is_text_map(metadata):
            raise ValueError("its metadata is no map of texts")  # noqa: TRY301 - told as every other fault of the file
        tensors = {name: _stored_tensor(path, name, facts, data) for name, facts in header.items()}
        _require_no_gaps(tensors, data, size)
    except (OSError, ValueError) as error:
        raise CheckpointInvalid(f"{path}: is no sound safetensors file: {error}.") from error
    return tensors


def _read_header(path: Path, size: int) -> tuple[int, Any]:
    """Return where the data begins, and the header."""
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise ValueError(f"its header claims {length} bytes, the file has {size}")
        try:
            header = json.loads(file.read(length).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its header is not JSON ({error})") from error
        if isinstance(header, dict):
            return 8 + length, header
        raise ValueError(f"its header is a JSON {type(header).__name__}, expected an object")


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _stored_tensor(path: Path, name: str, facts: Any, data: int) -> StoredTensor:
    try:
        dtype, shape, (start, stop) = facts["dtype"], facts["shape"], facts["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f'the header has no type, shape and two offsets of "{name}"') from error
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f'"{name}" has the type {dtype!r}, which safetensors does not know')
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
        raise ValueError(f'"{name}" has the shape {shape} and offsets {start}, {stop}, expected whole numbers')
    tensor = StoredTensor(path, dtype, tuple(shape), data + start)
    if stop - start != tensor.num_bytes:
        raise ValueError(f'"{name}" takes {stop - start} bytes, {dtype} of {list(shape)} takes {tensor.num_bytes}')
    return tensor


def _require_no_gaps(tensors: Mapping[str, StoredTensor], end: int, size: int) -> None:
    """Refuse tensors that overlap, that leave bytes between them, or that the file does not hold."""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].num_bytes)):
        if tensor.offset != end:
            raise ValueError(f'"{name}" begins at byte {tensor.offset}, the tensor before it ends at {end}')
        end += tensor.num_bytes
    if end != size:
        raise ValueError(f"its header promises {end} bytes, the file has {size}")
