"""How a step is run: its inputs are bound, the graph runs, and its logits are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rubricrm.runtime.array_address import address
from rubricrm.runtime.binding import ELEMENT_TYPES, allocate, bind_integers
from rubricrm.runtime.concatenated_cache import ConcatenatedCache
from rubricrm.runtime.graph import run_options
from rubricrm.runtime.providers import Device
from rubricrm.runtime.slot import Arena
from rubricrm.runtime.step_inputs import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.runtime.step_inputs import AnyIntegers


class Execution(Protocol):
    """Runs steps. Not safe from several threads at once."""

    def run(self, graph: Any, arena: Arena, parts: Sequence[Part]) -> NDArray[np.float32]:
        """Run a graph on slots of one arena.

        Returns:
            All rows of logits that it computed, [rows, vocab_size], owned by the caller.
        """
        ...

    def stop(self) -> None:
        """Let a run in progress end at its next operator, and each that follows."""
        ...


class PlainExecution:
    """Binds all inputs and the logits before each run: what a device reads is copied there when it is bound."""

    def __init__(self, device: Device, vocab_size: int) -> None:
        """Take no memory yet."""
        self._device = device
        self._vocab_size = vocab_size
        self._options = run_options()

    def run(self, graph: Any, arena: Arena, parts: Sequence[Part]) -> NDArray[np.float32]:
        """As `Execution`."""
        for name, array in arena.inputs.of(parts).items():
            self._bind_input(arena, name, array)
        logits = self._bind_logits(arena, arena.inputs.num_rows(parts))
        cache = arena.slots[0].cache
        if isinstance(cache, ConcatenatedCache):
            self._run_concatenating(graph, arena.binding, cache)
        else:
            arena.binding.synchronize_inputs()
            graph.run_with_iobinding(arena.binding, self._options)
        rows: NDArray[np.float32] = logits if self._device.is_host else owned(logits)
        return rows.reshape(-1, self._vocab_size)

    def stop(self) -> None:
        """As `Execution`."""
        self._options.terminate = True

    def _bind_input(self, arena: Arena, name: str, array: AnyIntegers) -> None:
        """Bind an array, unless it is bound: most steps are as large as the one before, and their inputs lie there."""
        where = (address(array), array.shape)
        if self._device.is_host and arena.bound.get(name) == where:
            return
        bind_integers(arena.binding, name, array)
        arena.bound[name] = where

    def _run_concatenating(self, graph: Any, binding: Any, cache: ConcatenatedCache) -> None:
        names = []
        for name, value in cache.pasts():
            binding.bind_ortvalue_input(name, value)
            names.append(name.replace("past_key_values", "present"))
        for name in names:
            binding.bind_output(name, self._device.memory)
        graph.run_with_iobinding(binding, self._options)
        cache.keep(binding.get_outputs()[1:])  # in the order in which they were bound first: the logits before

    def _bind_logits(self, arena: Arena, rows: int) -> Any:
        """Bind memory for the logits: an array where the device is the host, else a value that stays on the device."""
        import numpy as np

        shape = (*arena.inputs.batch, rows, self._vocab_size)
        if self._device.is_host:
            logits: NDArray[np.float32] = np.empty(shape, np.float32)
            element_type = ELEMENT_TYPES["float32"]
            arena.binding.bind_output("logits", "cpu", 0, element_type, shape, address(logits))
            return logits
        if arena.device_logits is None or tuple(arena.device_logits.shape()) != shape:
            arena.device_logits = allocate(shape, np.float32, self._device)
        arena.binding.bind_ortvalue_output("logits", arena.device_logits)
        return arena.device_logits


def owned(value: Any) -> NDArray[np.float32]:
    """Return what one of the runtime's values holds, as an array of the caller's own.

    `numpy` makes a new array of what lies on a device, but returns the value's own memory where that is the host's.
    """
    found: NDArray[np.float32] = value.numpy()
    return found if found.flags.owndata else found.copy()
