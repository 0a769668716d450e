"""Where logits come from: a bundle, or a checkpoint that is too large to open as floats.

A source gives the logits of every token of a text, some at a time: nobody holds them all (6,600 tokens over Qwen3's
vocabulary are 4 GB).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rubricrm.errors import OutputInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.session import GraphVariant, Session

from rubricrm_export.calibrate.float_model import FloatModel
from rubricrm_export.calibrate.token_text import TokenText, check_context
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import QualityTooLow

Logits = NDArray[np.float32]

BLOCK_ROWS = 128  # 78 MB over Qwen3's vocabulary, and enough rows for a product at full speed


class LogitSource(Protocol):
    """Logits of a text, teacher-forced."""

    def rows(self) -> Iterator[Logits]:
        """Yield the logits [rows, vocab_size] after each token of each sequence, a block of `blocks` at a time."""
        ...


def blocks(sequence: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the tokens of a sequence that are run together: 128, at its end fewer."""
    for start in range(0, len(sequence), BLOCK_ROWS):
        yield sequence[start : start + BLOCK_ROWS]


class BundleLogits:
    """A bundle's logits. It is open while it is iterated over; the prefix is run once."""

    def __init__(
        self,
        bundle: Bundle,
        text: TokenText,
        *,
        device: str = "cpu",
        threads: int | None = None,
        variant: GraphVariant | None = None,
    ) -> None:
        """Check the text's length and open nothing yet.

        Args:
            bundle: The model.
            text: Ids of its tokenizer.
            device: As in `Session`.
            threads: As in `Session`.
            variant: A variant of one of the bundle's graphs.

        Raises:
            OptionInvalid: A sequence does not fit the model's context.
        """
        self._length = check_context(text, bundle.manifest.model.context_length, str(bundle.path))
        self._bundle = bundle
        self._text = text
        self._open = partial(Session, bundle, device=device, threads=threads, max_rows=BLOCK_ROWS, variant=variant)

    def rows(self) -> Iterator[Logits]:
        """Yield blocks of logits.

        Raises:
            OptionInvalid: As `Session`.
            RuntimeMissing: No ONNX Runtime is installed.
            RuntimeFailed: ONNX Runtime failed.
            QualityTooLow: Logits are no numbers.
        """
        session = self._open()
        try:
            slot = session.new_slot(self._length)
            for ids in blocks(self._text.prefix):
                session.run(slot, ids)
            for sequence in self._text.sequences:
                slot.cache.rewind(len(self._text.prefix))
                for ids in blocks(sequence):
                    yield session.run(slot, ids, rows=len(ids))
        except OutputInvalid as error:
            raise QualityTooLow(
                f"{self._bundle.path}: gives logits that are not finite on {self._text.name}, expected numbers. "
                "Export it again, with wider types."
            ) from error
        finally:
            session.close()


class CheckpointLogits:
    """A checkpoint's float32 logits, with one layer, then the output head, in memory.

    A 4B model needs 2.5 GB, most of it the head, where its weights alone are 16 GB in float32.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        text: TokenText,
        *,
        threads: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Check the text's length and read nothing yet.

        Args:
            checkpoint: The model.
            text: Ids of its tokenizer.
            threads: Threads to compute with; None takes the usable cores.
            on_progress: Gets the layers done and their number.

        Raises:
            OptionInvalid: A sequence does not fit the model's context.
        """
        check_context(text, checkpoint.architecture.context_length, str(checkpoint.path))
        self._checkpoint = checkpoint
        self._text = text
        self._threads = threads or usable_cores()
        self._on_progress = on_progress

    def rows(self) -> Iterator[Logits]:
        """Run all layers on the whole text, then yield blocks of logits.

        Raises:
            CheckpointInvalid: A weight or an activation is not finite.
            RuntimeFailed: ONNX Runtime failed.
        """
        model = FloatModel(self._checkpoint, self._text, threads=self._threads)
        normed = model.final_norm(model.final_residual(self._on_progress))
        head = model.head()
        start = len(self._text.prefix)
        for sequence in self._text.sequences:
            for ids in blocks(sequence):
                yield model.logits(normed[start : start + len(ids)], head)
                start += len(ids)
