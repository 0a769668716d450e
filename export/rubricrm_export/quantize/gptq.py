"""GPTQ: a column of weights is rounded so that it makes up for the errors of those before it.

Frantar et al., arXiv 2210.17323, in the form of a nearest plane (Chen et al., arXiv 2507.18553). With the second moment
of the inputs H = L L^T and errors e of a row of weights, the error of its output is

    e H e^T = sum over j of (e_j L_jj + sum over i > j of e_i L_ij)^2,

which is made small one j at a time, from the last column to the first: column j is rounded after
`sum over i > j of e_i L_ij / L_jj` was added to it. It is the same algorithm as the paper's, backwards, and takes one
Cholesky factor and no inverse. The grid of each block is chosen before, with its errors weighted by the inputs'
squares.

The inputs come from layers that are quantized already, and differ from those of the float model. As in GPTAQ (Li et
al., arXiv 2504.02692) the weights are first moved to where they give the float model's outputs on the quantized model's
inputs: the least squares of `W' x = W x_float`. Half of that way, `SHIFT`, was measured best: all of it trusts the
sample too much.

Columns keep their order: activation order (largest inputs first) gained nothing, see docs/QUANTIZATION.md.
Costs out_features * in_features^2 multiplications a matrix; holds a few matrices [in_features, in_features].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.errors import ExportFailed
from rubricrm_export.quantize.grid import Grid, IntegerGrid, split_blocks
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.moments import Moments

Float = NDArray[np.float32]

# Part of the mean square of the inputs that is added to each: the calibration text is a sample. (GPTQ, section 3.3)
DAMPING = 0.01
# Part of the way to the weights that undo the errors of the layers before.
SHIFT = 0.5
# Columns whose errors are carried over one by one; those of the columns before are one matrix product.
_COLUMNS = 64


def round_with_feedback(weight: Float, moments: Moments, grid: Grid) -> QuantizedMatrix:
    """Round a matrix [out_features, in_features] by GPTQ.

    Raises:
        ExportFailed: The inputs' moments have no Cholesky factor.
    """
    assert isinstance(grid, IntegerGrid)
    width = grid.width(weight.shape[1])
    importance = np.diagonal(moments.second)
    factor = _cholesky(moments.second)
    if moments.cross is not None:
        weight = _shifted(weight, moments.cross - moments.second, factor)
    cost = split_blocks(importance[None], width)
    scales, zero_points = grid.parameters(split_blocks(weight, width), cost, grid.clips)
    codes = _nearest_plane(weight, factor, grid, scales, zero_points)
    return grid.matrix(codes, scales, zero_points)


def _cholesky(second: Float) -> Float:
    """Return L [in_features, in_features], lower triangular, of the damped moments L L^T."""
    damped = second.copy()
    diagonal = np.einsum("ii->i", damped)
    # An input that never occurs has an empty row and column: any weight will do, the nearest is taken.
    diagonal += np.float32(DAMPING) * np.maximum(diagonal.mean(), np.float32(1e-30))
    try:
        factor: Float = np.linalg.cholesky(damped)
    except np.linalg.LinAlgError as error:
        raise _no_factor(str(error)) from error
    if not np.isfinite(np.diagonal(factor)).all():  # numpy returns NaN for NaN
        raise _no_factor("they are not finite")
    return factor


def _no_factor(reason: str) -> ExportFailed:
    return ExportFailed(
        f"gptq: the second moments of a matrix's inputs have no Cholesky factor ({reason}), expected positive ones. "
        "Pass another --calibration text, or use --method rtn."
    )


def _shifted(weight: Float, difference: Float, factor: Float) -> Float:
    """Return W + SHIFT * W (cross - second) (L L^T)^-1.

    Two triangular systems, block by block: numpy solves only general ones, at twice the cost.
    """
    x: Float = np.ascontiguousarray((weight @ difference).T)
    starts = range(0, len(x), _COLUMNS)
    for start in starts:
        rows = slice(start, start + _COLUMNS)
        x[rows] = np.linalg.solve(factor[rows, rows], x[rows] - factor[rows, :start] @ x[:start])
    for start in reversed(starts):
        rows, after = slice(start, start + _COLUMNS), slice(start + _COLUMNS, None)
        x[rows] = np.linalg.solve(factor[rows, rows].T, x[rows] - factor[after, rows].T @ x[after])
    return weight + np.float32(SHIFT) * x.T


def _nearest_plane(weight: Float, factor: Float, grid: IntegerGrid, scales: Float, zero_points: Float) -> Float:
    """Return codes [out_features, in_features], as float32."""
    size = grid.width(weight.shape[1])
    # Column by column, so that a column is contiguous.
    columns, codes = np.ascontiguousarray(weight.T), np.empty(weight.shape[::-1], np.float32)
    errors = np.empty_like(columns)
    scales, zero_points = np.ascontiguousarray(scales.T), np.ascontiguousarray(zero_points.T)
    for stop in range(len(columns), 0, -_COLUMNS):
        start = max(0, stop - _COLUMNS)
        carried = factor[stop:, start:stop].T @ errors[stop:]
        for column in range(stop - 1, start - 1, -1):
            wanted = columns[column] + carried[column - start] / factor[column, column]
            scale, zero_point = scales[column // size], zero_points[column // size]
            codes[column] = grid.codes(wanted, scale, zero_point)
            errors[column] = columns[column] - (codes[column] - zero_point) * scale
            carried[: column - start] += factor[column, start:column, None] * errors[column]
    return np.ascontiguousarray(codes.T)
