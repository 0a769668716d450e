"""The exports that the GPU check compares and measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One export: its name in the report, its options, and whether the CPU target has it too, for the rehearsal."""

    name: str
    options: tuple[str, ...]
    is_on_cpu: bool = True
    is_large: bool = True  # also measured at the large shape; the others are compared on the demo model alone
    has_steps: bool = False  # the answers of its graph of steps are compared too
    together: tuple[int, ...] = ()  # how many sequences at once are measured on that at the large shape

    @property
    def is_calibrated(self) -> bool:
        """Whether the export runs the model over a text first."""
        return "--kv" in self.options or "--activations" in self.options

    @property
    def is_quantized(self) -> bool:
        """Whether the export measures a loss, which random weights have no usual size of."""
        return self.is_calibrated or not {"fp16", "bf16"} & {*self.options}


RECIPES = (
    Recipe("fp16", ("--weights", "fp16"), has_steps=True, together=(1, 8, 32)),
    Recipe("int4", ("--weights", "int4", "--method", "rtn"), has_steps=True, together=(1, 2, 4, 8, 16, 32)),
    Recipe("fp8", ("--weights", "fp8")),
    Recipe("int4, KV int8", ("--weights", "int4", "--method", "rtn", "--kv", "int8")),
    Recipe("fp8, KV fp8", ("--weights", "fp8", "--kv", "fp8"), is_on_cpu=False),
    Recipe("fp16, KV int8", ("--weights", "fp16", "--kv", "int8"), is_large=False, has_steps=True),
    Recipe("fp16, KV int8-tensor", ("--weights", "fp16", "--kv", "int8-tensor"), is_large=False),
    Recipe("fp16, KV fp8", ("--weights", "fp16", "--kv", "fp8"), is_on_cpu=False, is_large=False, has_steps=True),
    Recipe("bf16", ("--weights", "bf16"), is_large=False),
    Recipe("int8", ("--weights", "int8"), is_large=False),
    Recipe("int4, KV int8-tensor", ("--weights", "int4", "--method", "rtn", "--kv", "int8-tensor"), is_large=False),
    Recipe("int4, KV fp8", ("--weights", "int4", "--method", "rtn", "--kv", "fp8"), is_on_cpu=False, is_large=False),
    Recipe("fp8, KV int8", ("--weights", "fp8", "--kv", "int8"), is_large=False),
    Recipe("fp8, KV int8-tensor", ("--weights", "fp8", "--kv", "int8-tensor"), is_large=False),
    Recipe("fp8 with fp8 inputs", ("--weights", "fp8", "--activations", "fp8"), is_large=False),
)
