"""The graph and its weights as files: model.onnx and one external data file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
from rubricrm.runtime.graph_tensors import read_tensors

from rubricrm_export.graph.packed_storage import DerivedTensor
from rubricrm_export.graph.quantized_tensor import MadeTensor, ViewTensor

# Smaller tensors stay inside model.onnx: shapes and axes must, or no runtime can infer shapes.
_EXTERNAL_BYTES = 1024
_PAGE_BYTES = 4096
_LINE_BYTES = 64


def save_graph(model: ir.Model, path: Path, data_name: str, on_progress: Callable[[int], None]) -> None:
    """Write a graph; its weights are made, one after the other, while they are written.

    Args:
        model: Its initializers become references to the data file.
        path: The graph's file.
        data_name: Name of the data file beside it.
        on_progress: Gets the number of bytes of weights written so far, after each of them.
    """
    external: dict[int, ir.ExternalTensor] = {}
    done = 0
    with (path.parent / data_name).open("wb") as file:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            assert tensor is not None
            if not is_external(tensor):
                continue
            base = tensor.of if isinstance(tensor, ViewTensor) else tensor
            if id(base) not in external:
                external[id(base)] = _append(file, base, data_name)
                done += base.nbytes if isinstance(base, ir.LazyTensor) else 0
                on_progress(done)
            value.const_value = _under(external[id(base)], tensor)
    ir.save(model, path)


def is_external(tensor: ir.TensorProtocol) -> bool:
    """Whether a tensor lies in the data file: all but small ones, and what the packed layout is derived from."""
    return tensor.nbytes >= _EXTERNAL_BYTES or isinstance(tensor, MadeTensor | ViewTensor | DerivedTensor)


def save_references(model: ir.Model, path: Path, data_name: str) -> int:
    """Write a graph whose data file is derived later: its tensors stand in a row, each at its place.

    Returns:
        The size of the data file.
    """
    end = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if is_external(tensor):
            start = end + _padding(end, tensor)
            end = start + tensor.nbytes
            value.const_value = _external(data_name, start, tensor.nbytes, tensor)
    ir.save(model, path)
    return end


def save_shared(model: ir.Model, path: Path, other: Path) -> None:
    """Write a graph whose tensors are those of another graph, by their names, in that graph's data file."""
    stored = {tensor.name: tensor for tensor in read_tensors(other) if tensor.location is not None}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if is_external(tensor):
            found = stored[str(tensor.name)]
            assert found.num_bytes == tensor.nbytes
            value.const_value = _external(str(found.location), found.offset, found.num_bytes, tensor)
    ir.save(model, path)


def _padding(end: int, tensor: ir.TensorProtocol) -> int:
    return -end % (_PAGE_BYTES if tensor.nbytes > _PAGE_BYTES else _LINE_BYTES)


def _append(file: BinaryIO, tensor: ir.TensorProtocol, data_name: str) -> ir.ExternalTensor:
    file.write(bytes(_padding(file.tell(), tensor)))
    offset = file.tell()
    tensor.tofile(file)  # type: ignore[attr-defined]  # every class of tensor in these graphs has it
    length = file.tell() - offset
    return _external(data_name, offset, length, tensor)


def _under(stored: ir.ExternalTensor, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    """Return a stored tensor under the name and shape of another."""
    return _external(stored.location, stored.offset, stored.length, tensor)


def _external(
    location: os.PathLike[str] | str, offset: int | None, length: int | None, tensor: ir.TensorProtocol
) -> ir.ExternalTensor:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(location, offset, length, tensor.dtype, shape=shape, name=str(tensor.name))
