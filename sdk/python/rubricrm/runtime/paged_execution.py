"""Steps of a graph of PagedAttention on a device, those that only decode as CUDA graphs.

The rules are those of ONNX Runtime's `enable_cuda_graph` (1.31): `gpu_graph_id` names a graph. Its first run computes
the step twice, captures it, and launches what it captured: all are to have the same shapes and addresses. Later runs
launch it again, whatever is bound. A thread has its own graphs, and they last as long as the session.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from rubricrm.runtime.binding import ELEMENT_TYPES, bind_integers
from rubricrm.runtime.execution import owned
from rubricrm.runtime.graph import run_options
from rubricrm.runtime.own_thread import OwnThread
from rubricrm.runtime.providers import Device
from rubricrm.runtime.slot import Arena
from rubricrm.runtime.step_inputs import METADATA, Part
from rubricrm.runtime.step_memory import Shape, StepMemory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

CAPTURE_OPTIONS = {"enable_cuda_graph": "1"}
_NOT_CAPTURED = -1
# Launching the operators one by one takes as long for any number of sequences, computing them does not: beyond so many
# there is little to gain, and each number takes memory of the device.
_MOST_SEQUENCES = 32
# Capturing costs about as much as so many launches save.
_WORTH_CAPTURING = 8


class PagedExecution:
    """As `Execution`. Inputs are copied at once, and logits have their place.

    A step that only decodes is captured when as many of its shape were run as make it worth it. A capture that fails
    is the last one: the session goes on without.
    """

    def __init__(self, device: Device, vocab_size: int, *, captures: bool) -> None:
        """Take no memory yet.

        Args:
            device: Where the graph runs.
            vocab_size: Of the model.
            captures: Whether the graph was opened with `CAPTURE_OPTIONS`.
        """
        self._device = device
        self._vocab_size = vocab_size
        self._captures = captures
        self._plain = run_options(_NOT_CAPTURED) if captures else run_options()
        self._graph_ids = count(1)
        self._thread = OwnThread("rubricrm-device")  # an engine's thread may end, and what it captured with it

    def run(self, graph: Any, arena: Arena, parts: Sequence[Part]) -> NDArray[np.float32]:
        """As `Execution`."""
        return self._thread.call(self._run, graph, arena, parts)

    def stop(self) -> None:
        """As `Execution`; a captured step ends as a whole, in milliseconds."""
        self._plain.terminate = True

    def _run(self, graph: Any, arena: Arena, parts: Sequence[Part]) -> NDArray[np.float32]:
        memory = cast("StepMemory", arena.step_memory)
        binding, inputs = arena.binding, arena.inputs.of(parts)
        for name, place in memory.copy_inputs(inputs).items():
            array = inputs[name]
            element_type = ELEMENT_TYPES[array.dtype.name]
            binding.bind_input(name, self._device.memory, 0, element_type, array.shape, place)
        bind_integers(binding, METADATA, inputs[METADATA])
        rows = arena.inputs.num_rows(parts)
        shape, place = (rows, self._vocab_size), memory.logits_address(rows)
        binding.bind_output("logits", self._device.memory, 0, ELEMENT_TYPES["float32"], shape, place)
        logits = binding.get_outputs()[0]
        self._launch(graph, binding, self._options(memory, inputs["block_table"].shape, len(inputs["input_ids"])))
        return owned(logits)

    def _options(self, memory: StepMemory, table_shape: tuple[int, ...], num_tokens: int) -> Any:
        """Return the run options of a step: those of its shape's graph, or the plain ones."""
        sequences, columns = table_shape
        if not self._captures or num_tokens > min(sequences, _MOST_SEQUENCES):
            return self._plain
        shape: Shape = sequences, columns
        memory.uses[shape] += 1
        if memory.uses[shape] > _WORTH_CAPTURING and shape not in memory.graphs:
            memory.graphs[shape] = run_options(next(self._graph_ids))
        return memory.graphs.get(shape, self._plain)

    def _launch(self, graph: Any, binding: Any, options: Any) -> None:
        try:
            graph.run_with_iobinding(binding, options)
        except Exception as error:
            if options is self._plain:
                raise
            self._captures = False
            logger.warning("a CUDA graph failed, and this model goes on without them (%s)", error)
            # A step may be computed again: it writes the same positions.
            graph.run_with_iobinding(binding, self._plain)
