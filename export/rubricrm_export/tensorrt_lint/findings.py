"""What the linter looks at and what it says: a directory with its configurations and tensors, and a finding.

A rule is a function from a directory to its findings: faults that readers accept in silence, or answer with an error
that does not name them. What a reader's code was seen to do is told in the present; where a fault comes from an issue
report, its number is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rubricrm_export.checkpoint.files import read_json_object
from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.tensorrt.weight_file import StoredTensor, read_weights_header


@dataclass(frozen=True)
class Finding:
    """A fault of a directory.

    Attributes:
        rule: Its name, which never changes.
        where: The file and key, or the tensor.
        message: What was found and what was expected.
        reason: What the reader would do with it.
        remedy: What to do.
        is_error: Whether the directory must not be used; else it is worth knowing.
    """

    rule: str
    where: str
    message: str
    reason: str
    remedy: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"[{self.rule}] {self.where}: {self.message} {self.reason} {self.remedy}"


@dataclass(frozen=True)
class Inspected:
    """A directory that is looked at.

    Attributes:
        path: The directory.
        reader: Who is to read it.
        device: The GPU it is for; None: any.
        config: config.json.
        hf_quant_config: hf_quant_config.json; None where there is none.
        tensors: Every tensor of every weight file.
    """

    path: Path
    reader: str
    device: str | None
    config: Mapping[str, Any]
    hf_quant_config: Mapping[str, Any] | None
    tensors: Mapping[str, StoredTensor] = field(repr=False)

    @classmethod
    def open(cls, path: Path, reader: str, device: str | None = None) -> Inspected:
        """Read the configurations and the headers of the weights.

        Raises:
            CheckpointInvalid: A file is missing or cannot be read.
        """
        config = _json(path / "config.json")
        if config is None:
            raise CheckpointInvalid(f"{path}: has no config.json. Pass the directory of a quantized checkpoint.")
        tensors: dict[str, StoredTensor] = {}
        for file in sorted(path.glob("*.safetensors")):
            tensors |= read_weights_header(file)
        if not tensors:
            raise CheckpointInvalid(f"{path}: has no *.safetensors. Pass the directory of a quantized checkpoint.")
        return cls(path, reader, device, config, _json(path / "hf_quant_config.json"), tensors)

    @property
    def is_legacy(self) -> bool:
        """Whether it has the form of TensorRT-LLM 1.2."""
        return self.reader == "tensorrt-llm-1.2"

    @cached_property
    def quantization(self) -> Mapping[str, Any]:
        """What is quantized, in hf_quant_config.json's words; from the embedded copy where that file is missing."""
        if self.is_legacy:
            return _mapping(self.config.get("quantization"))
        if self.hf_quant_config is not None:
            return _mapping(self.hf_quant_config.get("quantization"))
        return self.embedded

    @cached_property
    def embedded(self) -> Mapping[str, Any]:
        """`quantization_config` of config.json, translated; empty where there is none."""
        given = _mapping(self.config.get("quantization_config"))
        if not given:
            return {}
        kv = "FP8" if given.get("kv_cache_scheme") else None
        return {
            "quant_algo": given.get("quant_algo"),
            "kv_cache_quant_algo": kv,
            "exclude_modules": given.get("ignore") or [],
        }

    @property
    def algorithm(self) -> str | None:
        """What the weights are said to be; None: floats."""
        found = self.quantization.get("quant_algo")
        return found if isinstance(found, str) else None

    @property
    def kv(self) -> str | None:
        """What the KV cache is said to be; None: the model's type."""
        found = self.quantization.get("kv_cache_quant_algo")
        return found if isinstance(found, str) else None

    @property
    def num_layers(self) -> int:
        """Layers."""
        return self.number("num_hidden_layers") or 0

    def number(self, key: str) -> int | None:
        """Return a whole number of config.json, None where it is none."""
        value = self.config.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def linears(self) -> list[tuple[str, ...]]:
        """Return the prefixes of the products of all layers, those with the same inputs together."""
        if self.is_legacy:
            groups = [("attention.qkv",), ("attention.dense",), ("mlp.fc", "mlp.gate"), ("mlp.proj",)]
            return [
                tuple(f"transformer.layers.{n}.{name}" for name in names)
                for n in range(self.num_layers)
                for names in groups
            ]
        attention = tuple(f"self_attn.{part}_proj" for part in "qkv")
        groups = [attention, ("self_attn.o_proj",), ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",)]
        return [tuple(f"model.layers.{n}.{name}" for name in names) for n in range(self.num_layers) for names in groups]

    def value(self, name: str) -> float | None:
        """Return a tensor that is one number; None where there is none."""
        stored = self.tensors.get(name)
        if stored is None:
            return None
        array = stored.array().astype("float64").reshape(-1)
        return float(array[0]) if len(array) == 1 else None


def _json(path: Path) -> dict[str, object] | None:
    return read_json_object(path) if path.exists() else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


Rule = Callable[[Inspected], Iterator[Finding]]
