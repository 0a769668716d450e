"""A bundle's graph on a device: slots for sequences, and steps that append tokens to them."""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.errors import ModelClosed, OutputInvalid, RuntimeFailed
from rubricrm.runtime.binding import ArenaMaker
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.derived_data import data_directory
from rubricrm.runtime.device_lock import DEVICE_LOCK
from rubricrm.runtime.execution import Execution, PlainExecution
from rubricrm.runtime.graph import device_problem, import_onnxruntime, open_graph
from rubricrm.runtime.graph_choice import GraphChoice, choose_graph
from rubricrm.runtime.integer_option import check_integer
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.manifest import PACKED_LAYOUT
from rubricrm.runtime.paged_execution import CAPTURE_OPTIONS, PagedExecution
from rubricrm.runtime.providers import find_device, provider_options
from rubricrm.runtime.slot import Chunk, Slot, by_arena
from rubricrm.runtime.step_inputs import STEP_INPUTS, Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_MAX_THREADS = 1024
_MAX_ROWS = 1 << 20


@dataclass(frozen=True)
class GraphVariant:
    """Contents in place of one of a bundle's graph files; its external data are those of that graph."""

    file: str
    contents: bytes


def choose(bundle: Bundle, device: str | None = None, *, file: str | None = None) -> GraphChoice:
    """Return the best graph of a bundle that can be run here, and where.

    Args:
        bundle: The bundle.
        device: Where to run; None takes the best graph whose device is here.
        file: The file of the only graph that is wanted.

    Raises:
        GraphUnusable: The bundle has no graph that this installation can run.
        OptionInvalid: Unknown device, or one that the bundle was not exported for.
        RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
    """
    if device is not None:
        find_device(device)
    graphs = [graph for graph in bundle.manifest.graphs if file in (None, graph.file)]
    return choose_graph(graphs, device, device_problem, str(bundle.path), find_kernels())


