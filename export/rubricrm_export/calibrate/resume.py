"""The directory of an unfinished export, BUNDLE.resume: what a later run need not compute again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid, OutputExists
from rubricrm.runtime.whole_file import write_whole
from safetensors import SafetensorError

from rubricrm_export.calibrate.layer_result import LayerResult, load_tensors, save_tensors
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.errors import ExportFailed

Float = NDArray[np.float32]

_JOB, _TEXT, _STREAM = "job.json", "text.json", "stream.safetensors"
# What this class writes; a directory that holds anything else is not its own.
_OWN = re.compile(r"job\.json|text\.json|stream\.safetensors|layer-\d+\.safetensors|\..+\.writing")
_START_AGAIN = "Start again: --force without --resume."


class ResumeDirectory:
    """Results of the layers that are done, the text, and the activations that the next layer begins with.

    Every file is written beside its place and renamed, and a layer's result before the activations after it: a kill
    at any moment leaves a state from which the same bytes follow. A directory without a job, which a kill at the very
    beginning or end leaves, counts as empty.

    Attributes:
        path: The directory, a sibling of the bundle.
    """

    def __init__(self, output: Path, facts: Mapping[str, object], *, resume: bool, force: bool) -> None:
        """Open or make the directory.

        Args:
            output: The bundle that is being made.
            facts: What the results depend on: options, checkpoint, versions.
            resume: Continue from what is there; where nothing is, begin.
            force: Without `resume`: remove what is there.

        Raises:
            OutputExists: There is an unfinished export, and neither `resume` nor `force` is given; or there is
                something else, which is never removed.
            OptionInvalid: What is there was made with other facts.
            ExportFailed: It cannot be read or written.
        """
        self.path = output.with_name(f"{output.name}.resume")
        job = json.dumps(facts, indent=2, sort_keys=True)
        stored = self.path / _JOB
        with self._writing():
            self._require_own()
            if self.path.exists() and not resume and not force:
                raise OutputExists(
                    f"{self.path}: an export to {output.name} was interrupted. Pass --resume to continue it, or "
                    "--force to start again."
                )
            if not resume or not stored.exists():
                self.remove()
            self.path.mkdir(parents=True, exist_ok=True)
            if stored.exists():
                self._require_same(stored, job)
            else:
                write_whole(self.path / _JOB, job)

    def _require_own(self) -> None:
        if self.path.exists() and not (self.path.is_dir() and all(_OWN.fullmatch(p.name) for p in self.path.iterdir())):
            raise OutputExists(
                f"{self.path}: is no interrupted export, and is never removed. Move it away, or choose another path "
                "for the bundle."
            )

    def _require_same(self, stored: Path, job: str) -> None:
        with _reading(stored):
            old = dict(json.loads(stored.read_text("utf-8")))
        differing = list(_differences(old, json.loads(job)))
        if differing:
            raise OptionInvalid(
                f"{self.path}: was left by an export with other options or files: {', '.join(differing)}. Pass the "
                "same options, or --force without --resume to start again."
            )

    def load_text(self) -> TokenText | None:
        """Return the text that calibration runs on, None before it was saved."""
        path = self.path / _TEXT
        if not path.exists():
            return None
        with _reading(path):
            return TokenText.from_json(path.read_text("utf-8"))

    def save_text(self, text: TokenText) -> None:
        """Keep the text."""
        with self._writing():
            write_whole(self.path / _TEXT, text.to_json())

    def load_stream(self) -> tuple[int, Float, Float] | None:
        """Return how many layers are done, and the residual streams of the float and the quantized model after them."""
        path = self.path / _STREAM
        if not path.exists():
            return None
        with _reading(path):
            tensors, metadata = load_tensors(path)
            layers, exact, quantized = int(metadata["layers"]), tensors["float"], tensors["quantized"]
            if layers < 0 or exact.ndim != 2 or exact.shape != quantized.shape:
                raise ValueError(f"{layers} layers, activations {exact.shape} and {quantized.shape}")
            return layers, exact, quantized

    def save_stream(self, layers: int, exact: Float, quantized: Float) -> None:
        """Keep both residual streams [num_tokens, hidden_size] after so many layers."""
        with self._writing():
            save_tensors({"float": exact, "quantized": quantized}, self.path / _STREAM, {"layers": str(layers)})

    def load_layer(self, layer: int, *, with_matrices: bool = True) -> LayerResult:
        """Return the result of a layer that is done, with its matrices or without."""
        path = self._layer_path(layer)
        with _reading(path):
            return LayerResult.load(path, with_matrices=with_matrices)

    def save_layer(self, layer: int, result: LayerResult) -> None:
        """Keep the result of a layer."""
        with self._writing():
            result.save(self._layer_path(layer))

    def remove(self) -> None:
        """Remove the directory; the job first, so that a kill half-way leaves nothing that could be continued."""
        with suppress(OSError):
            (self.path / _JOB).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
            raise ExportFailed(
                f"{self.path}: cannot be written ({error}). Check the path, its rights and the disk's space."
            ) from error

    def _layer_path(self, layer: int) -> Path:
        return self.path / f"layer-{layer:05}.safetensors"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a damaged file what to do about it."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ExportFailed(f"{path}: is damaged ({error!r}). {_START_AGAIN}") from error


def _differences(old: Mapping[str, object], new: Mapping[str, object], within: str = "") -> Iterator[str]:
    """Yield what differs between two jobs: files by their names, short facts with both values."""
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{within}{key} ")
        elif before != now:
            told = isinstance(before, str) and isinstance(now, str)
            yield f"{within}{key} differs" + (f" ({before!r} then, {now!r} now)" if told else "")
