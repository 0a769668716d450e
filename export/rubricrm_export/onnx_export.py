"""A checkpoint becomes an ONNX bundle: the work behind `rubricrm export onnx`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rubricrm.bundle import Bundle, describe_file
from rubricrm.machine import usable_cores
from rubricrm.prefix import FILE_NAME as PREFIX_FILE
from rubricrm.prefix import compute_prefix
from rubricrm.prompt import Prompt
from rubricrm.session import Session
from rubricrm.tokenizer import Tokenizer

from rubricrm_export.bundle_writer import (
    bundle_directory,
    check_space,
    check_target,
    describe_files,
    write_files,
    write_manifest,
)
from rubricrm_export.checkpoint import Checkpoint, checkpoint_digests
from rubricrm_export.checkpoint_files import TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.export_job import OnnxExport
from rubricrm_export.export_plan import TOKENIZER_FILE, ExportPlan, make_plan
from rubricrm_export.genai_config import genai_config
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph_writer import GRAPH_FILE, computed_type, write_graph
from rubricrm_export.hub import resolve_checkpoint
from rubricrm_export.prompt_source import CHAT_TEMPLATE_FILE
from rubricrm_export.quantize.weights import RoundedWeights

__all__ = ["OnnxExport", "Progress", "export_onnx", "plan_onnx"]

GENAI_CONFIG_FILE = "genai_config.json"

# What is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def plan_onnx(job: OnnxExport) -> ExportPlan:
    """Check everything that can be checked without writing: the whole of `--dry-run`.

    Raises:
        RubricrmError: As `export_onnx`.
    """
    check_target(job.target, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    with Checkpoint.open(resolved.path) as checkpoint:
        return make_plan(job, resolved, checkpoint)


def export_onnx(job: OnnxExport, on_progress: Progress | None = None) -> Bundle:
    """Write a bundle.

    Memory: without calibration one block of one tensor, whatever the model's size; time: reading, writing and hashing
    the weights.

    Args:
        job: What to export.
        on_progress: Gets what is being done, and how far it is.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound; nothing was left at the target.
    """
    check_target(job.target, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    with Checkpoint.open(resolved.path) as checkpoint:
        plan = make_plan(job, resolved, checkpoint)
        check_space(job.target, plan.weight_bytes)
        with bundle_directory(job.target, force=job.force) as directory:
            _write_graph(checkpoint, plan, directory, on_progress or _ignore)
            _write_companions(checkpoint, job, plan, directory)
            _write_prefix_and_manifest(checkpoint, plan, directory)
    return Bundle.open(job.target)


def _ignore(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


def _write_graph(checkpoint: Checkpoint, plan: ExportPlan, directory: Path, on_progress: Progress) -> None:
    computed = computed_type(plan.scheme)
    weights = RoundedWeights(checkpoint, plan.scheme, computed, usable_cores())

    def report(done: int) -> None:
        on_progress("Writing weights", min(done, plan.weight_bytes), plan.weight_bytes)

    report(0)
    write_graph(checkpoint, plan.scheme, weights, KVStorage(computed), directory, report)
    report(plan.weight_bytes)


def _write_companions(checkpoint: Checkpoint, job: OnnxExport, plan: ExportPlan, directory: Path) -> None:
    tokenizer_config = _tokenizer_config(checkpoint.path, job.chat_template)
    write_files(
        directory,
        {
            TOKENIZER_FILE: (checkpoint.path / TOKENIZER_FILE).read_bytes(),
            TOKENIZER_CONFIG: (json.dumps(tokenizer_config, ensure_ascii=False, indent=2) + "\n").encode(),
            GENAI_CONFIG_FILE: genai_config(plan.manifest).encode(),
        },
    )


def _tokenizer_config(path: Path, chat_template: Path | None) -> Mapping[str, object]:
    """Return tokenizer_config.json with the chat template inside, where other runtimes look for it."""
    template = chat_template or path / CHAT_TEMPLATE_FILE
    # onnxruntime-genai reads no chat template where no class is named; this is the one of a bare tokenizer.json.
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= read_tokenizer_config(path)
    if template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    return config


def _write_prefix_and_manifest(checkpoint: Checkpoint, plan: ExportPlan, directory: Path) -> None:
    digests = checkpoint_digests(checkpoint.path, checkpoint.files)
    source = replace(plan.manifest.provenance.source, files=digests)
    manifest = replace(
        plan.manifest,
        provenance=replace(plan.manifest.provenance, source=source),
        files=describe_files(directory),
    )
    bundle = write_manifest(directory, manifest)
    if not plan.is_small or manifest.prefix.num_tokens == 0:
        return
    prompt = Prompt(manifest.prompt, Tokenizer.from_file(bundle.file(TOKENIZER_FILE)))
    session = Session(bundle)
    compute_prefix(session, prompt.fixed_prefix()).save(directory / PREFIX_FILE)
    session.close()
    # It was written as a temporary file, which only its owner may read; a bundle is for everybody that the rest is for.
    shutil.copymode(directory / GRAPH_FILE, directory / PREFIX_FILE)
    prefix = replace(manifest.prefix, file=PREFIX_FILE)
    files = {**manifest.files, PREFIX_FILE: describe_file(directory / PREFIX_FILE)}
    write_manifest(directory, replace(manifest, prefix=prefix, files=files))
