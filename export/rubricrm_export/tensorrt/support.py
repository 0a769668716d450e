"""Which reader runs which weights and KV cache on which device, and what each of them is called in its files.

Sources: TensorRT-LLM's documents on quantization and its legacy checkpoint format, the loaders of TensorRT-LLM (PyTorch
backend), vLLM and TensorRT Edge-LLM 0.11, and the platforms that Edge-LLM's documents list. Nothing here was run on a
GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rubricrm.errors import OptionInvalid

from rubricrm_export.tensorrt.devices import DEVICES
from rubricrm_export.tensorrt.option_values import KV_CACHES, READERS, WEIGHTS
from rubricrm_export.tensorrt.stored_form import FLOATS, FLOATS_TO_ROUND, FP8, W4A16, W8A8, W8A16, StoredForm

GROUP_SIZE = 128  # inputs that share a scale of W4A16_AWQ; the readers' default, and the only one their kernels share


@dataclass(frozen=True)
class Format:
    """How a reader stores the matrices of the layers.

    Attributes:
        reader: One of `READERS`.
        weights: One of `WEIGHTS`.
        form: What the matrices are stored as.
        methods: How weights can be rounded, the default first; empty where the reader rounds floats itself.
        kv_caches: Of `KV_CACHES`.
        heads: What the output head can be stored in, the default first.
    """

    reader: str
    weights: str
    form: StoredForm
    methods: tuple[str, ...]
    kv_caches: tuple[str, ...]
    heads: tuple[str, ...] = ("model",)

    @property
    def algorithm(self) -> str | None:
        """The reader's `quant_algo`; None for floats."""
        return self.form.algorithm


_HF_KV = ("model", "fp8")  # ModelOpt's form has no INT8 cache
_CALIBRATED = ("gptq", "awq", "rtn")

FORMATS = (
    Format("tensorrt-llm", "fp16", FLOATS, (), _HF_KV),
    Format("tensorrt-llm", "bf16", FLOATS, (), _HF_KV),
    Format("tensorrt-llm", "fp8", FP8, ("rtn",), _HF_KV),
    Format("tensorrt-llm", "int8", W8A16, ("rtn",), _HF_KV),
    Format("tensorrt-llm", "int4", W4A16, _CALIBRATED, _HF_KV),
    Format("tensorrt-llm-1.2", "fp16", FLOATS, (), KV_CACHES),
    Format("tensorrt-llm-1.2", "bf16", FLOATS, (), KV_CACHES),
    Format("tensorrt-llm-1.2", "fp8", FP8, ("rtn",), KV_CACHES),
    Format("tensorrt-llm-1.2", "int8", FLOATS_TO_ROUND, (), KV_CACHES),
    Format("tensorrt-llm-1.2", "int4", W4A16, _CALIBRATED, KV_CACHES),
    Format("edge-llm", "fp16", FLOATS, (), _HF_KV),
    Format("edge-llm", "fp8", FP8, ("rtn",), _HF_KV, ("model", "fp8")),
    Format("edge-llm", "int8", W8A8, ("smoothquant", "rtn"), _HF_KV),
    # Its exporter drops an FP8 cache beside INT4 weights.
    Format("edge-llm", "int4", W4A16, _CALIBRATED, ("model",), ("model", "int4")),
    Format("vllm", "fp16", FLOATS, (), ("model",)),
    Format("vllm", "bf16", FLOATS, (), ("model",)),
    Format("vllm", "fp8", FP8, ("rtn",), _HF_KV),
)

# Why a pair is not among the formats, where a user would look for it.
_REASONS = {
    ("edge-llm", "bf16"): "its graphs compute in FP16: pass --weights fp16",
    ("vllm", "int8"): "it does not read ModelOpt's W8A16: pass --weights fp8",
    ("vllm", "int4"): "it does not read ModelOpt's W4A16_AWQ: pass --weights fp8, or --for tensorrt-llm",
}


@dataclass(frozen=True)
class Choice:
    """A format with the options it leaves open; make one with `choose`."""

    format: Format
    kv: str
    method: str
    head: str
    device: str | None


