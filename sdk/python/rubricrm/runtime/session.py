"""The graph on a device: the only importer of onnxruntime."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.errors import ModelClosed, OptionInvalid, RuntimeFailed, RuntimeMissing
from rubricrm.runtime import cuda, tensorrt
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.concatenated_cache import NAMES, ConcatenatedCache
from rubricrm.runtime.kv_cache import DeviceBuffer, HostBuffer, KVCache
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.manifest import DEVICES
from rubricrm.runtime.step_inputs import STEP_INPUTS, StepInputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_LOG_ERRORS_ONLY = 3
_MAX_THREADS = 1024
_DATA_DIRECTORY = "session.model_external_initializers_file_folder_path"
_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
# Numbers of ONNX's element types (TensorProto.DataType): numpy lacks some of them.
_ELEMENT_TYPES = {"float32": 1, "int8": 3, "int64": 7, "float16": 10, "bfloat16": 16, "float8e4m3fn": 17}


# Standard operators that cost something: a device that leaves one of them to the CPU does not run the model.
_HEAVY_OPERATORS = ("MatMul", "Attention", "TensorScatter")


@dataclass(frozen=True)
class _Device:
    """Where a graph runs.

    Attributes:
        provider: ONNX Runtime's execution provider.
        memory: ONNX Runtime's name for the memory that its kernels read.
        is_host: Whether that is this process's own memory.
        problem: Returns what the device lacks here, given the imported onnxruntime; None: nothing is known to.
    """

    provider: str
    memory: str
    is_host: bool = False
    problem: Callable[[Any], str | None] = lambda _: None


_DEVICES = {
    "cpu": _Device("CPUExecutionProvider", "cpu", is_host=True),
    "cuda": _Device(cuda.PROVIDER, "cuda", problem=lambda runtime: cuda.cuda_problem(runtime)),
    "tensorrt": _Device(tensorrt.PROVIDER, "cuda", problem=lambda runtime: tensorrt.tensorrt_problem(runtime)),
    "tensorrt-rtx": _Device(tensorrt.RTX_PROVIDER, "cuda", problem=lambda runtime: tensorrt.rtx_problem(runtime)),
}


class Slot:
    """A KV cache bound to the graph, and what else a run on it needs.

    Where past and present are the same memory they are bound once: no token copies them.
    """

    def __init__(self, cache: KVCache | ConcatenatedCache, inputs: StepInputs, binding: Any) -> None:
        self.cache = cache
        self.inputs = inputs
        self.binding = binding
        self.device_logits: Any = None


class Session:
    """An open graph. `run` is safe from several threads; each call advances one slot.

    Attributes:
        device: Where it runs: one of `DEVICES`.
        threads: Threads of one run.
        max_rows: Most tokens of one run.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        max_rows: int = 256,
        graph: bytes | None = None,
    ) -> None:
        """Open the graph (0.05 s for the demo model, seconds for a 4B one: weights are repacked for the CPU).

        Args:
            bundle: The bundle to open.
            device: Where to run; None takes the device that the bundle was exported for.
            threads: Threads of one run; None takes the cores that this process may really use.
            max_rows: Most tokens of one run.
            graph: A variant of the bundle's graph to open in its place; its external data are the bundle's files.

        Raises:
            OptionInvalid: Unknown device, one that the bundle was not exported for, or threads out of range.
            RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
            RuntimeFailed: ONNX Runtime refused the graph.
        """
        target = bundle.manifest.graph.target
        self.device = target if device is None else device
        self._device = _find_device(self.device)
        if target not in DEVICES[self.device]:
            raise OptionInvalid(
                f"{bundle.path}: was exported for {target}, cannot run on {device}. Export with --target "
                f"{DEVICES[self.device][0]}."
            )
        if threads is not None and (type(threads) is not int or not 1 <= threads <= _MAX_THREADS):
            raise OptionInvalid(f"threads must be an integer from 1 to {_MAX_THREADS}, got {threads!r}.")
        self.threads = threads or usable_cores()
        self.max_rows = max_rows
        self._bundle = bundle
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._graph: Any = open_graph(
            bundle.file(bundle.manifest.graph.file) if graph is None else graph,
            threads=self.threads,
            device=self.device,
            data_directory=None if graph is None else bundle.path,
            provider_options=tensorrt.provider_options(self.device, bundle, max_rows),
        )

    def new_slot(self, num_positions: int) -> Slot:
        """Allocate and bind a cache that holds at least `num_positions` tokens, the context at most.

        Raises:
            ModelClosed: As `run`.
            RuntimeFailed: The graph has no such cache, or the device no memory for it.
        """
        facts = self._bundle.manifest
        binding = self._usable_graph().io_binding()
        update = facts.graph.kv_update
        try:
            if update == "concatenate":
                make_value = _import_onnxruntime().OrtValue.ortvalue_from_numpy
                cache: KVCache | ConcatenatedCache = ConcatenatedCache(facts.model, facts.graph.kv_type, make_value)
            else:
                cache = self._bound_cache(binding, num_positions)
        except Exception as error:  # its own classes have no common base
            raise RuntimeFailed(f"making the KV cache of {self._bundle.path}: {error}") from error
        return Slot(cache, STEP_INPUTS[update](cache.capacity, self.max_rows), binding)

    def run(self, slot: Slot, token_ids: Sequence[int], rows: int = 1) -> NDArray[np.float32]:
        """Append tokens to a slot's sequence and return the logits after the last `rows` of them.

        Args:
            slot: Its cache must have room for the tokens.
            token_ids: 1 to `max_rows` ids.
            rows: How many rows of logits to compute, from the end.

        Returns:
            [rows, vocab_size], float32, owned by the caller.

        Raises:
            ModelClosed: The session was closed, or opened before this process was forked.
            RuntimeFailed: ONNX Runtime failed.
        """
        graph, count = self._usable_graph(), len(token_ids)
        if not (1 <= rows <= count <= slot.cache.capacity - slot.cache.length):
            raise RuntimeFailed(
                f"running {self._bundle.path}: {rows} rows of {count} tokens after {slot.cache.length} in a cache of "
                f"{slot.cache.capacity}. Make a larger slot."
            )
        inputs = slot.inputs.of(token_ids, slot.cache.length, rows)
        # The attention kernel keeps state between its steps (onnxruntime #21413), and threads gain nothing from
        # running at once: one run already takes all cores.
        with self._lock:
            try:
                # Bound anew for each run: what a device reads is copied there when it is bound.
                for name, array in inputs.items():
                    _bind_input(slot.binding, name, array)
                logits = self._bind_logits(slot, slot.inputs.num_rows(count, rows))
                if isinstance(slot.cache, ConcatenatedCache):
                    self._run_concatenating(graph, slot.binding, slot.cache)
                else:
                    slot.binding.synchronize_inputs()
                    graph.run_with_iobinding(slot.binding)
                found = self._read_logits(logits)[-rows:]
            except Exception as error:  # its own classes have no common base
                raise RuntimeFailed(f"running {self._bundle.path}: {error}") from error
        slot.cache.advance(count)
        return found

    def close(self) -> None:
        """Free the graph and unmap its files. Further runs raise ModelClosed. Closing twice is fine."""
        if self._process == os.getpid():
            with self._lock:
                self._graph = None

    def _make_device_buffer(self, shape: tuple[int, ...], storage_type: str) -> DeviceBuffer:
        import numpy as np

        return DeviceBuffer(shape, storage_type, lambda part: _allocate(part, np.uint8, self._device))

    def _bound_cache(self, binding: Any, num_positions: int) -> KVCache:
        """Make a cache whose memory the graph reads the past from and writes the present into."""
        facts = self._bundle.manifest
        # The graph states the length of a buffer that it scatters into: the whole context's.
        num_positions = facts.model.context_length if facts.graph.kv_update == "scatter" else num_positions
        make_buffer = HostBuffer if self._device.is_host else self._make_device_buffer
        cache = KVCache(facts.model, facts.graph.kv_type, num_positions, make_buffer)
        shape = (1, facts.model.num_kv_heads, cache.capacity, facts.model.head_dim)
        where = (self._device.memory, 0, _ELEMENT_TYPES[facts.graph.kv_type], shape)
        for layer in range(facts.model.num_layers):
            for half, name in enumerate(NAMES):
                address = cache.buffer.address(layer, half)
                binding.bind_input(f"past_key_values.{layer}.{name}", *where, address)
                binding.bind_output(f"present.{layer}.{name}", *where, address)
        return cache

    def _run_concatenating(self, graph: Any, binding: Any, cache: ConcatenatedCache) -> None:
        names = []
        for name, value in cache.pasts():
            binding.bind_ortvalue_input(name, value)
            names.append(name.replace("past_key_values", "present"))
        for name in names:
            binding.bind_output(name, self._device.memory)
        graph.run_with_iobinding(binding)
        cache.keep(binding.get_outputs()[1:])  # in the order in which they were bound first: the logits before

    def _bind_logits(self, slot: Slot, rows: int) -> Any:
        """Bind memory for the logits: an array where the device is the host, else a value that stays on the device."""
        import numpy as np

        shape = (1, rows, self._bundle.manifest.model.vocab_size)
        if self._device.is_host:
            logits: NDArray[np.float32] = np.empty(shape, np.float32)
            element_type = _ELEMENT_TYPES["float32"]
            slot.binding.bind_output("logits", "cpu", 0, element_type, shape, _address(logits))
            return logits
        if slot.device_logits is None or tuple(slot.device_logits.shape()) != shape:
            slot.device_logits = _allocate(shape, np.float32, self._device)
        slot.binding.bind_ortvalue_output("logits", slot.device_logits)
        return slot.device_logits

    def _read_logits(self, logits: Any) -> NDArray[np.float32]:
        # `numpy` copies from a device, but returns the value's own memory where that is the host's.
        found: NDArray[np.float32] = logits[0] if self._device.is_host else logits.numpy()[0].copy()
        return found

    def _usable_graph(self) -> Any:
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


