"""A checkpoint becomes a directory for TensorRT-LLM, Edge-LLM or vLLM: the work behind `rubricrm export tensorrt`."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rubricrm.engines.engine_directory import DIRECTORY_FILE
from rubricrm.runtime.bundle import describe_file
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.manifest import FileFacts
from rubricrm.runtime.prompt_directory import PROMPT_FOLDER, prompt_manifest
from rubricrm.runtime.published_directory import check_space, describe_files, whole_directory, write_manifest

from rubricrm_export.checkpoint.checkpoint import checkpoint_digests
from rubricrm_export.checkpoint.files import (
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    read_tokenizer_config,
)
from rubricrm_export.onnx_bundle.bundle_files import write_companions
from rubricrm_export.system.progress_bar import Progress, no_progress
from rubricrm_export.tensorrt import commands
from rubricrm_export.tensorrt.config_files import hf_quant_config, llm_config, unified_config
from rubricrm_export.tensorrt.directory import TensorRTDirectory
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt.layout import (
    LLM_SCALES,
    UNIFIED_SCALES,
    Parts,
    llm_tensors,
    unified_tensors,
)
from rubricrm_export.tensorrt.linear import STORAGES, FloatMatrices, StorageSource
from rubricrm_export.tensorrt.model_weights import ModelWeights, open_weights
from rubricrm_export.tensorrt.tensorrt_plan import TensorRTPlan, open_plan
from rubricrm_export.tensorrt.tokenizer_config import loadable_by
from rubricrm_export.tensorrt.weight_file import WeightTensor, split_files, write_weights
from rubricrm_export.tensorrt_lint.linter import require_sound

logger = logging.getLogger(__name__)

_FILE_BYTES = 4 << 30
_LEGACY = "tensorrt-llm-1.2"
# Of the checkpoint's files, what a reader opens. Not the card: the directory gets its own.
_COPIED = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
)
# The products whose INT4 weights do not load without factors of the inputs. TensorRT-LLM wants them where no norm
# stands before the product that could hold them; Edge-LLM takes ones where there are none.
_FACTORS_BEFORE: Mapping[str, tuple[str, ...]] = {"tensorrt-llm": ("o_proj", "down_proj"), _LEGACY: ("",)}


def export_tensorrt(job: TensorRTExport, on_progress: Progress | None = None) -> TensorRTDirectory:
    """Write a directory, check it by the linter, and only then give it its name.

    Memory: without calibration a few blocks of rows; with it as for an export to ONNX.

    Args:
        job: What to export.
        on_progress: Gets what is being done, how much of it is done, and how much there is.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound; nothing was left at the target.
    """
    with open_plan(job) as plan, open_weights(plan, on_progress or no_progress) as weights:
        _write(plan, weights, on_progress or no_progress)
    return TensorRTDirectory.open(job.output)


def plan_tensorrt(job: TensorRTExport) -> dict[str, Any]:
    """Check everything that can be checked without reading weights, and write nothing: the whole of `--dry-run`.

    Returns:
        What would be written, in JSON's types.

    Raises:
        RubricrmError: As `export_tensorrt`.
    """
    with open_plan(job) as plan:
        return plan.report()


# --- Files


def _write(plan: TensorRTPlan, weights: ModelWeights, on_progress: Progress) -> None:
    job, choice, checkpoint = plan.job, plan.choice, plan.checkpoint
    floats = plan.float_type
    tensors = _tensors(plan, weights)
    num_bytes = sum(tensor.num_bytes for tensor in tensors)
    check_space(job.output, num_bytes)
    with whole_directory(job.output, force=job.force, marker=DIRECTORY_FILE) as directory:
        report = _counted(partial(on_progress, "Writing weights"), num_bytes)
        has_factors = any(tensor.name.endswith("quant_scale") for tensor in tensors)
        if choice.format.reader == _LEGACY:
            tied = checkpoint.tied
            config = llm_config(checkpoint.architecture, choice, floats.name, tied=tied, has_factors=has_factors)
            write_weights(directory / "rank0.safetensors", tensors, {}, report)
        else:
            config = unified_config(checkpoint.config, checkpoint.architecture, choice, floats.name)
            config["eos_token_id"] = list(plan.bundle.manifest.prompt.stop_ids)
            config["tie_word_embeddings"] = checkpoint.tied and choice.head == "model"
            _write_shards(directory, tensors, report)
            if choice.format.algorithm or choice.kv != "model":
                _write_json(directory / "hf_quant_config.json", hf_quant_config(choice, has_factors=has_factors))
        _write_json(directory / CONFIG, config)
        _write_companions(plan, directory)
        digests = checkpoint_digests(checkpoint.path, checkpoint.files)
        _write_prompt(plan, digests, directory / PROMPT_FOLDER)
        for name, text in commands.files(choice, plan.limits, plan.bundle.manifest).items():
            (directory / name).write_text(text, "utf-8")
            (directory / name).chmod(0o755 if name.endswith(".sh") else 0o644)
        for finding in require_sound(directory, choice.format.reader, job.device, output=job.output):
            logger.warning("%s", finding)
        _describe(plan, digests, directory)


def _write_companions(plan: TensorRTPlan, directory: Path) -> None:
    """Write what lies beside the weights: as it is, but for what the reader could not load or would overlook."""
    checkpoint, reader = plan.checkpoint, plan.choice.format.reader
    for name in checkpoint.files:
        if name in _COPIED:
            shutil.copyfile(checkpoint.path / name, directory / name)
    tokenizer_config = read_tokenizer_config(checkpoint.path)
    loadable = loadable_by(reader, tokenizer_config)
    if loadable != tokenizer_config:
        _write_json(directory / TOKENIZER_CONFIG, loadable)
    # vLLM and TensorRT-LLM stop at the ids of this file, Edge-LLM at those of config.json too.
    stop_ids = {"eos_token_id": list(plan.bundle.manifest.prompt.stop_ids)}
    _write_json(directory / GENERATION_CONFIG, {**(checkpoint.generation_config or {}), **stop_ids})


def _write_prompt(plan: TensorRTPlan, digests: Mapping[str, FileFacts], directory: Path) -> None:
    """Write what a client of the server needs: `RubricModel.connect(prompt=...)`, or that of `JudgeModel`."""
    provenance = plan.bundle.manifest.provenance
    source = replace(provenance.source, files=digests)
    provenance = replace(provenance, source=source, command=plan.job.command)
    manifest = replace(prompt_manifest(plan.bundle.manifest), provenance=provenance)
    directory.mkdir()
    write_companions(plan.checkpoint.path, plan.job.chat_template, manifest, directory)
    write_manifest(directory, replace(manifest, files=describe_files(directory)))


def _tensors(plan: TensorRTPlan, weights: ModelWeights) -> list[WeightTensor]:
    choice, checkpoint, floats = plan.choice, plan.checkpoint, plan.float_type
    reader = choice.format.reader
    names = LLM_SCALES if reader == _LEGACY else UNIFIED_SCALES
    source = StorageSource(checkpoint, weights, names, floats, _FACTORS_BEFORE.get(reader, ()), usable_cores())
    matrices = STORAGES[choice.format.form](source)
    # The head's other types are those of the layers.
    head = FloatMatrices(checkpoint, floats) if choice.head == "model" else matrices
    parts = Parts(
        checkpoint,
        norms=weights.norms(),
        kv_scales=[] if choice.kv == "model" else weights.kv_scales(),
        matrices=matrices,
        head=None if choice.head == "model" and checkpoint.tied else head,
        float_type=floats,
    )
    return llm_tensors(parts) if reader == _LEGACY else unified_tensors(parts)


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


def _describe(plan: TensorRTPlan, digests: Mapping[str, FileFacts], directory: Path) -> None:
    """Write what the directory is, with the size and hash of every file."""
    job, choice = plan.job, plan.choice
    prompt = plan.bundle.manifest.prompt
    # The prompt's own manifest speaks for what lies in its folder.
    files = {path.name: describe_file(path) for path in sorted(directory.iterdir()) if path.is_file()}
    TensorRTDirectory(
        path=directory,
        reader=choice.format.reader,
        weights=choice.format.weights,
        algorithm=choice.format.algorithm,
        kv=choice.kv,
        method=choice.method,
        head=choice.head,
        device=job.device,
        limits=plan.limits,
        model=plan.bundle.manifest.model.name,
        template=prompt.template,
        request_field=next(iter(prompt.fields.values())),
        command=job.command,
        source={name: facts.sha256 for name, facts in digests.items()},
        files=files,
    ).write()
