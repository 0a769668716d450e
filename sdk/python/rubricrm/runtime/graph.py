"""A graph opened by ONNX Runtime: the only importer of onnxruntime."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rubricrm.errors import RuntimeFailed, RuntimeMissing
from rubricrm.runtime.control_group import cpu_quota
from rubricrm.runtime.installation import install_command, runtime_conflict
from rubricrm.runtime.path_text import utf8_path
from rubricrm.runtime.providers import DEVICES, Device, find_device, misplaced_operators

logger = logging.getLogger(__name__)

_LOG_ERRORS_ONLY = 3
_DATA_DIRECTORY = "session.model_external_initializers_file_folder_path"
_SPINNING = "session.intra_op.allow_spinning"
_EXACT_PRODUCTS = "session.x64quantprecision"
RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"

_opened: weakref.WeakSet[Any] = weakref.WeakSet()


def _keep_in_fork() -> None:
    """Let a fork never destroy its parent's graphs.

    ONNX Runtime's threads are not there. Where one slept when the process was forked, destroying what it slept on
    waits for it for ever: at the latest when the fork exits.
    """
    import ctypes

    for graph in _opened:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_in_fork)


def import_onnxruntime() -> Any:
    """Return the module.

    Raises:
        RuntimeMissing: It is not installed, or cannot be loaded.
    """
    # Its wheels report to their maker unless told not to, from a thread that also makes a forked process hang at exit.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(
            f"onnxruntime cannot be imported ({error}). Install it: {install_command('cpu')}; for a CUDA GPU with the "
            "extra gpu in the place of cpu."
        ) from error
    return onnxruntime


def run_options(graph_id: int = 0) -> Any:
    """Return options of runs.

    Args:
        graph_id: Which CUDA graph to launch, or to capture; -1: none. Where there are none it may be 0, the default:
            left unset, ONNX Runtime's Python raises and catches an error in each run, in 45 microseconds.
    """
    options = import_onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options


def runtime_facts() -> dict[str, Any]:
    """Return version and execution providers of the installed ONNX Runtime, and what each device lacks here.

    Raises:
        RuntimeMissing: There is none.
    """
    onnxruntime = import_onnxruntime()
    return {
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "devices": {name: device.problem(onnxruntime) or "ready" for name, device in DEVICES.items()},
    }


def device_problem(device: str) -> str | None:
    """Return why a device cannot be used here, and the remedy; None where nothing is known to be missing.

    Raises:
        OptionInvalid: Unknown device.
        RuntimeMissing: No ONNX Runtime is installed.
    """
    return find_device(device).problem(import_onnxruntime())


def open_graph(
    model: Path | bytes,
    *,
    threads: int,
    device: str = "cpu",
    data_directory: Path | None = None,
    provider_options: Mapping[str, str] | None = None,
    library: Path | None = None,
) -> Any:
    """Open any graph with this module's options: an `onnxruntime.InferenceSession`.

    Args:
        model: The graph's file, or its bytes.
        threads: Threads of one run.
        device: One of `DEVICES`.
        data_directory: Where the external data of a graph given as bytes lies; a file's lies beside it.
        provider_options: Of the device's provider.
        library: Of operators that the graph needs and ONNX Runtime lacks.

    Raises:
        OptionInvalid: Unknown device.
        RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
        RuntimeFailed: ONNX Runtime refused the graph, or the library.
    """
    where = find_device(device)
    onnxruntime = import_onnxruntime()
    _warn_of_conflict()
    if problem := where.problem(onnxruntime):
        raise RuntimeMissing(f"device {device} cannot be used: {problem}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    if (quota := cpu_quota()) is not None and quota < threads:
        # A thread that spins while it waits for work uses up what the group may use, and all are stopped.
        options.add_session_config_entry(_SPINNING, "0")
    # Without VNNI, sums of products of INT8 would overflow 16 bits: results 2 to 4 % off.
    options.add_session_config_entry(_EXACT_PRODUCTS, "1")
    # A memory pattern is kept for every shape seen, and each step has a new one: the memory would never stop growing.
    options.enable_mem_pattern = False
    if not where.is_host:
        options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    if library is not None:
        _register(options, library)
    what = str(model) if isinstance(model, Path) else f"a graph of {len(model)} bytes"
    try:
        source, data_directory = _readable_source(model, data_directory)
        if data_directory is not None:
            # In bytes: paths need not be UTF-8, which ONNX Runtime makes of a str.
            options.add_session_config_entry(_DATA_DIRECTORY, os.fsencode(data_directory))
        # Without the fallback: it would print a notice and run on the CPU.
        graph = onnxruntime.InferenceSession(
            source,
            options,
            providers=[where.provider],
            provider_options=[dict(provider_options or {})],
            enable_fallback=0,
        )
    except Exception as error:
        raise RuntimeFailed(f"opening {what} with onnxruntime {onnxruntime.__version__}: {error}") from error
    _check_placement(graph, where, device, f"{what} with onnxruntime {onnxruntime.__version__}")
    _opened.add(graph)
    logger.debug("opened %s with onnxruntime %s on %s, %d threads", what, onnxruntime.__version__, device, threads)
    return graph


def _register(options: Any, library: Path) -> None:
    try:
        options.register_custom_ops_library(utf8_path(library))
    except Exception as error:
        raise RuntimeFailed(f"{library}: its operators cannot be registered ({error}). Build it again.") from error


@cache
def _warn_of_conflict() -> None:
    """Log once in a process that two packages hide each other: the one in use may serve, until it does not."""
    if (conflict := runtime_conflict()) is not None:
        logger.warning(conflict)


def _readable_source(model: Path | bytes, data_directory: Path | None) -> tuple[str | bytes, Path | None]:
    """Return a graph and the directory of its data in forms that ONNX Runtime can read, whatever the path's bytes."""
    if isinstance(model, bytes):
        return model, data_directory
    path = utf8_path(model)
    return (path, None) if path is not None else (model.read_bytes(), model.parent)


def _check_placement(graph: Any, where: Device, device: str, what: str) -> None:
    # A provider that cannot be loaded is left out, with no more than a line in the log.
    if graph.get_providers()[0] != where.provider:
        raise RuntimeMissing(
            f"device {device} cannot be used: opening {what} did not load {where.provider} and would run on "
            f"{graph.get_providers()[0]}; the log says why. Look at `rubricrm doctor`."
        )
    if not where.is_host and (misplaced := misplaced_operators(graph, where.provider)):
        raise RuntimeFailed(
            f"opening {what}: there is no kernel on {device} for {', '.join(misplaced)} of this graph, which would run "
            "on the CPU. Export with other options, or upgrade onnxruntime-gpu."
        )
