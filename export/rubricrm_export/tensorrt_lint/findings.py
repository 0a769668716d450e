"""What the linter looks at and what it says: a directory with its configurations and tensors, and a finding.

A rule is a function from a directory to its findings: faults that readers accept in silence, or answer with an error
that does not name them. What a reader's code was seen to do is told in the present; where a fault comes from an issue
report, its number is given.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer

from rubricrm_export.checkpoint.files import CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_json_object
from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.tensorrt.support import FORMATS
from rubricrm_export.tensorrt.weight_file import StoredTensor, read_weights_header
from rubricrm_export.tensorrt_lint.foreign_form import foreign_form

_Contents = TypeVar("_Contents")

EXPORT = "Export it with `rubricrm export tensorrt`."
_HF_QUANT_CONFIG = "hf_quant_config.json"
_JUDGED_ALGORITHMS = {row.algorithm for row in FORMATS}


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
        generation_config, tokenizer_config: The files of these names; empty where there are none.
        tensors: Every tensor of every weight file.
        damaged: A finding for each file that cannot be read.
    """

    path: Path
    reader: str
    device: str | None
    config: Mapping[str, Any]
    hf_quant_config: Mapping[str, Any] | None
    generation_config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor] = field(repr=False)
    damaged: tuple[Finding, ...] = ()

    @classmethod
    def open(cls, path: Path, reader: str, device: str | None = None) -> Inspected:
        """Read the configurations and the headers of the weights; files that cannot be read become findings.

        Raises:
            CheckpointInvalid: There are no weights, or no config.json that can be read.
        """
        if not (path / CONFIG).exists():
            raise CheckpointInvalid(f"{path}: has no {CONFIG}. Pass the directory of a quantized checkpoint.")
        config = read_json_object(path / CONFIG)
        damaged: list[Finding] = []
        others = [
            _unless_damaged(read_json_object, path / name, damaged) if (path / name).exists() else None
            for name in (_HF_QUANT_CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG)
        ]
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise CheckpointInvalid(f"{path}: has no *.safetensors. Pass the directory of a quantized checkpoint.")
        tensors: dict[str, StoredTensor] = {}
        for file in files:
            tensors |= _unless_damaged(read_weights_header, file, damaged) or {}
        return cls(path, reader, device, config, others[0], others[1] or {}, others[2] or {}, tensors, (*damaged,))

    @property
    def is_legacy(self) -> bool:
        """Whether it has the form of TensorRT-LLM 1.2."""
        return self.reader == "tensorrt-llm-1.2"

    @cached_property
    def unknown_form(self) -> str | None:
        """What the form of the weights is called, where it is none that is written here; None: it is judged."""
        if self.is_legacy:
            return None
        form = foreign_form(self.path, self.config, has_modelopt_file=self.hf_quant_config is not None)
        if form is not None:
            return f'not in ModelOpt\'s form ("quant_method": "{form}")'
        if self.algorithm is not None and self.algorithm not in _JUDGED_ALGORITHMS:
            return f'in ModelOpt\'s "{self.algorithm}", which is not written here'
        return None

    @property
    def has_readers_form(self) -> bool:
        """Whether config.json is of the form that the reader has: TensorRT-LLM 1.2's own, or Hugging Face's."""
        return not self.is_legacy or "architecture" in self.config

    @cached_property
    def tokenizer(self) -> Tokenizer | str | None:
        """The tokenizer; what the library says of its file, where it does not load; None where there is none."""
        path = self.path / TOKENIZER
        if not path.is_file():
            return None
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            return " ".join(str(error).split())[:200]

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
        if not given or isinstance(given.get("quantization"), dict):
            return _mapping(given.get("quantization"))  # some of ModelOpt's versions repeat the other file
        kv = "FP8" if given.get("kv_cache_scheme") else None
        return {
            "quant_algo": given.get("quant_algo"),
            "kv_cache_quant_algo": kv,
            "exclude_modules": given.get("ignore") or given.get("exclude_modules") or [],
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
        """Return the prefixes of the quantized products of all layers, those with the same inputs together."""
        attention = tuple(f"self_attn.{part}_proj" for part in "qkv")
        groups = [attention, ("self_attn.o_proj",), ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",)]
        prefix = "model.layers"
        if self.is_legacy:
            groups = [("attention.qkv",), ("attention.dense",), ("mlp.fc", "mlp.gate"), ("mlp.proj",)]
            prefix = "transformer.layers"
        found = [
            tuple(name for name in (f"{prefix}.{n}.{part}" for part in group) if not self.is_excluded(name))
            for n in range(self.num_layers)
            for group in groups
        ]
        return [group for group in found if group]

    def is_excluded(self, name: str) -> bool:
        """Whether a product is said to stay floats, or, outside of TensorRT-LLM 1.2's form, is no part of the model."""
        patterns = self.quantization.get("exclude_modules") or []
        if any(fnmatch.fnmatch(name, str(pattern)) for pattern in patterns):
            return True
        return not self.is_legacy and f"{name}.weight" not in self.tensors

    def value(self, name: str) -> float | None:
        """Return a tensor that is one number; None where there is none."""
        stored = self.tensors.get(name)
        if stored is None:
            return None
        if not stored.is_readable:
            return None
        array = stored.array().astype("float64").reshape(-1)
        return float(array[0]) if len(array) == 1 else None


def damaged_file(file: Path, error: CheckpointInvalid) -> Finding:
    """Return the finding of a file that cannot be read."""
    message = str(error.args[0]).removeprefix(f"{file}: ")
    return Finding("damaged-file", f"{file}", message, "No reader opens it.", "Export or download it again.")


def _unless_damaged(read: Callable[[Path], _Contents], file: Path, damaged: list[Finding]) -> _Contents | None:
    try:
        return read(file)
    except CheckpointInvalid as error:
        damaged.append(damaged_file(file, error))
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


Rule = Callable[[Inspected], Iterator[Finding]]
