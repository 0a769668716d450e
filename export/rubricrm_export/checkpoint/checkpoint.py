"""A Hugging Face checkpoint, checked against its configuration and read in blocks of rows.

Opening reads the headers of the weight files only, and reading costs the rows that are asked. Whether the
output head is the embedding is decided here once, by the configuration AND the tensors: a peer that trusted an option
instead exported models with finite, useless logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rubricrm.runtime.bundle import describe_file
from rubricrm.runtime.manifest import FileFacts

from rubricrm_export.checkpoint.architecture import EMBEDDING, LM_HEAD, Architecture
from rubricrm_export.checkpoint.directory import require_checkpoint_directory
from rubricrm_export.checkpoint.files import (
    CONFIG,
    GENERATION_CONFIG,
    companion_files,
    read_json_object,
    read_weights,
)
from rubricrm_export.checkpoint.tensor import DTYPES, CheckpointTensor
from rubricrm_export.checkpoint.tensor_names import listed, require_known_tensors
from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported

__all__ = ["Checkpoint", "CheckpointTensor", "checkpoint_digests"]

_SMALL_MODEL = 500_000_000  # parameters


class Checkpoint:
    """An open checkpoint; a context manager. Make one with `Checkpoint.open`.

    Attributes:
        path: The directory, as given.
        config: The parsed config.json.
        generation_config: The parsed generation_config.json, or None when there is none.
        architecture: What the config says, checked.
        tied: Whether the output head is the embedding, by config and tensors.
        files: Relative names of every file that was used or that a bundle may be made from, sorted.
    """

    def __init__(
        self,
        path: Path,
        config: dict[str, object],
        generation_config: dict[str, object] | None,
        architecture: Architecture,
        tensors: dict[str, CheckpointTensor],
        files: list[str],
    ) -> None:
        """Check the tensors against the architecture; `open` is what callers use."""
        self.path = path
        self.config = config
        self.generation_config = generation_config
        self.architecture = architecture
        self.files = files
        self._tensors = dict(tensors)
        self._refuse_empty_tensors()
        require_known_tensors(tensors, architecture, str(path))
        self.tied = self._decide_tied()
        self._require_tensors()

    @classmethod
    def open(cls, path: Path, most_positions: int | None = None) -> Checkpoint:
        """Open a checkpoint directory and check that its tensors are those that its config describes.

        Reads the small files and the headers of the weights. Only when the config ties the head to the embedding
        and both are stored are the two compared, block by block.

        Args:
            path: The directory.
            most_positions: Use no more of the model's context than this; None: all of it.

        Raises:
            CheckpointInvalid: A file or tensor is missing, damaged, or contradicts the config.
            CheckpointUnsupported: Sound, but of an architecture, feature or data type that cannot be exported.
        """
        require_checkpoint_directory(path)
        config = read_json_object(path / CONFIG)
        # Before the other files: a foreign model is told that it is one, not that a file is missing.
        architecture = Architecture.from_config(config, str(path / CONFIG))
        if most_positions is not None:
            architecture = replace(architecture, context_length=min(architecture.context_length, most_positions))
        companions = companion_files(path)
        generation_config = read_json_object(path / GENERATION_CONFIG) if GENERATION_CONFIG in companions else None
        weights = read_weights(path)
        files = sorted([*companions, *weights.files])
        return cls(path, config, generation_config, architecture, weights.tensors, files)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        """Release nothing: no file is held. The block marks for how long the directory must not change."""

    @property
    def is_small(self) -> bool:
        """Whether its float32 function may be opened beside other models: 2 GB at most."""
        return self.architecture.num_parameters(self.tied) <= _SMALL_MODEL

    def tensor(self, name: str) -> CheckpointTensor:
        """A tensor by its Hugging Face name. Reads nothing yet.

        When the head is tied, `lm_head.weight` and `model.embed_tokens.weight` give the same stored tensor.

        Raises:
            KeyError: The checkpoint holds no such tensor.
        """
        return self._tensors[name]

    def _decide_tied(self) -> bool:
        has_embedding, has_head = EMBEDDING in self._tensors, LM_HEAD in self._tensors
        if not self.architecture.tied_embeddings:
            if has_embedding and not has_head:
                raise CheckpointInvalid(
                    f'{self.path}: the untied head is missing: no tensor "{LM_HEAD}", while "tie_word_embeddings" in '
                    f"{CONFIG} is {self._stated_tie()}. Set it to true if the head is the embedding, else save the "
                    "checkpoint again with its head."
                )
            return False
        if has_embedding and has_head:
            self._require_equal_head()
        elif has_head:
            self._tensors[EMBEDDING] = replace(self._tensors[LM_HEAD], name=EMBEDDING)
        elif has_embedding:
            self._tensors[LM_HEAD] = replace(self._tensors[EMBEDDING], name=LM_HEAD)
        return True

    def _stated_tie(self) -> str:
        return "false" if "tie_word_embeddings" in self.config else "absent, which means false"

    def _require_equal_head(self) -> None:
        shape = self.architecture.tensor_shapes(tied=True)[EMBEDDING]
        embedding, head = (self._checked_tensor(name, shape) for name in (EMBEDDING, LM_HEAD))
        # As bytes: a NaN equals itself here, and -0.0 is not 0.0.
        if embedding.dtype != head.dtype or any(
            not np.array_equal(ours.view(np.uint8), theirs.view(np.uint8))
            for ours, theirs in zip(embedding.chunks(), head.chunks(), strict=True)
        ):
            raise CheckpointInvalid(
                f'{self.path}: "{EMBEDDING}" and "{LM_HEAD}" differ, while "tie_word_embeddings" in {CONFIG} is true. '
                'Set "tie_word_embeddings" to false if the head was trained, or save the checkpoint again without it.'
            )

    def _require_tensors(self) -> None:
        shapes = self.architecture.tensor_shapes(self.tied)
        missing = [name for name in shapes if name not in self._tensors]
        if missing:
            raise CheckpointInvalid(
                f"{self.path}: {len(missing)} of {len(shapes)} tensors are missing: {listed(missing)}. "
                f"{self.architecture.name} with {self.architecture.num_layers} layers needs them: finish the download, "
                f'or correct "num_hidden_layers" in {CONFIG}.'
            )
        for name, shape in shapes.items():
            self._checked_tensor(name, shape)

    def _checked_tensor(self, name: str, shape: tuple[int, ...]) -> CheckpointTensor:
        tensor = self.tensor(name)
        if tensor.dtype not in DTYPES:
            raise CheckpointUnsupported(
                f'{self.path}: tensor "{name}" is {tensor.dtype}, expected one of {", ".join(DTYPES)}. '
                "Export the checkpoint that this one was converted or quantized from."
            )
        if tensor.shape != shape:
            raise CheckpointInvalid(
                f'{self.path}: tensor "{name}" has the shape {list(tensor.shape)}, expected {list(shape)} = '
                f"{self.architecture.shape_keys(name)} of {CONFIG}. Config and weights are of different models."
            )
        return tensor

    def _refuse_empty_tensors(self) -> None:
        empty = [name for name, tensor in self._tensors.items() if 0 in tensor.shape]
        if empty:
            raise CheckpointInvalid(
                f"{self.path}: {len(empty)} of {len(self._tensors)} tensors are empty: {listed(empty)}. DeepSpeed "
                "ZeRO-3 saved them while the weights lay on other processes: merge its shards with "
                "python zero_to_fp32.py --safe_serialization PATH OUT, or train with "
                "stage3_gather_16bit_weights_on_model_save."
            )


def checkpoint_digests(path: Path, files: Iterable[str]) -> dict[str, FileFacts]:
    """Hash files of a checkpoint for a bundle's provenance.

    Reads every byte once, in small blocks: 1.4 GB/s on one x86 core with SHA instructions and a warm page cache.

    Args:
        path: The checkpoint's directory.
        files: Names relative to it, as `Checkpoint.files`.

    Raises:
        CheckpointInvalid: A file cannot be read.
    """
    digests: dict[str, FileFacts] = {}
    for name in files:
        try:
            digests[name] = describe_file(path / name)
        except OSError as error:
            raise CheckpointInvalid(f"{path / name}: cannot be read ({error.strerror}).") from error
    return digests
