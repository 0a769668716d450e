"""Which recipe fits a device, what takes its memory, and how fast a token can be at best.

A decoded token reads all weights and the keys and values of its sequence once, so that it takes at least
(weights + keys and values) / bandwidth. Real runtimes reach a part of that: `ACHIEVED` is what was published for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rubricrm.errors import OptionInvalid

from rubricrm_bench.devices import Device

# Of Edge-LLM 0.9.0 on three Jetsons with Qwen3-4B in INT4, batch 1 (79.6, 53.1 and 31.6 tokens/s): the share of the
# floor that it reached, least and most.
ACHIEVED = (0.70, 0.85)
# What else is needed: runtime, activations, fragments.
_RUNTIME_BYTES = 1_000_000_000
# Of memory that the system shares; what an idle desktop or server process takes.
_SYSTEM_BYTES = 3_000_000_000


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a model that memory and time depend on."""

    name: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    is_tied: bool

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
class Recipe:
    """How many bytes a number takes.

    Attributes:
        name: What it is called.
        layer_bytes: A weight of the layers, scales included.
        table_bytes: A weight of embedding and head.
        kv_bytes: A key or value.
        options: Of the export.
    """

    name: str
    layer_bytes: float
    table_bytes: float
    kv_bytes: int
    options: str


RECIPES = (
    Recipe("fp16", 2, 2, 2, "--weights fp16"),
    Recipe("fp8", 1, 2, 1, "--weights fp8 --kv fp8"),
    Recipe("int8", 1 + 2 / 32, 1 + 2 / 32, 2, "--weights int8"),
    # In 4 bits with a 16-bit scale and a zero point a block.
    Recipe("int4", (4 + 16 / 128 + 4 / 128) / 8, 2, 2, "--weights int4 --head model"),
    Recipe("int4, head too", (4 + 16 / 128 + 4 / 128) / 8, (4 + 16 / 32 + 4 / 32) / 8, 2, "--weights int4"),
)


@dataclass(frozen=True)
class Plan:
    """A recipe on a device.

    Attributes:
        recipe: What it is.
        weight_bytes: On the device.
        kv_bytes: Of all slots at full context.
        other_bytes: Runtime and, where memory is shared, the system.
        memory_bytes: What the device has.
        floor_ms: A token at the full context of one slot, at best.
        tokens_per_s: At what was achieved elsewhere: least and most.
    """

    recipe: Recipe
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
            "recipe": self.recipe.name,
            "options": self.recipe.options,
            "fits": self.fits,
            "memory_bytes": {"weights": self.weight_bytes, "kv": self.kv_bytes, "other": self.other_bytes},
            "floor_ms": self.floor_ms,
            "expected_tokens_per_s": list(self.tokens_per_s),
        }


def make_plans(model: ModelSize, device: Device, context: int, slots: int) -> list[Plan]:
    """Return a plan for each recipe, in the order of `RECIPES`.

    Raises:
        OptionInvalid: A number is out of range.
    """
    for name, value in (("context", context), ("slots", slots)):
        if value < 1:
            raise OptionInvalid(f"{name} must be at least 1, got {value}.")
    if device.memory_bytes <= 0 or device.bytes_per_s <= 0:
        raise OptionInvalid("memory and bandwidth must be positive numbers of GB and GB/s.")
    return [_plan(model, device, context, slots, recipe) for recipe in RECIPES]


def _plan(model: ModelSize, device: Device, context: int, slots: int, recipe: Recipe) -> Plan:
    layers = model.layer_parameters * recipe.layer_bytes
    tables = model.table_parameters * recipe.table_bytes
    one_slot = model.kv_values(context) * recipe.kv_bytes
    # The embedding is looked up, the head is read whole: the same bytes where they are tied.
    floor_s = (layers + tables + one_slot) / device.bytes_per_s
    return Plan(
        recipe=recipe,
        weight_bytes=int(layers + tables * (1 if model.is_tied else 2)),
        kv_bytes=one_slot * slots,
        other_bytes=_RUNTIME_BYTES + (_SYSTEM_BYTES if device.is_shared else 0),
        memory_bytes=device.memory_bytes,
        floor_ms=1000 * floor_s,
        tokens_per_s=(ACHIEVED[0] / floor_s, ACHIEVED[1] / floor_s),
    )


def fastest(plans: list[Plan]) -> Plan | None:
    """Return the plan that fits and has the lowest floor."""
    return min((plan for plan in plans if plan.fits), key=lambda plan: plan.floor_ms, default=None)


def to_dict(model: ModelSize, device: Device, plans: list[Plan]) -> Mapping[str, Any]:
    """Return what `--json` prints."""
    best = fastest(plans)
    return {
        "model": model.name,
        "device": device.name,
        "memory_bytes": device.memory_bytes,
        "bytes_per_s": device.bytes_per_s,
        "source": device.source,
        "fastest": None if best is None else best.recipe.name,
        "plans": [plan.to_dict() for plan in plans],
    }
