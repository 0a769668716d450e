"""A data file in another layout: the standard one that ONNX Runtime reads, or the packed one of this project's kernels.

docs/BUNDLE.md, "Layouts", is the contract. Packing moves whole groups of four bytes: it is the same for 4 and 8 bits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rubricrm.errors import BundleInvalid
from rubricrm.runtime.graph_tensors import FLOAT16, FLOAT32, UINT8, GraphTensor, read_tensors
from rubricrm.runtime.whole_file import rename_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 64  # outputs
_GROUP = 4  # bytes of an output that lie together
CODES, SCALES, ZERO_POINTS, ROWS = ".codes", ".scales", ".zero_points", ".rows"
PACKED, PACKED_SCALES, PACKED_ZERO_POINTS = ".packed", ".packed_scales", ".packed_zero_points"


def derive_data(graph: Path, source: Path, output: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Write the data file that a graph wants from the data of another graph of the same model.

    It is written under a temporary name and renamed. Memory: the largest tensor, twice. Time: that of reading and
    writing the file (2 GB: seconds).

    Args:
        graph: File of the graph whose data are wanted.
        source: File of a graph whose data file lies beside it.
        output: The data file to write.
        on_progress: Gets the bytes written so far, and all.

    Raises:
        BundleInvalid: A file is damaged, or the graphs are not of one model in two layouts; the tensor is named.
        OSError: The output cannot be written.
    """
    made = Derivation(source)
    wanted = sorted(_external(read_tensors(graph)).values(), key=lambda tensor: tensor.offset)
    total = sum(tensor.num_bytes for tensor in wanted)
    writing = output.with_name(f".{output.name}.{os.getpid()}-{threading.get_ident()}.writing")
    try:
        with writing.open("wb") as file:
            done = 0
            for tensor in wanted:
                _append(file, tensor, made.bytes_of(tensor) if tensor.offset >= file.tell() else None, graph)
                done += tensor.num_bytes
                if on_progress is not None:
                    on_progress(done, total)
        rename_whole(writing, output)
    finally:
        with suppress(OSError):
            writing.unlink(missing_ok=True)


class Derivation:
    """Tensors of a graph, and what follows from them in the other layout. Their bytes are mapped, not read."""

    def __init__(self, source: Path) -> None:
        """Read a graph's file and map its data file, which must lie beside it.

        Raises:
            BundleInvalid: One of them is damaged.
        """
        import numpy as np

        self._source = source
        self._all = {tensor.name: tensor for tensor in read_tensors(source)}
        self._tensors = _external(self._all.values())
        self._files: dict[str, NDArray[np.uint8]] = {}
        for tensor in self._tensors.values():
            data = self._data(str(tensor.location))
            if tensor.offset + tensor.num_bytes > data.size:
                raise BundleInvalid(
                    f"{source.with_name(str(tensor.location))}: has {data.size} bytes, {tensor.name} ends at "
                    f"{tensor.offset + tensor.num_bytes}: truncated or replaced. Copy or export the bundle again."
                )

    def bytes_of(self, wanted: GraphTensor) -> NDArray[Any]:
        """Return the bytes of a tensor of the other graph, [num_bytes] uint8.

        Raises:
            BundleInvalid: It does not follow from any tensor of this graph.
        """
        import numpy as np

        found = self._tensors.get(wanted.name)
        made: NDArray[Any] | None = self._converted(wanted) if found is None else self._read(found)
        if made is None or made.nbytes != wanted.num_bytes:
            raise BundleInvalid(
                f"{self._source}: {wanted.name} of type {wanted.element_type} and shape {list(wanted.shape)} does not "
                "follow from its tensors: the two graphs are not of one model. Copy or export the bundle again."
            )
        flat: NDArray[Any] = np.ascontiguousarray(made).reshape(-1).view(np.uint8)
        return flat

    def _converted(self, wanted: GraphTensor) -> NDArray[Any] | None:
        """Return a tensor in its other layout; None where no tensor of this graph is its source."""
        for ending, other, convert in _CONVERSIONS:
            if wanted.name.endswith(ending):
                found = self._tensors.get(wanted.name.removesuffix(ending) + other)
                if found is not None and _fits(wanted, ending) and _fits(found, other):
                    return convert(self._read(found), wanted.shape)
        return None

    def _read(self, tensor: GraphTensor) -> NDArray[Any]:
        import numpy as np

        types = {UINT8: np.uint8, FLOAT16: np.float16, FLOAT32: np.float32}
        raw = self._data(str(tensor.location))[tensor.offset : tensor.offset + tensor.num_bytes]
        dtype = types.get(tensor.element_type)
        return raw if dtype is None else raw.view(dtype).reshape(tensor.shape)

    def _data(self, location: str) -> NDArray[Any]:
        import numpy as np

        if location not in self._files:
            path = self._source.with_name(location)
            try:
                self._files[location] = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
            except OSError as error:
                raise BundleInvalid(f"{path}: cannot be read ({error.strerror}). Copy the bundle again.") from error
        return self._files[location]


def _external(tensors: Any) -> Mapping[str, GraphTensor]:
    return {tensor.name: tensor for tensor in tensors if tensor.location is not None}


def _append(file: IO[bytes], tensor: GraphTensor, contents: NDArray[Any] | None, graph: Path) -> None:
    """Write a tensor at its place; None: it is a view of bytes that are written already."""
    if contents is None:
        if tensor.offset + tensor.num_bytes > file.tell():
            raise BundleInvalid(f"{graph}: {tensor.name} overlaps the tensor before it. Export the bundle again.")
        return
    file.write(bytes(tensor.offset - file.tell()))
    file.write(contents.data)


