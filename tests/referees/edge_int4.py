"""Unpacks the INT4 products of a graph by Edge-LLM: its own packing is run on the places, and turned round.

edge_int4.py MODEL.onnx OUTPUT.npz
"""

import sys

import numpy as np
import onnx
from onnx import numpy_helper
from tensorrt_edgellm.checkpoint.repacking import repack_to_cutedsl_fragment

DIGITS = 4  # a place in four digits of 16: matrices of up to 65,536 weights


def order(rows: int, width: int) -> np.ndarray:
    """Return, for each nibble of the packed bytes (low one first), its place in the matrix."""
    places = np.arange(rows * width)
    found = np.zeros(rows * width, np.int64)
    for digit in range(DIGITS):
        nibbles = (places >> (4 * digit) & 15).astype(np.int16).reshape(rows, width)
        packed = repack_to_cutedsl_fragment(nibbles).view(np.uint8).reshape(-1)
        found += np.stack([packed & 15, packed >> 4], 1).reshape(-1).astype(np.int64) << (4 * digit)
    assert sorted(found.tolist()) == places.tolist()
    return found


def main() -> None:
    """Write the dequantized matrices [out, in] under the names of the nodes' outputs."""
    model = onnx.load(sys.argv[1])
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    matrices = {}
    for node in model.graph.node:
        if node.op_type != "Int4GroupwiseGemmPluginV2":
            continue
        facts = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        rows, width = facts["gemm_n"], facts["gemm_k"]
        packed = numpy_helper.to_array(tensors[node.input[1]]).view(np.uint8).reshape(-1)
        scales = numpy_helper.to_array(tensors[node.input[2]]).astype(np.float32)  # [groups, out]
        codes = np.empty(rows * width, np.int64)
        codes[order(rows, width)] = np.stack([packed & 15, packed >> 4], 1).reshape(-1)
        values = (codes.reshape(rows, width) - 8) * np.repeat(scales.T, facts["group_size"], 1)
        matrices[node.output[0]] = values.astype(np.float32)
    np.savez(sys.argv[2], **matrices)


if __name__ == "__main__":
    main()
