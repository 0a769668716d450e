"""The tensors of one quantized matrix, made row block by row block while the data file is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import IO, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.matrix_pass import Blocks, MatrixPass

Array = NDArray[Any]


class MadeTensor(ir.LazyTensor):
    """A tensor whose parts are made when it is written."""

    def __init__(self, parts: Callable[[], Iterator[Array]], dtype: ir.DataType, shape: Any, name: str) -> None:
        def whole() -> ir.TensorProtocol:
            made = np.concatenate(list(parts()))
            if dtype.itemsize < 1:
                return ir.PackedTensor(made, dtype, shape=ir.Shape(shape), name=name)
            return ir.tensor(made, dtype=dtype, name=name)

        super().__init__(whole, dtype, ir.Shape(shape), name=name)
        self._parts = parts

    def tofile(self, file: IO[bytes]) -> None:
        """Write the tensor's little-endian bytes."""
        for part in self._parts():
            file.write(np.ascontiguousarray(part).view(np.uint8).data)


class ViewTensor(ir.LazyTensor):
    """The bytes of another tensor under another shape. In the data file the two are one.

    Attributes:
        of: The other tensor.
    """

    def __init__(self, of: ir.TensorProtocol | None, shape: Any, name: str) -> None:
        assert of is not None

        def whole() -> ir.TensorProtocol:
            return ir.tensor(of.numpy().reshape(shape), name=name)

        super().__init__(whole, of.dtype, ir.Shape(shape), name=name)
        self.of = of


class MatrixTensors:
    """Codes, scales and zero points of a matrix as tensors that share one pass over its rows, see `MatrixPass`.

    Attributes:
        name: The weight's name; the tensors are called name.codes, name.scales and name.zero_points.
        blocks: Gives the matrix as consecutive blocks of rows, again at each call.
        shape: Out and in features.
    """

    def __init__(self, name: str, blocks: Blocks, shape: tuple[int, int]) -> None:
        self.name = name
        self.blocks = blocks
        self.shape = shape
        self._pass = MatrixPass(blocks)

    @classmethod
    def joined(cls, name: str, parts: Sequence[MatrixTensors]) -> MatrixTensors:
        """Return matrices of the same inputs as one: the rows of each after those of the one before."""
        rows, (width, *_) = sum(part.shape[0] for part in parts), {part.shape[1] for part in parts}
        return cls(name, lambda: chain.from_iterable(part.blocks() for part in parts), (rows, width))

    def codes(self, pack: Callable[[QuantizedMatrix], Array], dtype: ir.DataType, shape: Any) -> ir.TensorProtocol:
        """Return the tensor of the codes; `pack` turns a block of rows into the rows of the tensor."""
        return MadeTensor(lambda: self._pass.codes(pack), dtype, shape, f"{self.name}.codes")

    def transposed_codes(self, pack: Callable[[Array], Array], dtype: ir.DataType) -> ir.TensorProtocol:
        """Return the tensor of the codes as [in_features, out_features]. Holds the whole matrix when written.

        Args:
            pack: Turns the codes [out_features, in_features] into the bytes of the tensor.
            dtype: Of the tensor.
        """

        def parts() -> Iterator[Array]:
            yield pack(np.concatenate(list(self._pass.codes(lambda matrix: matrix.codes))))

        return MadeTensor(parts, dtype, self.shape[::-1], f"{self.name}.codes")

    def scales(self, dtype: Any, shape: Any) -> ir.TensorProtocol:
        """Return the tensor of the scales, of a numpy type and any shape that holds them in order of rows."""
        return self._parameters("scales", self._pass.scales, np.dtype(dtype), shape)

    def transposed_scales(self, dtype: Any, shape: tuple[int, int] | list[int]) -> ir.TensorProtocol:
        """Return the tensor of the scales as [blocks, out_features], given their shape before."""

        def parts() -> Iterator[Array]:
            yield np.ascontiguousarray(self._pass.scales().astype(dtype).reshape(shape).T)

        return MadeTensor(parts, ir.DataType.from_numpy(np.dtype(dtype)), shape[::-1], f"{self.name}.scales")

    def zero_points(self, shape: Any) -> ir.TensorProtocol:
        """Return the tensor of the packed zero points, uint8."""
        return self._parameters("zero_points", self._pass.zero_points, np.dtype(np.uint8), shape)

    def _parameters(
        self, kind: str, values: Callable[[], Array], dtype: np.dtype[Any], shape: Any
    ) -> ir.TensorProtocol:
        def parts() -> Iterator[Array]:
            yield values().astype(dtype).reshape(shape)

        return MadeTensor(parts, ir.DataType.from_numpy(dtype), shape, f"{self.name}.{kind}")
