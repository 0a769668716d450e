"""A quantized matrix: codes, scales, zero points, and the bytes that ONNX Runtime's operators read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class QuantizedMatrix:
    """Weights [out_features, in_features] as `(codes - zero_points) * scales`, one scale and zero point a block.

    Attributes:
        codes: [out_features, in_features], uint8 (0 to 2**bits - 1) or float8_e4m3fn.
        scales: float32 [out_features, blocks].
        zero_points: uint8 [out_features, blocks]; None: 2**(bits - 1) for integers, 0 for FP8.
        bits: Bits a code takes where it is stored.
        block_size: Consecutive input features that share a scale; the last block of a row may be short.
    """

    codes: Array
    scales: NDArray[np.float32]
    zero_points: NDArray[np.uint8] | None
    bits: int
    block_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """Out and in features."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def offsets(self) -> NDArray[np.float32]:
        """Zero points as numbers [out_features, blocks], whether stored or not."""
        if self.zero_points is not None:
            return self.zero_points.astype(np.float32)
        middle = 0 if self.codes.dtype != np.uint8 else 1 << (self.bits - 1)
        return np.full(self.scales.shape, middle, np.float32)

    def dequantize(self) -> NDArray[np.float32]:
        """Return the numbers that are stored, float32 [out_features, in_features]."""
        width = self.shape[1]
        offsets, scales = (np.repeat(part, self.block_size, 1)[:, :width] for part in (self.offsets, self.scales))
        values: NDArray[np.float32] = (self.codes.astype(np.float32) - offsets) * scales
        return values

    def blobs(self) -> NDArray[np.uint8]:
        """Return MatMulNBits' B: uint8 [out_features, blocks, block_size * bits / 8], short blocks padded."""
        rows, width = self.shape
        blocks = self.scales.shape[1]
        codes = self.codes
        if blocks * self.block_size != width:  # what is multiplied by the padding is zero: any code will do
            codes = np.zeros((rows, blocks * self.block_size), np.uint8)
            codes[:, :width] = self.codes
        packed = codes if self.bits == 8 else pack_nibbles(codes)
        return packed.reshape(rows, blocks, -1)

    def packed_zero_points(self) -> NDArray[np.uint8] | None:
        """Return MatMulNBits' zero points: uint8 [out_features, ceil(blocks * bits / 8)]."""
        if self.zero_points is None or self.bits == 8:
            return self.zero_points
        return pack_nibbles(self.zero_points)


def pack_nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put two codes below 16 into a byte, the first one low: [rows, n] becomes [rows, ceil(n / 2)]."""
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return packed.astype(np.uint8, copy=False)


def unpack_nibbles(packed: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Undo `pack_nibbles` for rows of `width` codes."""
    codes: NDArray[np.uint8] = np.empty((packed.shape[0], packed.shape[1] * 2), np.uint8)
    codes[:, 0::2] = packed & 15
    codes[:, 1::2] = packed >> 4
    return codes[:, :width]
