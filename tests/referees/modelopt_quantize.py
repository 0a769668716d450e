"""Quantizes a checkpoint with nvidia-modelopt on the CPU, to compare ours with. Runs in an environment of its own.

modelopt_quantize.py CHECKPOINT FORMAT SEQUENCES.json OUTPUT
"""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from transformers import AutoModelForCausalLM

FORMATS = {
    "fp8": mtq.FP8_DEFAULT_CFG,
    "int8": mtq.INT8_SMOOTHQUANT_CFG,
    "int4": mtq.INT4_BLOCKWISE_WEIGHT_ONLY_CFG,
    "int4-awq": mtq.INT4_AWQ_CFG,
}


def main() -> None:
    checkpoint, name, sequences, output = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto").eval()
    config: Any = deepcopy(FORMATS[name.removesuffix("-kv")])
    if name.endswith("-kv"):
        config = mtq.utils.update_quant_cfg_with_kv_cache_quant(config, mtq.FP8_KV_CFG["quant_cfg"])

    def run(quantized: torch.nn.Module) -> None:
        with torch.no_grad():
            for ids in json.loads(Path(sequences).read_text()):
                quantized(torch.tensor([ids]))

    model = mtq.quantize(model, config, run)
    export_hf_checkpoint(model, export_dir=output)


if __name__ == "__main__":
    main()
