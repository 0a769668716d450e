"""Memory that a graph reads and writes in place: keys and values, bound to it once for all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rubricrm.runtime.array_address import address
from rubricrm.runtime.block_table import BlockTable
from rubricrm.runtime.concatenated_cache import NAMES, ConcatenatedCache
from rubricrm.runtime.graph import import_onnxruntime
from rubricrm.runtime.kv_cache import (
    STORAGE_TYPES,
    BoundBuffer,
    DeviceBuffer,
    HostBuffer,
    KVCache,
    SlotBuffer,
    SlotMemory,
    capacity_for,
)
from rubricrm.runtime.manifest import GraphFacts, ModelFacts
from rubricrm.runtime.paged_memory import PagedBuffer, PagedMemory
from rubricrm.runtime.providers import Device
from rubricrm.runtime.slot import Arena
from rubricrm.runtime.step_inputs import ConcatenateInputs, PagedInputs, ScatterInputs, SharedInputs, SlotsInputs
from rubricrm.runtime.step_memory import StepMemory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Numbers of ONNX's element types (TensorProto.DataType): numpy lacks some of them.
ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "float16": 10,
    "bfloat16": 16,
    "float8e4m3fn": 17,
}


def bind_integers(binding: Any, name: str, array: NDArray[np.int64 | np.int32]) -> None:
    """Bind an array as an input; it must live as long as the binding."""
    binding.bind_input(name, "cpu", 0, ELEMENT_TYPES[array.dtype.name], array.shape, address(array))


def allocate(shape: Sequence[int], element_type: Any, device: Device) -> Any:
    """Return the runtime's value of a shape, in a device's memory."""
    return import_onnxruntime().OrtValue.ortvalue_from_shape_and_type(shape, element_type, device.memory, 0)


@dataclass(frozen=True)
class ArenaMaker:
    """Makes arenas for an open graph.

    Attributes:
        graph: The runtime's session.
        facts: What the manifest says of it.
        model: Sizes.
        device: Where it runs.
        max_rows: Most tokens of a step.
    """

    graph: Any
    facts: GraphFacts
    model: ModelFacts
    device: Device
    max_rows: int

    def make(self, count: int, num_positions: int, total_positions: int) -> Arena:
        """Allocate and bind `count` slots: several only where a run takes any mix of them.

        Args:
            count: How many slots.
            num_positions: Most positions of one.
            total_positions: Most positions of all together, where slots share a device's memory.
        """
        binding, context = self.graph.io_binding(), self.model.context_length
        caches: Sequence[KVCache | ConcatenatedCache]
        match self.facts.kv_update:
            case "slots":
                caches = self._slots(binding, count, num_positions)
                arena = Arena(binding, SlotsInputs(caches[0].capacity, self.max_rows), caches)
                bind_integers(binding, "base_slots", arena.base_slots)
                bind_integers(binding, "base_lengths", arena.base_lengths)
                return arena
            case "paged":
                table = BlockTable(count, capacity_for(self.model, num_positions), total_positions)
                caches = self._paged(binding, table, count, num_positions)
                inputs = PagedInputs(table, self.max_rows)
                return Arena(binding, inputs, caches, self._step_memory(inputs, count))
            case "concatenate":
                make_value = import_onnxruntime().OrtValue.ortvalue_from_numpy
                caches = [ConcatenatedCache(self.model, self.facts.kv_type, make_value)]
                return Arena(binding, ConcatenateInputs(caches[0].capacity, self.max_rows), caches)
            case "scatter":  # the graph states the length of a buffer that it scatters into: the whole context's
                caches = [self._bound_cache(binding, context)]
                return Arena(binding, ScatterInputs(context, self.max_rows), caches)
            case _:
                caches = [self._bound_cache(binding, num_positions)]
                return Arena(binding, SharedInputs(caches[0].capacity, self.max_rows), caches)

    def _slots(self, binding: Any, count: int, num_positions: int) -> list[KVCache]:
        """Make caches that are parts of one memory."""
        model, kv_type = self.model, self.facts.kv_type
        capacity = capacity_for(model, num_positions)
        shape = (model.num_layers, 2, count, model.num_kv_heads, capacity, model.head_dim)
        memory = SlotMemory(shape, STORAGE_TYPES[kv_type])
        element_type = ELEMENT_TYPES[kv_type]
        binding.bind_input("kv_cache", self.device.memory, 0, element_type, shape, address(memory.array))
        buffers = [SlotBuffer(memory, number) for number in range(count)]
        return [KVCache(model, kv_type, num_positions, lambda *_, of=buffer: of) for buffer in buffers]

    def _paged(self, binding: Any, table: BlockTable, count: int, num_positions: int) -> list[KVCache]:
        """Make caches whose blocks lie in one memory."""
        model, kv_type = self.model, self.facts.kv_type
        memory = PagedMemory(
            table,
            model.num_layers,
            (model.num_kv_heads, model.head_dim),
            STORAGE_TYPES[kv_type],
            self._allocate_bytes,
            self._view,
        )
        where = (self.device.memory, 0, ELEMENT_TYPES[kv_type], memory.shape)
        for layer in range(model.num_layers):
            for half, name in enumerate(NAMES):
                binding.bind_input(f"{name}_cache.{layer}", *where, memory.address(layer, half))
        buffers = [PagedBuffer(memory, number) for number in range(count)]
        return [KVCache(model, kv_type, num_positions, lambda *_, of=buffer: of) for buffer in buffers]

    def _view(self, place: int, shape: tuple[int, ...]) -> Any:
        """Return the runtime's value of bytes over a part of a device's memory, which it does not own.

        The runtime copies whole values alone, and makes one over memory at hand only of an output: any name serves.
        """
        binding = self.graph.io_binding()
        binding.bind_output("logits", self.device.memory, 0, ELEMENT_TYPES["uint8"], shape, place)
        return binding.get_outputs()[0]

    def _bound_cache(self, binding: Any, num_positions: int) -> KVCache:
        """Make a cache whose memory the graph reads the past from and writes the present into."""
        model, kv_type = self.model, self.facts.kv_type
        capacity = capacity_for(model, num_positions)
        shape = (1, model.num_kv_heads, capacity, model.head_dim)
        make_buffer = HostBuffer if self.device.is_host else self._make_device_buffer
        buffer: BoundBuffer = make_buffer((model.num_layers, 2, *shape), STORAGE_TYPES[kv_type])
        where = (self.device.memory, 0, ELEMENT_TYPES[kv_type], shape)
        for layer in range(model.num_layers):
            for half, name in enumerate(NAMES):
                place = buffer.address(layer, half)
                binding.bind_input(f"past_key_values.{layer}.{name}", *where, place)
                binding.bind_output(f"present.{layer}.{name}", *where, place)
        return KVCache(model, kv_type, num_positions, lambda *_: buffer)

    def _make_device_buffer(self, shape: tuple[int, ...], storage_type: str) -> DeviceBuffer:
        return DeviceBuffer(shape, storage_type, self._allocate_bytes)

    def _step_memory(self, inputs: PagedInputs, count: int) -> StepMemory | None:
        if self.device.is_host:
            return None
        return StepMemory(inputs.staging, count, self.model.vocab_size, self._allocate_bytes)

    def _allocate_bytes(self, shape: tuple[int, ...]) -> Any:
        import numpy as np

        return allocate(shape, np.uint8, self.device)
