"""A checkpoint becomes a directory for TensorRT-LLM, Edge-LLM or vLLM: the work behind `rubricrm export tensorrt`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import describe_file
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.manifest import REQUEST_FIELD

from rubricrm_export.checkpoint.checkpoint import Checkpoint, checkpoint_digests
from rubricrm_export.checkpoint.files import CONFIG, GENERATION_CONFIG
from rubricrm_export.checkpoint.hub import resolve_checkpoint
from rubricrm_export.onnx_bundle.plan import ExportPlan, make_plan
from rubricrm_export.quantize.grid import IntegerGrid
from rubricrm_export.quantize.scheme import Scheme
from rubricrm_export.system.progress_bar import Progress, no_progress
from rubricrm_export.system.published_directory import check_output, check_space, whole_directory
from rubricrm_export.tensorrt import commands
from rubricrm_export.tensorrt.config_files import hf_quant_config, llm_config, unified_config
from rubricrm_export.tensorrt.directory import DIRECTORY_FILE, TensorRTDirectory
from rubricrm_export.tensorrt.float_type import BF16, FP16, FloatType
from rubricrm_export.tensorrt.job import EngineLimits, TensorRTExport
from rubricrm_export.tensorrt.layout import (
    LLM_SCALES,
    UNIFIED_SCALES,
    Parts,
    llm_tensors,
    unified_tensors,
)
from rubricrm_export.tensorrt.linear import (
    FloatStorage,
    Fp8Storage,
    IntegerOptions,
    IntegerStorage,
    LayerWeights,
    Linear,
    Storage,
)
from rubricrm_export.tensorrt.model_weights import ModelWeights, open_weights
from rubricrm_export.tensorrt.support import GROUP_SIZE, Choice
from rubricrm_export.tensorrt.weight_file import WeightTensor, split_files, write_weights
from rubricrm_export.tensorrt_lint.linter import require_sound

Float = NDArray[np.float32]

_FILE_BYTES = 4 << 30
_LEGACY = "tensorrt-llm-1.2"
# Of the checkpoint's files, what a reader opens. Not the card: the directory gets its own.
_COPIED = (
    GENERATION_CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
)
# The inputs of these two may be scaled before the product; those of the others come out of a norm.
_SCALED_INPUTS = ("o_proj", "down_proj", "attention.dense", "mlp.proj")


def export_tensorrt(job: TensorRTExport, on_progress: Progress | None = None) -> TensorRTDirectory:
    """Write a directory, check it by the linter, and only then give it its name.

    Memory: without calibration a few blocks of rows; with it as for an export to ONNX.

    Args:
        job: What to export.
        on_progress: Gets what is being done, how much of it is done, and how much there is.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound; nothing was left at the target.
    """
    report = on_progress or no_progress
    choice = job.choice()
    check_output(job.output, force=job.force, marker=DIRECTORY_FILE)
    resolved = resolve_checkpoint(job.source, job.revision)
    with Checkpoint.open(resolved.path) as checkpoint:
        require_widths(checkpoint, choice)
        context = checkpoint.architecture.context_length
        limits = EngineLimits.of(context, job.max_batch_size, job.max_input_len, job.max_seq_len)
        plan = make_plan(job.calibrating(), resolved, checkpoint)
        plan = replace(plan, scheme=scheme_of(choice, plan.scheme.float_weights))
        with open_weights(job, choice, plan, checkpoint, report) as weights:
            _write(job, choice, limits, plan, checkpoint, weights, report)
    return TensorRTDirectory.open(job.output)


def require_widths(checkpoint: Checkpoint, choice: Choice) -> None:
    """Refuse a model whose matrices the format cannot hold.

    Raises:
        OptionInvalid: Groups of 128 inputs do not divide a matrix, or its rows cannot be put in pairs.
    """
    if choice.format.weights != "int4":
        return
    for name, shape in checkpoint.architecture.tensor_shapes(tied=True).items():
        if len(shape) == 2 and name.startswith("model.layers.0.") and (shape[1] % GROUP_SIZE or shape[0] % 2):
            raise OptionInvalid(
                f"{checkpoint.path}: {name} has {shape[1]} inputs and {shape[0]} outputs; --weights int4 stores groups "
                f"of {GROUP_SIZE} inputs and pairs of outputs. Pass --weights fp8 or int8."
            )


def scheme_of(choice: Choice, float_weights: str) -> Scheme:
    """Return what calibration does for a format."""
    row = choice.format
    stores_floats = not row.methods
    return Scheme(
        target="cpu",  # scales in float32
        weights=float_weights if stores_floats else row.weights,
        activations=row.activations,
        kv={"int8": "int8-tensor"}.get(choice.kv, choice.kv),
        method=choice.method,
        block_size=GROUP_SIZE if row.weights == "int4" else None,
        symmetric=True,
        head="model",
        float_weights=float_weights,
    )


def float_type(choice: Choice, stored: str) -> FloatType:
    """Return the type of what is not quantized: as asked, or as stored; Edge-LLM computes in FP16 alone."""
    if choice.format.weights in ("fp16", "bf16"):
        return FP16 if choice.format.weights == "fp16" else BF16
    return FP16 if choice.format.reader == "edge-llm" or stored == "fp16" else BF16


# --- Files


def _write(
    job: TensorRTExport,
    choice: Choice,
    limits: EngineLimits,
    plan: ExportPlan,
    checkpoint: Checkpoint,
    weights: ModelWeights,
    on_progress: Progress,
) -> None:
    floats = float_type(choice, plan.scheme.float_weights)
    tensors = _tensors(choice, checkpoint, weights, floats)
    num_bytes = sum(tensor.num_bytes for tensor in tensors)
    check_space(job.output, num_bytes)
    with whole_directory(job.output, force=job.force, marker=DIRECTORY_FILE) as directory:
        report = _counted(partial(on_progress, "Writing weights"), num_bytes)
        is_legacy = choice.format.reader == _LEGACY
        has_factors = any(tensor.name.endswith("quant_scale") for tensor in tensors)
        if is_legacy:
            tied = checkpoint.tied
            config = llm_config(checkpoint.architecture, choice, floats.name, tied=tied, has_factors=has_factors)
            write_weights(directory / "rank0.safetensors", tensors, {}, report)
        else:
            config = unified_config(checkpoint.config, checkpoint.architecture, choice, floats.name)
            config["tie_word_embeddings"] = checkpoint.tied and choice.head == "model"
            _write_shards(directory, tensors, report)
            if choice.format.algorithm or choice.kv != "model":
                _write_json(directory / "hf_quant_config.json", hf_quant_config(choice, has_factors=has_factors))
        _write_json(directory / CONFIG, config)
        for name in checkpoint.files:
            if name in _COPIED:
                shutil.copyfile(checkpoint.path / name, directory / name)
        for name, text in commands.files(choice, limits, plan.manifest).items():
            (directory / name).write_text(text, "utf-8")
            (directory / name).chmod(0o755 if name.endswith(".sh") else 0o644)
        require_sound(directory, choice.format.reader, job.device)
        _describe(job, choice, limits, plan, checkpoint, directory)


def _tensors(choice: Choice, checkpoint: Checkpoint, weights: ModelWeights, floats: FloatType) -> list[WeightTensor]:
    is_legacy = choice.format.reader == _LEGACY
    stored = FloatStorage(checkpoint, floats)
    parts = Parts(
        checkpoint,
        norms=weights.norms(),
        kv_scales=[] if choice.kv == "model" else weights.kv_scales(),
        matrices=_storage(choice, checkpoint, weights, floats),
        head=_head(choice, checkpoint, weights, floats, stored),
        float_type=floats,
    )
    return llm_tensors(parts) if is_legacy else unified_tensors(parts)


def _head(
    choice: Choice, checkpoint: Checkpoint, weights: ModelWeights, floats: FloatType, stored: FloatStorage
) -> Storage | None:
    if choice.head != "model":
        return _storage(choice, checkpoint, weights, floats)
    return None if checkpoint.tied else stored


def _storage(choice: Choice, checkpoint: Checkpoint, weights: LayerWeights, floats: FloatType) -> Storage:
    """Return how a format stores the matrices of the layers."""
    row = choice.format
    names = LLM_SCALES if row.reader == _LEGACY else UNIFIED_SCALES
    if not row.methods:
        return FloatStorage(checkpoint, floats)
    if row.weights == "fp8":
        return Fp8Storage(checkpoint, weights, names, usable_cores())
    grid = IntegerGrid(8, None, True) if row.weights == "int8" else IntegerGrid(4, GROUP_SIZE, True)
    return IntegerStorage(grid, weights, names, _integer_options(row.reader, row.algorithm, floats))


def _integer_options(reader: str, algorithm: str | None, floats: FloatType) -> IntegerOptions:
    def wants_factors(linear: Linear) -> bool:
        if algorithm != "W4A16_AWQ":
            return False
        # Without them TensorRT-LLM does not load; Edge-LLM takes ones.
        return reader == _LEGACY or (reader == "tensorrt-llm" and linear.prefix.endswith(_SCALED_INPUTS))

    return IntegerOptions(algorithm == "W8A8_SQ_PER_CHANNEL", wants_factors, floats)


def _write_shards(directory: Path, tensors: Sequence[WeightTensor], on_bytes: Callable[[int], None]) -> None:
    """Write weights as Hugging Face names them, and an index where there are several files."""
    files = split_files(tensors, _FILE_BYTES)
    weight_map: dict[str, str] = {}
    for number, part in enumerate(files, 1):
        name = "model.safetensors" if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        write_weights(directory / name, part, {"format": "pt"}, on_bytes)
        weight_map |= dict.fromkeys((tensor.name for tensor in part), name)
    if len(files) > 1:
        total = sum(tensor.num_bytes for tensor in tensors)
        _write_json(
            directory / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
        )


def _counted(report: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def count(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        report(done, total)

    return count


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _describe(
    job: TensorRTExport, choice: Choice, limits: EngineLimits, plan: ExportPlan, checkpoint: Checkpoint, directory: Path
) -> None:
    """Write what the directory is, with the size and hash of every file."""
    prompt = plan.manifest.prompt
    digests = checkpoint_digests(checkpoint.path, checkpoint.files)
    files = {path.name: describe_file(path) for path in sorted(directory.iterdir())}
    TensorRTDirectory(
        path=directory,
        reader=choice.format.reader,
        weights=choice.format.weights,
        algorithm=choice.format.algorithm,
        kv=choice.kv,
        method=choice.method,
        head=choice.head,
        device=job.device,
        limits=limits,
        model=plan.manifest.model.name,
        template=prompt.template,
        request_field=REQUEST_FIELD,
        command=job.command,
        source={name: facts.sha256 for name, facts in digests.items()},
        files=files,
    ).write()
