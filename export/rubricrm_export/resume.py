"""The directory of an unfinished export, BUNDLE.resume: what a later run need not compute again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rubricrm.errors import ExportFailed, OptionInvalid, TargetExists

from rubricrm_export.quantize.layer_result import LayerResult, load_tensors, save_tensors
from rubricrm_export.token_text import TokenText

Float = NDArray[np.float32]

_JOB, _TEXT, _STREAM = "job.json", "text.json", "stream.safetensors"


class ResumeDirectory:
    """Results of the layers that are done, the text, and the activations that the next layer begins with.

    Every file is written beside its place and renamed, and a layer's result before the activations after it: a kill
    at any moment leaves a state from which the same bytes follow.

    Attributes:
        path: The directory, a sibling of the bundle.
    """

    def __init__(self, target: Path, facts: Mapping[str, object], *, resume: bool, force: bool) -> None:
        """Open or make the directory.

        Args:
            target: The bundle that is being made.
            facts: What the results depend on: options, checkpoint, versions.
            resume: Continue from what is there.
            force: Remove what is there.

        Raises:
            TargetExists: There is an unfinished export, and neither `resume` nor `force` is given.
            OptionInvalid: What is there was made with other facts.
            ExportFailed: It cannot be read or written.
        """
        self.path = target.with_name(f"{target.name}.resume")
        job = json.dumps(facts, indent=2, sort_keys=True)
        stored = self.path / _JOB
        if self.path.exists() and not resume:
            if not force:
                raise TargetExists(
                    f"{self.path}: an export to {target.name} was interrupted. Pass --resume to continue it, or "
                    "--force to start anew."
                )
            self.remove()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if stored.exists():
                self._require_same(stored.read_text("utf-8"), job)
            else:
                stored.write_text(job, "utf-8")
        except OSError as error:
            raise ExportFailed(f"{self.path}: cannot be written ({error}). Check the path and its rights.") from error

    def _require_same(self, stored: str, job: str) -> None:
        if stored == job:
            return
        try:
            old, new = json.loads(stored), json.loads(job)
            differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        except (ValueError, AttributeError):
            differing = [_JOB]
        raise OptionInvalid(
            f"{self.path}: was left by an export with other options or files: {', '.join(differing)} differ. Pass the "
            "same options, or --force without --resume to start anew."
        )

    def load_text(self) -> TokenText | None:
        """Return the text that calibration runs on, None before it was saved."""
        path = self.path / _TEXT
        if not path.exists():
            return None
        try:
            return TokenText.from_json(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ExportFailed(f"{path}: cannot be read ({error}). Start anew: --force without --resume.") from error

    def save_text(self, text: TokenText) -> None:
        """Keep the text."""
        writing = self.path / f".{_TEXT}.writing"
        writing.write_text(text.to_json(), "utf-8")
        writing.replace(self.path / _TEXT)

    def load_stream(self) -> tuple[int, Float, Float] | None:
        """Return how many layers are done, and the residual streams of the float and the quantized model after them."""
        path = self.path / _STREAM
        if not path.exists():
            return None
        tensors, metadata = load_tensors(path)
        return int(metadata["layers"]), tensors["float"], tensors["quantized"]

    def save_stream(self, layers: int, exact: Float, quantized: Float) -> None:
        """Keep both residual streams [num_tokens, hidden_size] after so many layers."""
        save_tensors({"float": exact, "quantized": quantized}, self.path / _STREAM, {"layers": str(layers)})

    def load_layer(self, layer: int) -> LayerResult:
        """Return the result of a layer that is done."""
        return LayerResult.load(self._layer_path(layer))

    def save_layer(self, layer: int, result: LayerResult) -> None:
        """Keep the result of a layer."""
        result.save(self._layer_path(layer))

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _layer_path(self, layer: int) -> Path:
        return self.path / f"layer-{layer:05}.safetensors"