class Session:
    """An open graph. `step` and `run` are safe from several threads, if each slot is one's alone.

    Attributes:
        device: Where it runs: one of `DEVICES`.
        threads: Threads of one run.
        max_rows: Most tokens of one run.
        facts: What the manifest says of the graph that was chosen.
        kernels: This project's library, where the graph needs it.
        mapped_file: The data file, where its weights are used in place; None: ONNX Runtime has copied them.
        cache_key: Names all that keys and values, or engines, of this graph depend on beside the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        max_rows: int = 256,
        variant: GraphVariant | None = None,
    ) -> None:
        """Open the graph.

        It takes milliseconds where packed weights are mapped; ONNX Runtime repacks those of a 4B model in seconds.

        Args:
            bundle: The bundle to open.
            device: Where to run; None takes the best graph whose device is here.
            threads: Threads of one run; None takes the cores that this process may really use.
            max_rows: Most tokens of one run.
            variant: A variant of one of the bundle's graphs, to open in its place.

        Raises:
            GraphUnusable: The bundle has no graph that this version can run.
            OptionInvalid: Unknown device, one that the bundle was not exported for, or a number out of range.
            RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
            RuntimeFailed: ONNX Runtime refused the graph.
        """
        choice = choose(bundle, device, file=None if variant is None else variant.file)
        self.facts = choice.graph
        self.device = choice.device
        self._device = find_device(self.device)
        if threads is not None:
            check_integer("threads", threads, _MAX_THREADS)
        check_integer("max_rows", max_rows, _MAX_ROWS)
        self.threads = threads or usable_cores()
        self.max_rows = max_rows
        self._bundle = bundle
        self._process = os.getpid()
        # The attention kernel keeps state between its steps (onnxruntime #21413), and threads gain nothing from
        # running at once: one run already takes all cores.
        self._lock = threading.RLock() if self._device.is_host else DEVICE_LOCK
        version = import_onnxruntime().__version__
        self.cache_key = (
            f"{self.device}-{self.facts.file}-{self.facts.kv_type}-onnxruntime-{version}-{platform.machine()}"
        )
        self.kernels = find_kernels() if self.facts.requires.library is not None else None
        with data_directory(bundle, self.facts) as directory:
            with self._lock:
                self._graph, self._execution = self._open(variant, directory)
            self.mapped_file = directory / str(self.facts.data_file) if self.facts.layout == PACKED_LAYOUT else None

    def _open(self, variant: GraphVariant | None, directory: Path) -> tuple[Any, Execution]:
        path = self._bundle.file(self.facts.file)
        is_beside = variant is None and directory == self._bundle.path
        open_with = partial(
            open_graph,
            path if is_beside else path.read_bytes() if variant is None else variant.contents,
            threads=self.threads,
            device=self.device,
            data_directory=None if is_beside else directory,
            library=None if self.kernels is None else self.kernels.library,
        )
        if self.is_paged and not self._device.is_host:
            return self._open_paged(open_with)
        options = provider_options(self.device, self._bundle, self.max_rows, self.cache_key)
        vocab_size = self._bundle.manifest.model.vocab_size
        return open_with(provider_options=options), PlainExecution(self._device, vocab_size)

    def _open_paged(self, open_with: Callable[..., Any]) -> tuple[Any, Execution]:
        """Open a graph whose steps are captured, or if it is refused for that, one whose steps are not."""
        vocab_size = self._bundle.manifest.model.vocab_size
        if self._device.captures:
            try:
                graph = open_with(provider_options=CAPTURE_OPTIONS)
                return graph, PagedExecution(self._device, vocab_size, captures=True)
            except RuntimeFailed as error:
                logger.warning("this model runs without CUDA graphs (%s)", error)
        return open_with(), PagedExecution(self._device, vocab_size, captures=False)

    @property
    def takes_any_mix(self) -> bool:
        """Whether one run takes tokens of several slots; else a step is a run for each of its chunks."""
        return STEP_INPUTS[self.facts.kv_update].takes_any_mix

    @property
    def is_exact(self) -> bool:
        """Whether the logits of a token are the same bits whatever else is in the step, and however it is cut."""
        return self.takes_any_mix and self.mapped_file is not None

    @property
    def is_paged(self) -> bool:
        """Whether slots share blocks of a memory that is taken at once. They then borrow nothing (`Slot.borrow`)."""
        return self.facts.kv_update == "paged"

    def new_slots(self, count: int, num_positions: int, total_positions: int | None = None) -> tuple[Slot, ...]:
        """Allocate and bind caches that hold at least `num_positions` tokens each, the context at most.

        Where `is_paged` all together hold `total_positions`; None: each may be full.

        Raises:
            ModelClosed: As `step`.
            RuntimeFailed: The graph has no such cache, or the device no memory for it.
        """
        graph, model = self.check_open(), self._bundle.manifest.model
        make = ArenaMaker(graph, self.facts, model, self._device, self.max_rows).make
        try:
            with self._lock:
                if self.takes_any_mix:
                    return make(count, num_positions, total_positions or count * num_positions).slots
                return tuple(make(1, num_positions, num_positions).slots[0] for _ in range(count))
        except Exception as error:  # its own classes have no common base
            raise RuntimeFailed(f"making the KV cache of {self._bundle.path}: {error}") from error

    def new_slot(self, num_positions: int) -> Slot:
        """Return one slot; as `new_slots`."""
        return self.new_slots(1, num_positions)[0]

    def step(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        """Append tokens to several slots. Where `takes_any_mix` it is one run for all that are of one arena.

        Args:
            chunks: Each of another slot; together at most `max_rows` tokens.

        Returns:
            For each chunk the logits after its last `num_logits` tokens, [num_logits, vocab_size] of float32, owned by
            the caller. They may be no numbers: see `check_finite`.

        Raises:
            ModelClosed: The session was closed, or opened before this process was forked.
            RuntimeFailed: ONNX Runtime failed, or was asked for what a slot or the session has no room for.
        """
        graph = self.check_open()
        self._check_step(chunks)
        with self._lock:
            found: dict[Slot, NDArray[np.float32]] = {}
            for group in by_arena(chunks):
                try:
                    found.update(self._run(graph, group))
                except Exception as error:  # its own classes have no common base
                    if self._graph is None:
                        raise ModelClosed(
                            f"{self._bundle.path}: the model was closed during a step. Open it again."
                        ) from error
                    raise RuntimeFailed(f"running {self._bundle.path}: {error}") from error
        return [found[chunk.slot] for chunk in chunks]

    def run(self, slot: Slot, token_ids: Sequence[int], rows: int = 1) -> NDArray[np.float32]:
        """Append tokens to one slot and return the logits after the last `rows` of them, which are numbers.

        Raises:
            RubricrmError: As `step` and `check_finite`.
        """
        chunk = Chunk(slot, token_ids, rows)
        (logits,) = self.step([chunk])
        self.check_finite(chunk, logits)
        return logits

    def _run(self, graph: Any, chunks: Sequence[Chunk]) -> dict[Slot, NDArray[np.float32]]:
        """Run chunks of one arena."""
        arena = chunks[0].slot.arena
        least = arena.inputs.least_rows
        parts = [Part(c.slot.number, c.token_ids, c.slot.cache.length, max(c.num_logits, least)) for c in chunks]
        rows = self._execution.run(graph, arena, parts)
        found, start = {}, len(rows) - sum(part.rows for part in parts)
        for chunk, part in zip(chunks, parts, strict=True):
            chunk.slot.cache.advance(len(chunk.token_ids))
            end = start + part.rows
            found[chunk.slot], start = rows[end - chunk.num_logits : end], end
        return found

    def close(self) -> None:
        """Free the graph and unmap its files: a step in progress ends at its next operator, with ModelClosed.

        Further steps raise ModelClosed. Closing twice is fine.
        """
        if self._process == os.getpid():
            self._graph = None
            self._execution.stop()
            with self._lock:
                pass  # the step in progress holds the graph

    def _check_step(self, chunks: Sequence[Chunk]) -> None:
        running = f"running {self._bundle.path}"
        vocab_size = self._bundle.manifest.model.vocab_size
        for chunk in chunks:
            cache, count = chunk.slot.cache, len(chunk.token_ids)
            if not (0 <= chunk.num_logits <= count <= cache.capacity - cache.length and count):
                raise RuntimeFailed(
                    f"{running}: logits of {chunk.num_logits} of {count} tokens after {cache.length} in a cache of "
                    f"{cache.capacity}. Make a larger slot."
                )
            unknown = next((token for token in chunk.token_ids if not 0 <= token < vocab_size), None)
            if unknown is not None:
                raise RuntimeFailed(f"{running}: token {unknown}, expected ids from 0 to {vocab_size - 1}.")
        total = sum(len(chunk.token_ids) for chunk in chunks)
        if total > self.max_rows:
            raise RuntimeFailed(
                f"{running}: {total} tokens in one step, expected at most {self.max_rows}. Run them in parts, or open "
                "the session with a larger max_rows."
            )
        if len({id(chunk.slot) for chunk in chunks}) < len(chunks):
            raise RuntimeFailed(f"{running}: two chunks of one slot in a step, expected one. Join them.")

    def check_finite(self, chunk: Chunk, logits: NDArray[np.float32]) -> None:
        """Refuse logits that are no numbers (15 microseconds for a row of 151,669).

        A graph may rule out the padding after the real tokens with minus infinity: that is an answer.

        Args:
            chunk: Of the step that came last.
            logits: What the step returned for it.

        Raises:
            OutputInvalid: They are not finite. The slot is then empty, so that nothing of them is left in it.
        """
        if not len(logits):
            return
        import numpy as np

        real = logits[:, : self._bundle.manifest.tokenizer.num_tokens]
        with np.errstate(invalid="ignore"):
            are_numbers = (logits.max(axis=1) < np.inf) & (real.min(axis=1) > -np.inf)  # false for NaN
        if are_numbers.all():
            return
        row = int(np.argmin(are_numbers)) - len(logits)
        found = logits[row]
        position = chunk.slot.cache.length + row
        chunk.slot.clear()
        raise OutputInvalid(
            f"running {self._bundle.path}: {(~np.isfinite(found)).sum()} of {found.size} logits are not finite (the "
            f"first is {found[~np.isfinite(found)][0]}) after token {chunk.token_ids[row]} at position {position}, "
            "expected numbers. Its weights hold NaN or infinity, or its numbers exceed the range of the type that it "
            "computes in: compare the files (`rubricrm inspect --verify`), or export it again with another type."
        )

    def check_open(self) -> Any:
        """Return the graph, or raise ModelClosed: the session was closed, or opened before a fork."""
        # The threads of the runtime do not survive a fork: a run would wait for them for ever.
        if self._process != os.getpid():
            raise ModelClosed(
                f"{self._bundle.path}: was opened in process {self._process} and cannot be used in its fork "
                f"{os.getpid()}. Open the model after the fork, or start processes with the method spawn."
            )
        graph = self._graph
        if graph is None:
            raise ModelClosed(f"{self._bundle.path}: the model was closed. Open it again.")
        return graph
