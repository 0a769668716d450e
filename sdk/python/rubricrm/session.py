"""The graph on a device: the only importer of onnxruntime."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.bundle import Bundle
from rubricrm.errors import ModelClosed, OptionInvalid, RuntimeFailed, RuntimeMissing
from rubricrm.kv_cache import KVCache
from rubricrm.machine import usable_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

DEVICES = ("cpu",)
_LOG_ERRORS_ONLY = 3
_MAX_THREADS = 1024
_DATA_DIRECTORY = "session.model_external_initializers_file_folder_path"


class Slot:
    """A KV cache bound to the graph once: past and present are the same memory, so no token copies them."""

    def __init__(self, cache: KVCache, binding: Any, max_rows: int) -> None:
        import numpy as np

        self.cache = cache
        self.binding = binding
        self.token_ids: NDArray[np.int64] = np.zeros((1, max_rows), np.int64)
        self.mask: NDArray[np.int64] = np.ones((1, cache.capacity), np.int64)
        self.num_logits: NDArray[np.int64] = np.ones(1, np.int64)


class Session:
    """An open graph. `run` is safe from several threads; each call advances one slot."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        threads: int | None = None,
        max_rows: int = 256,
        graph: bytes | None = None,
    ) -> None:
        """Open the graph (0.05 s for the demo model, seconds for a 4B one: weights are repacked for the CPU).

        Args:
            bundle: The bundle to open.
            device: Where to run.
            threads: Threads of one run; None takes the cores that this process may really use.
            max_rows: Most tokens of one run.
            graph: Another graph on the bundle's data file, in place of its own.

        Raises:
            OptionInvalid: Unknown device, one that the bundle was not exported for, or threads out of range.
            RuntimeMissing: No ONNX Runtime is installed.
            RuntimeFailed: ONNX Runtime refused the graph.
        """
        if device not in DEVICES:
            raise OptionInvalid(f"device must be one of {', '.join(DEVICES)}, got {device!r}.")
        target = bundle.manifest.graph.target
        if target != device:
            raise OptionInvalid(
                f"{bundle.path}: was exported for {target}, cannot run on {device}. Export with --target {device}."
            )
        if threads is not None and (type(threads) is not int or not 1 <= threads <= _MAX_THREADS):
            raise OptionInvalid(f"threads must be an integer from 1 to {_MAX_THREADS}, got {threads!r}.")
        self.threads = threads or usable_cores()
        self.max_rows = max_rows
        self._bundle = bundle
        self._process = os.getpid()
        self._lock = threading.Lock()
        path = bundle.file(bundle.manifest.graph.file)
        self._graph: Any = open_graph(graph or path, threads=self.threads, data_directory=bundle.path if graph else None)

    def new_slot(self, num_positions: int) -> Slot:
        """Allocate and bind a cache that holds at least `num_positions` tokens, the context at most.

        Raises:
            ModelClosed: As `run`.
            RuntimeFailed: The graph has no such cache.
        """
        facts = self._bundle.manifest
        cache = KVCache(facts.model, facts.graph.kv_type, num_positions)
        slot = Slot(cache, self._usable_graph().io_binding(), self.max_rows)
        _bind_input(slot.binding, "num_logits", slot.num_logits, (1,))
        for layer in range(facts.model.num_layers):
            for half, name in enumerate(("key", "value")):
                buffer = cache.buffer[layer, half]
                try:
                    _bind_input(slot.binding, f"past_key_values.{layer}.{name}", buffer, buffer.shape)
                    _bind_output(slot.binding, f"present.{layer}.{name}", buffer, buffer.shape)
                except Exception as error:  # its own classes have no common base
                    raise RuntimeFailed(f"binding the KV cache of {self._bundle.path}: {error}") from error
        return slot

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
        import numpy as np

        facts = self._bundle.manifest
        graph, count, total = self._usable_graph(), len(token_ids), slot.cache.length + len(token_ids)
        logits: NDArray[np.float32] = np.empty((rows, facts.model.vocab_size), np.float32)
        slot.token_ids[0, :count] = token_ids
        slot.num_logits[0] = rows
        _bind_input(slot.binding, "input_ids", slot.token_ids, (1, count))
        _bind_input(slot.binding, "attention_mask", slot.mask, (1, total))
        _bind_output(slot.binding, "logits", logits, (1, *logits.shape))
        # The attention kernel keeps state between its steps (onnxruntime #21413), and threads gain nothing from
        # running at once: one run already takes all cores.
        with self._lock:
            try:
                graph.run_with_iobinding(slot.binding)
            except Exception as error:  # its own classes have no common base
                raise RuntimeFailed(f"running {self._bundle.path}: {error}") from error
        slot.cache.length = total
        return logits

    def close(self) -> None:
        """Free the graph and unmap its files. Further runs raise ModelClosed. Closing twice is fine."""
        if self._process == os.getpid():
            with self._lock:
                self._graph = None

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
    """Return version and execution providers of the installed ONNX Runtime.

    Raises:
        RuntimeMissing: There is none.
    """
    onnxruntime = _import_onnxruntime()
    return {"onnxruntime": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


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


def open_graph(model: Path | bytes, *, threads: int, data_directory: Path | None = None) -> Any:
    """Return an `onnxruntime.InferenceSession` with this package's options.

    Args:
        model: The graph's file, or its bytes.
        threads: Threads of one run.
        data_directory: Where the external data of a graph given as bytes lies.

    Raises:
        RuntimeMissing: No ONNX Runtime is installed.
        RuntimeFailed: ONNX Runtime refused the graph.
    """
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # A memory pattern is kept for every shape seen, and each step has a new one: the memory would never stop growing.
    options.enable_mem_pattern = False
    if data_directory is not None:
        options.add_session_config_entry(_DATA_DIRECTORY, str(data_directory))
    what = model if isinstance(model, Path) else f"a graph of {len(model)} bytes"
    source = str(model) if isinstance(model, Path) else model
    try:
        graph = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RuntimeFailed(f"opening {what} with onnxruntime {onnxruntime.__version__}: {error}") from error
    logger.debug("opened %s with onnxruntime %s, %d threads", what, onnxruntime.__version__, threads)
    return graph


def _bind_input(binding: Any, name: str, array: NDArray[Any], shape: Sequence[int]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, tuple(shape), _address(array))


def _bind_output(binding: Any, name: str, array: NDArray[Any], shape: Sequence[int]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, tuple(shape), _address(array))


def _address(array: NDArray[Any]) -> int:
    # array.ctypes.data gives the same and takes 10 microseconds, a tenth of a small model's step.
    address: int = array.__array_interface__["data"][0]
    return address
