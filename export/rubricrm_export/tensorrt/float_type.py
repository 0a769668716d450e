"""The 16-bit floats that readers compute in, and what is stored in them: embedding, head, norms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.graph.builder import NUMPY_TYPES
from rubricrm_export.graph.streamed_tensor import convert_floats
from rubricrm_export.tensorrt.weight_file import WeightTensor


@dataclass(frozen=True)
class FloatType:
    """A float type under its names.

    Attributes:
        name: In configurations: "float16" or "bfloat16".
        stored: In safetensors.
        ir: In onnx-ir, whose streaming conversions are used.
    """

    name: str
    stored: str
    ir: ir.DataType

    def tensor(self, name: str, values: NDArray[Any]) -> WeightTensor:
        """Return numbers that are known now, such as a norm."""

        def parts() -> Iterator[NDArray[Any]]:
            yield convert_floats(values, NUMPY_TYPES[self.ir], name)

        return WeightTensor(name, self.stored, values.shape, parts)


FP16 = FloatType("float16", "F16", ir.DataType.FLOAT16)
BF16 = FloatType("bfloat16", "BF16", ir.DataType.BFLOAT16)