_TYPES = {
    CODES: UINT8,
    SCALES: FLOAT32,
    ZERO_POINTS: UINT8,
    ROWS: UINT8,
    PACKED: UINT8,
    PACKED_SCALES: FLOAT16,
    PACKED_ZERO_POINTS: UINT8,
}
_RANKS = {CODES: 3, SCALES: 2, ZERO_POINTS: 2, ROWS: 2, PACKED: 4, PACKED_SCALES: 3, PACKED_ZERO_POINTS: 3}


def _fits(tensor: GraphTensor, ending: str) -> bool:
    return tensor.element_type == _TYPES[ending] and len(tensor.shape) == _RANKS[ending]


def _tiles(rows: NDArray[Any], num_tiles: int) -> NDArray[Any]:
    """Return rows [N, ...] as [tiles, 64, ...]; those that fill up the last tile are zero."""
    import numpy as np

    if rows.shape[0] < num_tiles * _TILE:
        padding = [(0, num_tiles * _TILE - rows.shape[0]), *[(0, 0)] * (rows.ndim - 1)]
        rows = np.pad(rows, padding)
    return rows.reshape(num_tiles, _TILE, *rows.shape[1:])


def pack_codes(codes: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return codes [N, blocks, bytes] as [tiles, groups, 64], four bytes as one number; None: the shape is another."""
    import numpy as np

    groups = codes.shape[1] * codes.shape[2] // _GROUP
    if shape != (-(-codes.shape[0] // _TILE), groups, _TILE, _GROUP):
        return None
    # Four bytes that stay together are one number: numpy moves it several times as fast as the bytes.
    return _tiles(codes.reshape(codes.shape[0], -1).view(np.uint32), shape[0]).transpose(0, 2, 1)


def unpack_codes(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return the rows of packed codes in the shape of codes, or of their rows; None where it is another."""
    import numpy as np

    if -(-shape[0] // _TILE) != packed.shape[0] or np.prod(shape[1:]) != packed.shape[1] * _GROUP:
        return None
    rows = packed.view(np.uint32)[..., 0].transpose(0, 2, 1).reshape(packed.shape[0] * _TILE, -1)
    return np.ascontiguousarray(rows[: shape[0]]).view(np.uint8).reshape(shape)


def pack_scales(scales: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return scales [N, blocks] as float16 [tiles, blocks, 64].

    Raises:
        BundleInvalid: A scale is no number of float16: the two layouts would not be one model.
    """
    import numpy as np

    if shape != (-(-scales.shape[0] // _TILE), scales.shape[1], _TILE):
        return None
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    if not np.array_equal(halves.astype(np.float32), scales):
        wrong = scales[halves.astype(np.float32) != scales]
        raise BundleInvalid(
            f"a scale of {wrong[0]:.9g} is no number of float16, which packed weights hold: it was exported by another "
            "version. Export the checkpoint again."
        )
    return _tiles(halves, shape[0]).transpose(0, 2, 1)


def unpack_scales(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return packed scales as float32 [N, blocks]."""
    import numpy as np

    rows = _untiled(packed, shape)
    return None if rows is None else rows.astype(np.float32)


def pack_zero_points(zero_points: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return zero points [N, bytes] as [tiles, blocks, 64], one per byte."""
    import numpy as np

    rows, num_bytes = zero_points.shape
    num_blocks = shape[1]
    if shape != (-(-rows // _TILE), num_blocks, _TILE) or num_bytes not in (num_blocks, -(-num_blocks // 2)):
        return None
    if num_bytes < num_blocks:  # two to a byte; a single one leaves the other half zero
        zero_points = np.stack([zero_points & 15, zero_points >> 4], -1).reshape(rows, -1)[:, :num_blocks]
    return _tiles(zero_points, shape[0]).transpose(0, 2, 1)


def unpack_zero_points(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return packed zero points as the operators of ONNX Runtime read them: [N, bytes]."""
    import numpy as np

    num_blocks = packed.shape[1]
    rows = _untiled(packed, (shape[0], num_blocks))
    if rows is None or shape[1] not in (num_blocks, -(-num_blocks // 2)):
        return None
    if shape[1] == num_blocks:
        return rows
    even = np.pad(rows, [(0, 0), (0, num_blocks % 2)])
    halves: NDArray[Any] = even[:, 0::2] | even[:, 1::2] << 4
    return halves


def _untiled(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return [tiles, blocks, 64] as [N, blocks]; None where the shape is another."""
    if (-(-shape[0] // _TILE), shape[1]) != packed.shape[:2]:
        return None
    return packed.transpose(0, 2, 1).reshape(-1, shape[1])[: shape[0]]


# Ending of a wanted tensor, of the one it is made of, and how.
_CONVERSIONS: tuple[tuple[str, str, Callable[[NDArray[Any], tuple[int, ...]], NDArray[Any] | None]], ...] = (
    (PACKED, CODES, pack_codes),
    (PACKED_SCALES, SCALES, pack_scales),
    (PACKED_ZERO_POINTS, ZERO_POINTS, pack_zero_points),
    (CODES, PACKED, unpack_codes),
    (ROWS, PACKED, unpack_codes),
    (SCALES, PACKED_SCALES, unpack_scales),
    (ZERO_POINTS, PACKED_ZERO_POINTS, unpack_zero_points),
)