def choose(
    reader: str,
    weights: str,
    *,
    kv: str = "model",
    device: str | None = None,
    method: str | None = None,
    head: str | None = None,
) -> Choice:
    """Check options together and fill in what was left out.

    Raises:
        OptionInvalid: The reader or the device cannot run that; the message lists what the reader can.
    """
    require_known(reader, device)
    _require_one_of("weights", weights, WEIGHTS)
    _require_one_of("kv", kv, KV_CACHES)
    found = next((row for row in FORMATS if (row.reader, row.weights) == (reader, weights)), None)
    if found is None:
        raise _refused(reader, f"--weights {weights}", _REASONS[reader, weights])
    reason = refusal(found, kv, device)
    if reason is not None:
        asked = f"--weights {weights} --kv {kv}" + (f" --device {device}" if device else "")
        raise _refused(reader, asked, reason)
    for option, given, allowed in (("method", method, found.methods), ("head", head, found.heads)):
        if given is not None and given not in allowed:
            has = f"it has: {', '.join(allowed)}" if allowed else "the reader rounds them itself, or keeps them"
            raise OptionInvalid(f"--{option} {given} cannot be used by --for {reader} --weights {weights}; {has}.")
    return Choice(found, kv, method or next(iter(found.methods), "none"), head or "model", device)


def require_known(reader: str, device: str | None) -> None:
    """Check the names of a reader and a device.

    Raises:
        OptionInvalid: There is none of that name.
    """
    _require_one_of("for", reader, READERS)
    if device is not None:
        _require_one_of("device", device, tuple(DEVICES))


def _require_one_of(option: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise OptionInvalid(f"{option} must be one of {', '.join(values)}, got {value!r}.")


def refusal(found: Format, kv: str, device: str | None) -> str | None:
    """Return why a format cannot be run with a KV cache on a device; None where it can, or no device is named."""
    if kv not in found.kv_caches:
        return _kv_refusal(found.reader, kv)
    if device is None:
        return None
    facts = DEVICES[device]
    if found.reader not in facts.readers:
        if found.reader == "edge-llm":
            return "Edge-LLM ships no library for that GPU: use --for tensorrt-llm there"
        return "TensorRT-LLM does not list Jetson among its platforms: use --for edge-llm there"
    if "fp8" in (found.weights, kv) and not facts.has_fp8:
        return f"{device} has no FP8 (compute capability {facts.capability / 10}, FP8 begins at 8.9): pass another type"
    return None


def width_refusal(found: Format, shapes: Mapping[str, tuple[int, int]]) -> str | None:
    """Return why a format cannot hold matrices of these shapes (out and in features by name); None where it can."""
    if found.form is not W4A16:
        return None
    for name, (rows, width) in shapes.items():
        if width % GROUP_SIZE or rows % 2:
            return (
                f"{name} has {width} inputs and {rows} outputs; --weights int4 stores groups of {GROUP_SIZE} inputs "
                "and pairs of outputs. Pass --weights fp8 or int8"
            )
    return None


def _kv_refusal(reader: str, kv: str) -> str:
    if kv == "int8":
        return "only TensorRT-LLM 1.2 reads an INT8 KV cache: pass --kv fp8 or --kv model"
    if reader == "edge-llm":
        return "Edge-LLM 0.11 drops an FP8 KV cache beside INT4 weights, without a message: pass --kv model"
    return "it refuses a checkpoint that quantizes the KV cache alone: pass --weights fp8, or --kv model"


def describe_formats(readers: tuple[str, ...] = READERS) -> str:
    """Return the table of what can be run, a line for each reader, weights and KV cache."""
    lines = [f"{'for':17} {'weights':8} {'kv':6} {'stored as':20} devices"]
    lines += [
        f"{row['for']:17} {row['weights']:8} {row['kv']:6} {row['algorithm']:20} {', '.join(row['devices'])}"
        for row in supported(readers)
    ]
    return "\n".join(lines)


def formats_of(reader: str, device: str | None) -> list[tuple[Format, str]]:
    """Return the formats of a reader, each with a KV cache, that run on a device; None: on any."""
    pairs = [(row, kv) for row in FORMATS if row.reader == reader for kv in row.kv_caches]
    return [(row, kv) for row, kv in pairs if refusal(row, kv, device) is None]


def supported(readers: tuple[str, ...] = READERS) -> list[dict[str, Any]]:
    """Return a row for each reader, weights and KV cache that go together, with the devices that run them."""
    return [
        {
            "for": row.reader,
            "weights": row.weights,
            "kv": kv,
            "algorithm": row.algorithm or "floats",
            "methods": list(row.methods),
            "heads": list(row.heads),
            "devices": [device for device in DEVICES if refusal(row, kv, device) is None],
        }
        for reader in readers
        for row, kv in formats_of(reader, None)
    ]


def _refused(reader: str, asked: str, reason: str) -> OptionInvalid:
    return OptionInvalid(f"--for {reader} cannot run {asked}: {reason}.\nIt can run:\n{describe_formats((reader,))}")