def runtime_facts() -> dict[str, Any]:
    """Return version and execution providers of the installed ONNX Runtime, and what each device lacks here.

    Raises:
        RuntimeMissing: There is none.
    """
    onnxruntime = _import_onnxruntime()
    return {
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "devices": {name: device.problem(onnxruntime) or "ready" for name, device in _DEVICES.items()},
    }


def _import_onnxruntime() -> Any:
    # Its wheels report to their maker unless told not to, from a thread that also makes a forked process hang at exit.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(
            f"onnxruntime cannot be imported ({error}). Install it: pip install 'rubricrm[cpu]', "
            "or 'rubricrm[gpu]' for a CUDA GPU."
        ) from error
    return onnxruntime


def open_graph(
    model: Path | bytes,
    *,
    threads: int,
    device: str = "cpu",
    data_directory: Path | None = None,
    provider_options: Mapping[str, str] | None = None,
) -> Any:
    """Open any graph with this module's options: an `onnxruntime.InferenceSession`.

    Args:
        model: The graph's file, or its bytes.
        threads: Threads of one run.
        device: One of `DEVICES`.
        data_directory: Where the external data of a graph given as bytes lies; a file's lies beside it.
        provider_options: Of the device's provider.

    Raises:
        OptionInvalid: Unknown device.
        RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
        RuntimeFailed: ONNX Runtime refused the graph.
    """
    where = _find_device(device)
    provider = where.provider
    onnxruntime = _import_onnxruntime()
    if problem := where.problem(onnxruntime):
        raise RuntimeMissing(f"device {device} cannot be used: {problem}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # A memory pattern is kept for every shape seen, and each step has a new one: the memory would never stop growing.
    options.enable_mem_pattern = False
    if data_directory is not None:
        options.add_session_config_entry(_DATA_DIRECTORY, str(data_directory))
    if not where.is_host:
        options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    what = model if isinstance(model, Path) else f"a graph of {len(model)} bytes"
    source = str(model) if isinstance(model, Path) else model
    try:
        # Without the fallback: it would print a notice and run on the CPU.
        graph = onnxruntime.InferenceSession(
            source,
            options,
            providers=[provider],
            provider_options=[dict(provider_options or {})],
            enable_fallback=0,
        )
    except Exception as error:
        raise RuntimeFailed(f"opening {what} with onnxruntime {onnxruntime.__version__}: {error}") from error
    # A provider that cannot be loaded is left out, with no more than a line in the log.
    if graph.get_providers()[0] != provider:
        raise RuntimeMissing(
            f"device {device} cannot be used: onnxruntime {onnxruntime.__version__} did not load {provider} and would "
            f"run on {graph.get_providers()[0]}; its log says why. Look at `rubricrm doctor`."
        )
    if not where.is_host and (misplaced := _misplaced_operators(graph, provider)):
        raise RuntimeFailed(
            f"opening {what}: onnxruntime {onnxruntime.__version__} has no kernel on {device} for "
            f"{', '.join(misplaced)} of this graph, and would run it on the CPU. Export with other options, or upgrade "
            "onnxruntime-gpu."
        )
    logger.debug("opened %s with onnxruntime %s on %s, %d threads", what, onnxruntime.__version__, device, threads)
    return graph


def _misplaced_operators(graph: Any, provider: str) -> list[str]:
    """Return the heavy operators that a provider left to the CPU: the contributed ones, and a few of the standard.

    It leaves the lengths to the CPU too, in other standard operators: as it should.
    """
    return sorted(
        {
            node.op_type
            for part in graph.get_provider_graph_assignment_info()
            if part.ep_name != provider
            for node in part.get_nodes()
            if node.domain or node.op_type in _HEAVY_OPERATORS
        }
    )


def _find_device(name: str) -> _Device:
    if name not in _DEVICES:
        raise OptionInvalid(f"device must be one of {', '.join(_DEVICES)}, got {name!r}.")
    return _DEVICES[name]


def _allocate(shape: Sequence[int], element_type: Any, device: _Device) -> Any:
    value = _import_onnxruntime().OrtValue
    return value.ortvalue_from_shape_and_type(shape, element_type, device.memory, 0)


def _bind_input(binding: Any, name: str, array: NDArray[np.int64]) -> None:
    binding.bind_input(name, "cpu", 0, _ELEMENT_TYPES["int64"], array.shape, _address(array))


def _address(array: NDArray[Any]) -> int:
    # array.ctypes.data gives the same and takes 10 microseconds, a tenth of a small model's step.
    address: int = array.__array_interface__["data"][0]
    return address
