"""The calibration of an export: its text, what its results depend on, and the directory that keeps them."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

from rubricrm.errors import OptionInvalid, RubricrmError
from rubricrm.runtime.bundle import file_sha256
from rubricrm.runtime.cache_directory import own_directory, warn_without_cache
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.published_directory import remove_leftovers
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.runtime.whole_file import write_whole

from rubricrm_export.calibrate.calibrated_weights import calibrate
from rubricrm_export.calibrate.float_model import FloatModel
from rubricrm_export.calibrate.resume import ResumeDirectory
from rubricrm_export.calibrate.texts import builtin_requests, read_text, self_text
from rubricrm_export.calibrate.token_text import SELF, WINDOW, TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.files import TOKENIZER
from rubricrm_export.onnx_bundle.bundle_files import copy_of
from rubricrm_export.onnx_bundle.plan import ExportPlan, Templates
from rubricrm_export.system.progress_bar import Progress

logger = logging.getLogger(__name__)

# Tokens of a file that are used.
_FILE_TOKENS = 8192
# Requests that a model writes rubrics for: about 12,000 tokens, and 5,000 where each costs a tenth of a second.
_NUM_REQUESTS, _NUM_REQUESTS_OF_LARGE = 40, 16


class CalibrationOptions(Templates, Protocol):
    """What a calibration takes of the options of an export."""

    @property
    def output(self) -> Path:
        """What is being written; OUTPUT.resume keeps the results."""
        ...

    @property
    def calibration(self) -> str:
        """A text's path; "self": the model writes one."""
        ...

    @property
    def resume(self) -> bool:
        """Continue what an interrupted export left."""
        ...

    @property
    def force(self) -> bool:
        """Remove what an interrupted export left."""
        ...


def run_calibration(
    job: CalibrationOptions, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress
) -> ResumeDirectory:
    """Calibrate every layer, or those that an interrupted export left.

    Returns:
        The directory OUTPUT.resume with the results; to be removed when they are written.

    Raises:
        RubricrmError: A text, the checkpoint or what was left is not sound. The directory stays where there is
            something to continue.
    """
    facts = calibration_facts(job, plan, checkpoint)
    resume = ResumeDirectory(job.output.resolve(), facts, resume=job.resume, force=job.force)
    remove_leftovers(job.output)
    kept = resume.load_text()
    try:
        text = kept or calibration_text(job, plan, checkpoint, on_progress)
        model = FloatModel(checkpoint, text, threads=usable_cores())
    except RubricrmError:
        if kept is None:  # a bad text: nothing is done that could be continued
            resume.remove()
        raise
    if kept is None:
        resume.save_text(text)
    calibrate(model, plan.scheme, resume, partial(on_progress, "Calibrating layers"))
    return resume


def calibration_facts(job: CalibrationOptions, plan: ExportPlan, checkpoint: Checkpoint) -> dict[str, object]:
    """Return all that the results of a calibration depend on.

    Raises:
        OptionInvalid: The text's file cannot be read.
    """
    return {
        # The limits and the text of the measurement are left out: a refused bundle may be resumed with others.
        "option": asdict(plan.scheme),
        "tools": plan.manifest.provenance.tools,
        "file": _stamps(checkpoint),
        "calibration text": None if job.calibration == SELF else _text_sha256(Path(job.calibration)),
        "prompt": asdict(plan.manifest.prompt),
        "chat": asdict(plan.manifest.chat),
    }


def _text_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise OptionInvalid(f"{path}: cannot be read ({error.strerror}). Pass a file of text.") from error


def _stamps(checkpoint: Checkpoint) -> dict[str, list[int]]:
    """Return size and time of change of the checkpoint's files: hashing them would take as long as reading them."""
    stats = {name: (checkpoint.path / name).stat() for name in checkpoint.files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def calibration_text(
    job: CalibrationOptions, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress
) -> TokenText:
    """Read the text, or let the model write it: a copy of it in INT4 where floats would take too much memory."""
    if job.calibration != SELF:
        tokenizer = Tokenizer.from_file(checkpoint.path / TOKENIZER)
        context = checkpoint.architecture.context_length
        return read_text(Path(job.calibration), tokenizer, context, min_tokens=WINDOW, max_tokens=_FILE_TOKENS)
    weights, num_requests = (None, _NUM_REQUESTS) if checkpoint.is_small else ("int4", _NUM_REQUESTS_OF_LARGE)
    # What a model writes is the same for every export of it: it is kept in this machine's cache.
    kept = None
    try:
        kept = own_directory("calibration") / f"{_text_key(plan, checkpoint)}.json"
        if found := _kept_text(kept, plan, checkpoint):
            return found
    except OSError as error:
        warn_without_cache(error)
    with copy_of(checkpoint, weights, job, job.output, "writer", on_progress) as bundle:
        report = partial(on_progress, "Writing text")
        text = self_text(bundle, num_requests=num_requests, threads=usable_cores(), on_progress=report)
    if kept is not None:
        try:
            write_whole(kept, text.to_json())
        except OSError as error:
            logger.warning("the calibration text could not be kept (%s): the next export writes it again", error)
    return text


def _kept_text(path: Path, plan: ExportPlan, checkpoint: Checkpoint) -> TokenText | None:
    """Return the text that another export left, None if there is none or it is not sound."""
    try:
        text = TokenText.from_json(path.read_text("utf-8"))
        text.require_fitting(plan.manifest.tokenizer.num_tokens, checkpoint.architecture.context_length)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("the calibration text is written again: %s is damaged (%s)", path, error)
        return None
    return text


def _text_key(plan: ExportPlan, checkpoint: Checkpoint) -> str:
    """Return a name for the text that a checkpoint writes with a prompt."""
    facts = [
        _stamps(checkpoint),
        asdict(plan.manifest.prompt),
        asdict(plan.manifest.chat),
        plan.manifest.provenance.tools,
        builtin_requests(),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
