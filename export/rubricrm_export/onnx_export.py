"""A checkpoint becomes an ONNX bundle: the work behind `rubricrm export onnx`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir
from rubricrm.bundle import Bundle, describe_file, file_sha256
from rubricrm.errors import OptionInvalid, RubricrmError
from rubricrm.machine import cache_directory, usable_cores
from rubricrm.manifest import Manifest
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
    remove_leftovers,
    scratch_directory,
    write_files,
    write_manifest,
)
from rubricrm_export.calibrated_weights import CalibratedWeights, calibrate
from rubricrm_export.calibration import SELF, builtin_requests, read_text, self_text
from rubricrm_export.checkpoint import Checkpoint, checkpoint_digests
from rubricrm_export.checkpoint_files import TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.export_job import OnnxExport
from rubricrm_export.export_plan import TOKENIZER_FILE, ExportPlan, make_plan, make_twin
from rubricrm_export.export_quality import LARGE_MODEL, measure_export
from rubricrm_export.float_model import FloatModel
from rubricrm_export.genai_config import genai_config
from rubricrm_export.graph.kv_storage import KVScales, KVStorage
from rubricrm_export.graph_writer import GRAPH_FILE, computed_type, kv_storage, write_graph
from rubricrm_export.hub import ResolvedCheckpoint, resolve_checkpoint
from rubricrm_export.operator_check import check_operators
from rubricrm_export.progress_bar import Progress
from rubricrm_export.prompt_source import CHAT_TEMPLATE_FILE
from rubricrm_export.quantize.weights import RoundedWeights, WeightSource
from rubricrm_export.resume import ResumeDirectory
from rubricrm_export.token_text import WINDOW, TokenText

__all__ = ["OnnxExport", "Progress", "export_onnx", "plan_onnx"]

logger = logging.getLogger(__name__)

GENAI_CONFIG_FILE = "genai_config.json"

_CALIBRATION_TOKENS = 8192  # of a file; what the model writes itself is about as long


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

    Memory: without calibration one block of one tensor, whatever the model's size; with it one layer as floats and the
    activations of the text. Time: reading, writing and hashing the weights; calibration is told in its modules.

    Args:
        job: What to export.
        on_progress: Gets what is being done, how much of it is done, and how much there is.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound; nothing was left at the target.
    """
    report = on_progress or _ignore
    check_target(job.target, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    with Checkpoint.open(resolved.path) as checkpoint:
        plan = make_plan(job, resolved, checkpoint)
        check_space(job.target, plan.weight_bytes)
        check_operators(plan.scheme)
        if plan.scheme.needs_calibration:
            _export_calibrated(job, plan, checkpoint, report)
        else:
            if job.resume:
                raise OptionInvalid("--resume continues a calibration, and this export has none. Leave it out.")
            _export_rounded(job, plan, checkpoint, report)
    return Bundle.open(job.target)


def _ignore(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


def _export_rounded(job: OnnxExport, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress) -> None:
    """Write a bundle of the checkpoint's weights, as they are or rounded to nearest."""

    def source(computed: ir.DataType) -> WeightSource:
        return RoundedWeights(checkpoint, plan.scheme, computed, usable_cores())

    _write_bundle(job, plan, checkpoint, source, None, on_progress)


def _export_calibrated(job: OnnxExport, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress) -> None:
    """Calibrate layer by layer, then write the bundle. What is done survives an interruption in BUNDLE.resume."""
    facts = {
        "command": job.command,
        "tools": plan.manifest.provenance.tools,
        "file": _stamps(checkpoint),
        "calibration text": None if job.calibration == SELF else _text_sha256(Path(job.calibration)),
        "prompt": asdict(plan.manifest.prompt),
    }
    resume = ResumeDirectory(job.target.resolve(), facts, resume=job.resume, force=job.force)
    remove_leftovers(job.target)
    text = resume.load_text()
    if text is None:
        try:
            text = _calibration_text(job, plan, checkpoint, on_progress)
        except RubricrmError:  # a bad file: nothing is done that could be continued
            resume.remove()
            raise
        resume.save_text(text)
    scheme, threads = plan.scheme, usable_cores()
    model = FloatModel(checkpoint, text, threads=threads)
    calibrate(model, scheme, resume, partial(on_progress, "Calibrating layers"))

    def source(computed: ir.DataType) -> CalibratedWeights:
        return CalibratedWeights(checkpoint, scheme, computed, threads, resume)

    kv_scales = None if scheme.kv == "model" else source(ir.DataType.FLOAT).kv_scales()
    _write_bundle(job, plan, checkpoint, source, kv_scales, on_progress)
    resume.remove()


def _text_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise OptionInvalid(f"{path}: cannot be read ({error.strerror}). Pass a file of text.") from error


def _stamps(checkpoint: Checkpoint) -> dict[str, list[int]]:
    """Return size and time of change of the checkpoint's files: hashing them would take as long as reading them."""
    stats = {name: (checkpoint.path / name).stat() for name in checkpoint.files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _calibration_text(job: OnnxExport, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress) -> TokenText:
    """Read the text, or let the model write it: a copy of it in INT4 where floats would take too much memory."""
    if job.calibration != SELF:
        tokenizer = Tokenizer.from_file(checkpoint.path / TOKENIZER_FILE)
        return read_text(Path(job.calibration), tokenizer, min_tokens=WINDOW, max_tokens=_CALIBRATION_TOKENS)
    weights = None if _is_small(checkpoint) else "int4"
    # What a model writes is the same for every export of it: it is kept in this machine's cache.
    kept = cache_directory() / "calibration" / f"{_text_key(plan, checkpoint)}.json"
    try:
        return TokenText.from_json(kept.read_text("utf-8"))
    except (OSError, ValueError):
        pass
    with _copy(job, checkpoint, weights, "writer", on_progress) as bundle:
        text = self_text(bundle, threads=usable_cores(), on_progress=partial(on_progress, "Writing text"))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        writing = kept.with_name(f".{kept.name}.{os.getpid()}")
        writing.write_text(text.to_json(), "utf-8")
        writing.replace(kept)
    except OSError as error:
        logger.warning(
            "the calibration text could not be kept in %s (%s): the next export writes it again", kept, error
        )
    return text


def _text_key(plan: ExportPlan, checkpoint: Checkpoint) -> str:
    """Return a name for the text that a checkpoint writes with a prompt."""
    facts = [_stamps(checkpoint), asdict(plan.manifest.prompt), plan.manifest.provenance.tools, builtin_requests()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_small(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture.num_parameters(checkpoint.tied) <= LARGE_MODEL


@contextmanager
def _copy(
    job: OnnxExport, checkpoint: Checkpoint, weights: str | None, name: str, on_progress: Progress
) -> Iterator[Bundle]:
    """Make another bundle of the same checkpoint for the CPU, for as long as the block runs."""
    with scratch_directory(job.target, name) as directory:
        copy = OnnxExport(
            str(checkpoint.path),
            directory,
            weights=weights,
            prompt_template=job.prompt_template,
            chat_template=job.chat_template,
        )
        resolved = ResolvedCheckpoint(checkpoint.path, None, None)
        plan = make_plan(copy, resolved, checkpoint)
        check_space(directory, plan.weight_bytes)
        directory.mkdir()
        rounded = RoundedWeights(checkpoint, plan.scheme, ir.DataType.FLOAT, usable_cores())
        report = partial(on_progress, f"Making a {name}")
        yield _write_files(copy, plan, checkpoint, rounded, KVStorage(ir.DataType.FLOAT), directory, report)


def _write_bundle(
    job: OnnxExport,
    plan: ExportPlan,
    checkpoint: Checkpoint,
    source: Callable[[ir.DataType], WeightSource],
    kv_scales: KVScales | None,
    on_progress: Progress,
) -> None:
    """Write the bundle, measure it, and only then give it its name."""
    computed = computed_type(plan.scheme)
    with bundle_directory(job.target, force=job.force) as directory:
        kv = kv_storage(plan.scheme, computed, kv_scales)
        report = partial(on_progress, "Writing weights")
        bundle = _write_files(job, plan, checkpoint, source(computed), kv, directory, report)
        manifest = bundle.manifest
        if plan.scheme.is_quantized and plan.scheme.target == "cpu":
            manifest = _with_quality(job, checkpoint, bundle, manifest, on_progress)
        elif plan.scheme.is_quantized:
            twin = make_twin(plan)
            with scratch_directory(job.target, "twin") as twin_directory:
                twin_directory.mkdir()
                kv = kv_storage(twin.scheme, ir.DataType.FLOAT, kv_scales)
                weights = source(ir.DataType.FLOAT)
                report = partial(on_progress, "Making a twin for the CPU")
                measured = _write_files(job, twin, checkpoint, weights, kv, twin_directory, report)
                quality = _with_quality(job, checkpoint, measured, measured.manifest, on_progress).quality
            manifest = replace(manifest, quality=quality)
        _add_prefix(write_manifest(directory, manifest), plan)


def _with_quality(
    job: OnnxExport, checkpoint: Checkpoint, bundle: Bundle, manifest: Manifest, on_progress: Progress
) -> Manifest:
    """Measure a bundle for the CPU against the checkpoint; a small one also writes rubrics, beside its float model."""
    if job.rubrics and _is_small(checkpoint):
        with _copy(job, checkpoint, None, "reference", on_progress) as reference:
            quality, changed = measure_export(job, checkpoint, bundle, reference.path, on_progress)
    else:
        quality, changed = measure_export(job, checkpoint, bundle, checkpoint.path, on_progress)
    files = {**manifest.files, GRAPH_FILE: describe_file(bundle.path / GRAPH_FILE)} if changed else manifest.files
    return replace(manifest, quality=quality.figures, files=files)


def _write_files(
    job: OnnxExport,
    plan: ExportPlan,
    checkpoint: Checkpoint,
    weights: WeightSource,
    kv: KVStorage,
    directory: Path,
    on_progress: Callable[[int, int], None],
) -> Bundle:
    """Write a bundle without its prefix."""

    def report(done: int) -> None:
        on_progress(min(done, plan.weight_bytes), plan.weight_bytes)

    report(0)
    write_graph(checkpoint, plan.scheme, weights, kv, directory, report)
    report(plan.weight_bytes)
    _write_companions(checkpoint, job, plan, directory)
    source = replace(plan.manifest.provenance.source, files=checkpoint_digests(checkpoint.path, checkpoint.files))
    provenance = replace(plan.manifest.provenance, source=source)
    return write_manifest(directory, replace(plan.manifest, provenance=provenance, files=describe_files(directory)))


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


def _add_prefix(bundle: Bundle, plan: ExportPlan) -> None:
    """Add the prefix of a small model."""
    manifest = bundle.manifest
    if not plan.is_small or manifest.prefix.num_tokens == 0:
        return
    path = bundle.path / PREFIX_FILE
    prompt = Prompt(manifest.prompt, Tokenizer.from_file(bundle.file(TOKENIZER_FILE)))
    session = Session(bundle)
    compute_prefix(session, prompt.fixed_prefix()).save(path)
    session.close()
    _sort_metadata(path)
    # It was written as a temporary file, which only its owner may read; a bundle is for everybody that the rest is for.
    shutil.copymode(bundle.path / GRAPH_FILE, path)
    files = {**manifest.files, PREFIX_FILE: describe_file(path)}
    prefix = replace(manifest.prefix, file=PREFIX_FILE)
    write_manifest(bundle.path, replace(manifest, prefix=prefix, files=files))


def _sort_metadata(path: Path) -> None:
    """Put a safetensors file's metadata in order: its writer's order is another one in every run."""
    contents = path.read_bytes()
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    path.write_bytes(len(text).to_bytes(8, "little") + text + contents[start:])
