"""Grids: which numbers a block of weights can become, and the rounding of weights to the nearest of them.

`IntegerGrid` is what MatMulNBits, GatherBlockQuantized and the integer matrix products store; `Fp8Grid` is E4M3
(Micikevicius et al., arXiv 2209.05433). Zero points are integers: float ones would cost four bytes per block.

Bytes per weight, scales in float32: INT4 0.531 / 0.570 / 0.633 (block 128 / 64 / 32, integer zero points included),
symmetric 0.531 - 0.004; INT8 1.031 / 1.063 / 1.125; one scale per row: 1 + 4 / in_features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rubricrm_export.errors import CheckpointUnsupported
from rubricrm_export.quantize.matrix import QuantizedMatrix

Array = NDArray[Any]
Float = NDArray[np.float32]

FP8_MAX = 448.0  # the largest E4M3 number; ml_dtypes turns what rounds beyond it into NaN, not into this
# What remains of a block's range in the search of the clip, see `IntegerGrid.round`.
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)


class Grid(Protocol):
    """The numbers that weights are rounded to."""

    @property
    def bits(self) -> int:
        """Bits a weight takes, scales aside."""
        ...

    def round(self, weight: Float, importance: Float | None = None) -> QuantizedMatrix:
        """Round rows of weights to the nearest numbers of the grid.

        Args:
            weight: [rows, in_features], finite.
            importance: [in_features] what a squared error of each input's weights costs; None: all alike.
        """
        ...

    def num_bytes(self, rows: int, width: int) -> int:
        """Bytes of a matrix on disk, scales and zero points included."""
        ...


@dataclass(frozen=True)
class IntegerGrid:
    """Integers with one scale per block: `(code - zero_point) * scale`.

    Attributes:
        bits: 4 or 8.
        block_size: Consecutive input features with one scale; None: a whole row.
        symmetric: The zero point is the middle of the codes and not stored.
        scale_type: Element type of the stored scales: weights are rounded on the scales as they are stored.
    """

    bits: int
    block_size: int | None
    symmetric: bool
    scale_type: Any = np.float32

    @property
    def clips(self) -> tuple[float, ...]:
        """Parts of a block's range to try. For 8 bits the whole range alone: it is fine enough, clipping never pays."""
        return CLIPS if self.bits == 4 else (1.0,)

    def width(self, in_features: int) -> int:
        """Return the size of a block in a row of so many inputs."""
        return in_features if self.block_size is None else self.block_size

    def round(self, weight: Float, importance: Float | None = None) -> QuantizedMatrix:
        """Round to nearest, within the range of each block that loses least.

        The ranges that are tried are `CLIPS` of the block's own: a smaller one has finer steps and clips its largest
        weights (as in LLM.int8's and GPTQ's successors; no paper of its own).
        """
        blocks = split_blocks(weight, self.width(weight.shape[1]))
        cost = None if importance is None else split_blocks(importance[None], self.width(weight.shape[1]))
        scales, zero_points = self.parameters(blocks, cost, self.clips)
        codes = self.codes(blocks, scales[..., None], zero_points[..., None])
        return self.matrix(codes.reshape(len(weight), -1)[:, : weight.shape[1]], scales, zero_points)

    def matrix(self, codes: Float, scales: Float, zero_points: Float) -> QuantizedMatrix:
        """Make a matrix of codes [rows, in_features] and parameters [rows, blocks], all given as float32."""
        stored = None if self.symmetric else zero_points.astype(np.uint8)
        return QuantizedMatrix(codes.astype(np.uint8), scales, stored, self.bits, self.width(codes.shape[1]))

    def parameters(self, blocks: Float, cost: Float | None, clips: Sequence[float]) -> tuple[Float, Float]:
        """Return scales and zero points [rows, blocks] for weights [rows, blocks, block_size].

        Args:
            blocks: The weights.
            cost: [1, blocks, block_size], what a squared error costs at each place; None: all alike.
            clips: Parts of the range to try; the first one that loses least is taken.
        """
        low, high = self._range(blocks)
        best_scales, best_zeros = self._fit(low, high)
        if len(clips) == 1:
            return best_scales, best_zeros
        least = self._loss(blocks, cost, best_scales, best_zeros)
        for clip in clips[1:]:
            scales, zeros = self._fit(low * np.float32(clip), high * np.float32(clip))
            loss = self._loss(blocks, cost, scales, zeros)
            is_better = loss < least
            np.copyto(least, loss, where=is_better)
            np.copyto(best_scales, scales, where=is_better)
            np.copyto(best_zeros, zeros, where=is_better)
        return best_scales, best_zeros

    def codes(self, weight: Float, scales: Float, zero_points: Float) -> Float:
        """Return the nearest codes, as float32; the parameters broadcast over the weights."""
        codes = weight / scales
        np.rint(codes, out=codes)
        codes += zero_points
        return np.clip(codes, self._least_code, (1 << self.bits) - 1, out=codes)

    @property
    def _least_code(self) -> int:
        return 1 if self.symmetric and self.bits == 8 else 0  # -127 to 127: no number without its negative

    def _range(self, blocks: Float) -> tuple[Float, Float]:
        """Zero is in every range, so that it is a number of every grid."""
        if self.symmetric:
            high = np.abs(blocks).max(-1)
            return -high, high
        return np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)

    def _fit(self, low: Float, high: Float) -> tuple[Float, Float]:
        middle, last = 1 << (self.bits - 1), (1 << self.bits) - 1
        scales = high / np.float32(middle - 1) if self.symmetric else (high - low) / np.float32(last)
        scales = round_scales(scales, self.scale_type)
        # The smallest scales of a type are coarse: one may be stored a third too small, and zero lie beyond the codes.
        zeros = np.full_like(scales, middle) if self.symmetric else np.minimum(np.rint(-low / scales), last)
        return scales, zeros

    def _loss(self, blocks: Float, cost: Float | None, scales: Float, zeros: Float) -> Float:
        error = self.codes(blocks, scales[..., None], zeros[..., None])
        error -= zeros[..., None]
        error *= scales[..., None]
        error -= blocks
        error *= error
        if cost is not None:
            error *= cost
        loss: Float = error.sum(-1)
        return loss

    def num_bytes(self, rows: int, width: int) -> int:
        """Bytes of a matrix on disk, scales and zero points included."""
        block = self.width(width)
        blocks = -(-width // block)
        zero_points = 0 if self.symmetric else -(-blocks * self.bits // 8)
        scales = blocks * int(np.dtype(self.scale_type).itemsize)
        return rows * (-(-blocks * block * self.bits // 8) + scales + zero_points)


@dataclass(frozen=True)
class Fp8Grid:
    """E4M3 floats with one scale per row or per block: `code * scale`, the row's largest weight at 448.

    Attributes:
        block_size: As `IntegerGrid`.
        scale_type: As `IntegerGrid`.
        bits: 8.
    """

    block_size: int | None = None
    scale_type: Any = np.float32
    bits: int = 8

    def round(self, weight: Float, importance: Float | None = None) -> QuantizedMatrix:  # noqa: ARG002
        """Round to nearest. A float's steps are relative: clipping the range gains nothing."""
        block_size = self.block_size or weight.shape[1]
        blocks = split_blocks(weight, block_size)
        scales = round_scales(np.abs(blocks).max(-1) / np.float32(FP8_MAX), self.scale_type)
        codes = to_fp8(blocks / scales[..., None]).reshape(len(weight), -1)[:, : weight.shape[1]]
        return QuantizedMatrix(np.ascontiguousarray(codes), scales, None, self.bits, block_size)

    def num_bytes(self, rows: int, width: int) -> int:
        """Bytes of a matrix on disk, scales included."""
        scale_bytes = int(np.dtype(self.scale_type).itemsize)
        return rows * (width + scale_bytes * -(-width // (self.block_size or width)))


@dataclass(frozen=True)
class TensorFp8Grid:
    """E4M3 floats with one scale per matrix, or per several matrices, that is known before they are read."""

    scale: float
    bits: int = 8

    def round(self, weight: Float, importance: Float | None = None) -> QuantizedMatrix:  # noqa: ARG002
        """Round to nearest."""
        scale = np.float32(self.scale)
        return QuantizedMatrix(
            to_fp8(weight / scale), np.full((len(weight), 1), scale), None, self.bits, weight.shape[1]
        )

    def num_bytes(self, rows: int, width: int) -> int:
        """Bytes of a matrix on disk, its scale included."""
        return rows * width + 4


def to_fp8(values: Float) -> Array:
    """Cast to E4M3, what is beyond its range to its largest numbers."""
    return np.clip(values, -FP8_MAX, FP8_MAX).astype(ml_dtypes.float8_e4m3fn)


def round_scales(scales: Float, scale_type: Any) -> Float:
    """Return scales as they are stored, in float32; a block of zeros gets 1.

    Raises:
        CheckpointUnsupported: The type cannot hold one of them.
    """
    with np.errstate(over="ignore"):
        stored = scales.astype(scale_type).astype(np.float32)
    if not np.isfinite(stored).all():
        raise CheckpointUnsupported(
            f"a scale of {scales.max():.6g} is beyond what {np.dtype(scale_type).name} holds: weights are too large "
            "for a target that computes in it. Export a BF16 checkpoint, or with --target cpu."
        )
    # Also where a 16-bit scale underflows: weights that small become zero.
    return np.where(stored > 0, stored, np.float32(1))


def split_blocks(weight: Float, block_size: int) -> Float:
    """Return [rows, in_features] as [rows, blocks, block_size], the last block filled with zeros."""
    rows, width = weight.shape
    blocks = -(-width // block_size)
    if blocks * block_size != width:
        weight = np.pad(weight, ((0, 0), (0, blocks * block_size - width)))
    return weight.reshape(rows, blocks, block_size)
