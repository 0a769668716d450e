"""What calibration leaves of a layer: its quantized matrices, norms and scales, as one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rubricrm.runtime.whole_file import rename_whole
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rubricrm_export.errors import ExportFailed
from rubricrm_export.quantize.matrix import QuantizedMatrix, pack_nibbles, unpack_nibbles

Float = NDArray[np.float32]

_OF_MATRICES = ("codes/", "scales/", "zero_points/")


@dataclass(frozen=True)
class LayerResult:
    """The outcome for one layer; names are those within the layer ("mlp.up_proj.weight").

    Attributes:
        matrices: The quantized matrices. Empty where they are rounded while they are written.
        norms: Norms, into which a recipe may have folded factors.
        largest_inputs: The |x| that is the largest code of each matrix's static scale.
        largest_keys: [kv_heads, head_dim], the largest |key| after rotation, at any position.
        largest_values: [kv_heads, head_dim].
    """

    matrices: Mapping[str, QuantizedMatrix]
    norms: Mapping[str, Float]
    largest_inputs: Mapping[str, float]
    largest_keys: Float
    largest_values: Float

    def save(self, path: Path) -> None:
        """Write to a temporary sibling, then rename."""
        tensors: dict[str, NDArray[Any]] = {f"norm/{name}": norm for name, norm in self.norms.items()}
        metadata = {}
        for name, matrix in self.matrices.items():
            tensors[f"codes/{name}"] = pack_nibbles(matrix.codes) if matrix.bits == 4 else matrix.codes
            tensors[f"scales/{name}"] = matrix.scales
            if matrix.zero_points is not None:
                tensors[f"zero_points/{name}"] = matrix.zero_points
            metadata[name] = f"{matrix.bits} {matrix.block_size} {matrix.shape[1]}"
        for name, largest in self.largest_inputs.items():
            tensors[f"largest/{name}"] = np.array([largest], np.float32)
        tensors["largest_keys"], tensors["largest_values"] = self.largest_keys, self.largest_values
        save_tensors(tensors, path, metadata)

    @classmethod
    def load(cls, path: Path, *, with_matrices: bool = True) -> LayerResult:
        """Read a file that `save` wrote; without its matrices a few kilobytes of it.

        Raises:
            ExportFailed: It cannot be read.
        """
        tensors, metadata = load_tensors(path, without=() if with_matrices else _OF_MATRICES)
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            parts.setdefault(kind, {})[name] = tensor
        matrices = {}
        for name, stated in metadata.items() if with_matrices else ():
            bits, block_size, width = map(int, stated.split())
            codes = parts["codes"][name]
            matrices[name] = QuantizedMatrix(
                unpack_nibbles(codes, width) if bits == 4 else codes,
                parts["scales"][name],
                parts.get("zero_points", {}).get(name),
                bits,
                block_size,
            )
        largest = {name: float(value[0]) for name, value in parts.get("largest", {}).items()}
        keys, values = tensors["largest_keys"], tensors["largest_values"]
        return cls(matrices, parts.get("norm", {}), largest, keys, values)


def save_tensors(tensors: Mapping[str, NDArray[Any]], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors to a temporary sibling, then rename: a reader sees all of them or none."""
    writing = path.with_name(f".{path.name}.writing")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, writing, dict(metadata))
    rename_whole(writing, path)


def load_tensors(path: Path, without: tuple[str, ...] = ()) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the tensors and the metadata of a file, but for tensors whose names begin with one of `without`.

    Raises:
        ExportFailed: It cannot be read.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if not name.startswith(without)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ExportFailed(f"{path}: cannot be read ({error}). Start again: pass --force without --resume.") from error
