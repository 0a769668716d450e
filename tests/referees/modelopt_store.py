"""Stores a checkpoint's weights by nvidia-modelopt's own functions, on the scales of a directory of ours.

modelopt_store.py CHECKPOINT DIRECTORY ALGORITHM OUTPUT.safetensors
"""

import sys
from pathlib import Path

from modelopt.torch.export import quant_utils
from safetensors.torch import load_file, save_file

FORMATS = {
    "FP8": quant_utils.QUANTIZATION_FP8,
    "W8A16": quant_utils.QUANTIZATION_INT8_WO,
    "W8A8_SQ_PER_CHANNEL": quant_utils.QUANTIZATION_INT8_SQ,
    "W4A16_AWQ": quant_utils.QUANTIZATION_INT4_AWQ,
}


def main() -> None:
    """Write every quantized weight under its name."""
    checkpoint, directory, algorithm, output = sys.argv[1:]
    exact, ours = ({}, {})
    for path, tensors in ((checkpoint, exact), (directory, ours)):
        for file in sorted(Path(path).glob("*.safetensors")):
            tensors.update(load_file(file))
    stored = {}
    for name, scale in ours.items():
        if name.endswith(".weight_scale"):
            weight = name.removesuffix("_scale")
            stored[weight] = quant_utils.to_quantized_weight(exact[weight].float(), scale, FORMATS[algorithm])
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, output)


if __name__ == "__main__":
    main()
