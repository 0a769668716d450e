"""Which export fits a device, what takes its memory, and how fast a token can be at best.

A decoded token reads all weights and the keys and values of its sequence once, so that it takes at least
(weights + keys and values) / bandwidth. Real runtimes reach a part of that: `ACHIEVED` is what was published for one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rubricrm.errors import OptionInvalid
from rubricrm_export.tensorrt.devices import DeviceFacts

from rubricrm_bench.planned_export import PlannedExport, planned_exports

# Of Edge-LLM 0.9.0 on three Jetsons with Qwen3-4B in INT4, batch 1 (79.6, 53.1 and 31.6 tokens/s): the share of the
# floor that it reached, least and most.
ACHIEVED = (0.70, 0.85)
# What else is needed: runtime, activations, fragments.
_RUNTIME_BYTES = 1_000_000_000
# Of memory that the system shares; what an idle desktop or server process takes.
_SYSTEM_BYTES = 3_000_000_000


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a model that memory and time depend on, and the checkpoint that a command line names."""

    name: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    is_tied: bool
    context_length: int = 40960
    checkpoint: str = "CHECKPOINT"

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Out and in features of the matrices of a layer."""
        query, key_value = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "q_proj": (query, self.hidden_size),
            "k_proj": (key_value, self.hidden_size),
            "o_proj": (self.hidden_size, query),
            "gate_proj": (self.intermediate_size, self.hidden_size),
            "down_proj": (self.hidden_size, self.intermediate_size),
        }

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of all layers."""
        attention = 2 * self.hidden_size * (self.num_heads + self.num_kv_heads) * self.head_dim
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def table_parameters(self) -> int:
        """Weights of the embedding; of the output head as well."""
        return self.vocab_size * self.hidden_size

    def kv_values(self, positions: int) -> int:
        """Return how many numbers are cached for so many positions."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * positions

    @classmethod
    def find(cls, model: str) -> ModelSize:
        """Return a known size by name, or read a config.json.

        Raises:
            OptionInvalid: Neither; or a size is missing.
        """
        if model in SIZES:
            return SIZES[model]
        try:
            config = json.loads(Path(model).read_text("utf-8"))
            sizes = {name: int(config[key]) for name, key in _KEYS.items()}
            head_dim = int(config.get("head_dim") or sizes["hidden_size"] // sizes["num_heads"])
            return cls(
                Path(model).resolve().parent.name,
                **sizes,
                head_dim=head_dim,
                is_tied=bool(config.get("tie_word_embeddings")),
                context_length=int(config.get("max_position_embeddings") or cls.context_length),
                checkpoint=str(Path(model).parent),
            )
        except (OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as error:
            raise OptionInvalid(
                f"model must be one of {', '.join(SIZES)} or a config.json with its sizes, got {model!r} ({error!r})."
            ) from error


_KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "vocab_size": "vocab_size",
}
# Qwen3's; RubricRM-4B is one.
SIZES = {
    "0.6b": ModelSize("0.6b", 1024, 3072, 28, 16, 8, 128, 151936, is_tied=True),
    "1.7b": ModelSize("1.7b", 2048, 6144, 28, 16, 8, 128, 151936, is_tied=True),
    "4b": ModelSize("4b", 2560, 9728, 36, 32, 8, 128, 151936, is_tied=True),
    "8b": ModelSize("8b", 4096, 12288, 36, 32, 8, 128, 151936, is_tied=False),
}


@dataclass(frozen=True)
class Plan:
    """An export on a device.

    Attributes:
        export: What it is.
        command: The command line that writes it.
        weight_bytes: On the device.
        kv_bytes: Of all slots at full context.
        other_bytes: Runtime and, where memory is shared, the system.
        memory_bytes: What the device has.
        floor_ms: A token at the full context of one slot, at best.
        tokens_per_s: At what was achieved elsewhere: least and most.
    """

    export: PlannedExport
    command: str
    weight_bytes: int
    kv_bytes: int
    other_bytes: int
    memory_bytes: int
    floor_ms: float
    tokens_per_s: tuple[float, float]

    @property
    def fits(self) -> bool:
        """Whether everything has room."""
        return self.weight_bytes + self.kv_bytes + self.other_bytes <= self.memory_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "for": self.export.reader,
            "command": self.command,
            "fits": self.fits,
            "memory_bytes": {"weights": self.weight_bytes, "kv": self.kv_bytes, "other": self.other_bytes},
            "floor_ms": self.floor_ms,
            "expected_tokens_per_s": list(self.tokens_per_s),
        }


def make_plans(model: ModelSize, device: DeviceFacts, context: int, slots: int) -> list[Plan]:
    """Return a plan for each export that runs on the device.

    Raises:
        OptionInvalid: A number is out of range.
    """
    for name, value, least in (("context", context, 2), ("slots", slots, 1)):
        if value < least:
            raise OptionInvalid(f"{name} must be at least {least}, got {value}.")
    if context > model.context_length:
        raise OptionInvalid(f"context is {context}, the model's holds {model.context_length} tokens.")
    if not (device.memory_bytes > 0 and 0 < device.bytes_per_s < math.inf):
        raise OptionInvalid("memory and bandwidth must be positive numbers of GB and GB/s.")
    return [_plan(model, device, context, slots, export) for export in planned_exports(device, model.shapes)]


def _plan(model: ModelSize, device: DeviceFacts, context: int, slots: int, export: PlannedExport) -> Plan:
    layers = model.layer_parameters * export.layer_bytes
    embedding = model.table_parameters * export.embedding_bytes
    head = embedding if export.head_bytes is None else model.table_parameters * export.head_bytes
    one_slot = model.kv_values(context) * export.kv_bytes
    # The embedding is looked up, the head is read whole.
    floor_s = (layers + head + one_slot) / device.bytes_per_s
    is_shared = export.head_bytes is None and model.is_tied
    return Plan(
        export=export,
        command=export.command(model.checkpoint, model.name, context, slots),
        weight_bytes=int(layers + embedding + (0 if is_shared else head)),
        kv_bytes=int(one_slot * slots),
        other_bytes=_RUNTIME_BYTES + (_SYSTEM_BYTES if device.is_shared else 0),
        memory_bytes=device.memory_bytes,
        floor_ms=1000 * floor_s,
        tokens_per_s=(ACHIEVED[0] / floor_s, ACHIEVED[1] / floor_s),
    )


def fastest(plans: list[Plan]) -> dict[str, Plan]:
    """Return for each reader the plan that fits and has the lowest floor; readers for which none fits are left out."""
    best: dict[str, Plan] = {}
    for plan in plans:
        reader = plan.export.reader
        if plan.fits and (reader not in best or plan.floor_ms < best[reader].floor_ms):
            best[reader] = plan
    return best


def to_dict(model: ModelSize, device: DeviceFacts, plans: list[Plan]) -> Mapping[str, Any]:
    """Return what `--json` prints."""
    return {
        "model": model.name,
        "device": device.name,
        "memory_bytes": device.memory_bytes,
        "bytes_per_s": device.bytes_per_s,
        "source": device.source,
        "fastest": {reader: plan.command for reader, plan in fastest(plans).items()},
        "plans": [plan.to_dict() for plan in plans],
    }
