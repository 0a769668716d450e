"""Where a graph runs: the devices, what each needs of an installation, and what its provider is told.

It is given ONNX Runtime's module, and imports none. The names of TensorRT's options are those of ONNX Runtime's
documentation of its two providers. Not run on a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.cache_directory import CacheError, own_directory, warn_without_cache
from rubricrm.runtime.installation import install_command, installed_runtimes, runtime_conflict
from rubricrm.runtime.path_text import utf8_path

if TYPE_CHECKING:
    from rubricrm.runtime.bundle import Bundle

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_RTX = "NvTensorRTRTXExecutionProvider"
_PROVIDER_LIBRARY = "libonnxruntime_providers_cuda.so"
_DRIVER_LIBRARY = "libcuda.so.1"
# Standard operators that cost something: a device that leaves one of them to the CPU does not run the model.
_HEAVY_OPERATORS = ("MatMul", "Attention", "TensorScatter")


@dataclass(frozen=True)
class Device:
    """Where a graph runs.

    Attributes:
        provider: ONNX Runtime's execution provider.
        memory: ONNX Runtime's name for the memory that its kernels read.
        is_host: Whether that is this process's own memory.
        captures: Whether the provider can capture steps as CUDA graphs.
        problem: Returns what the device lacks here and the remedy, given the imported onnxruntime; None where nothing
            is known to be missing.
    """

    provider: str
    memory: str
    is_host: bool = False
    captures: bool = False
    problem: Callable[[Any], str | None] = lambda _: None


def find_device(name: str) -> Device:
    """Return a device of `DEVICES`.

    Raises:
        OptionInvalid: There is none of this name.
    """
    if name not in DEVICES:
        raise OptionInvalid(f"device must be one of {', '.join(DEVICES)}, got {name!r}.")
    return DEVICES[name]


def cuda_problem(onnxruntime: Any) -> str | None:
    """Return why an ONNX Runtime cannot use a CUDA GPU here, and the remedy; None if nothing is known to be missing.

    Loads the libraries of CUDA and cuDNN, which stay loaded, and starts the driver.

    Args:
        onnxruntime: The imported module.
    """
    if _CUDA not in onnxruntime.get_available_providers():
        return _package_problem(onnxruntime.__version__)
    if not sys.platform.startswith("linux"):
        return None
    _preload(onnxruntime)
    library = Path(onnxruntime.__file__).parent / "capi" / _PROVIDER_LIBRARY
    built_for = getattr(onnxruntime, "cuda_version", "")
    problems = [problem for problem in (_library_problem(library), _driver_problem(built_for)) if problem]
    return " And ".join(problems) or None


def _package_problem(module_version: str) -> str:
    if conflict := runtime_conflict():
        return f"the onnxruntime in use ({module_version}) has no {_CUDA}: {conflict}"
    installed, command = installed_runtimes(), install_command("gpu")
    named = next((f"{name} {found}" for name, found in installed.items()), f"onnxruntime {module_version}")
    if "onnxruntime" in installed:
        return f"{named} is the package for CPUs. Replace it: pip uninstall onnxruntime, then {command}."
    return f"{named} has no {_CUDA} here. Install a package that has: {command}."


def _preload(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN from NVIDIA's pip packages, where the loader of the system does not look."""
    if hasattr(onnxruntime, "preload_dlls"):
        # It prints what it does not find; what that means is said below.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def _library_problem(library: Path) -> str | None:
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        if _DRIVER_LIBRARY in str(error):  # it is linked to the driver too, for which there is another remedy
            return None
        return f"a library of CUDA cannot be loaded ({error}). Install what is missing: {install_command('gpu')}."
    return None


def _driver_problem(built_for: str) -> str | None:
    try:
        driver = ctypes.CDLL(_DRIVER_LIBRARY)
    except OSError as error:
        return (
            f"no NVIDIA driver was found ({error}). Install it; in a container, start that with its GPUs (--gpus all)."
        )
    supported, count = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(supported))
    # As 1000 * major + 10 * minor: a driver runs all that was built for its major version or an older one.
    if built_for and 0 < supported.value // 1000 < int(built_for.partition(".")[0]):
        return (
            f"the NVIDIA driver is too old: it runs CUDA {supported.value // 1000}, onnxruntime was built for CUDA "
            f"{built_for}. Upgrade the driver."
        )
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return (
            f"no GPU that CUDA can use (the driver's status is {status}, it counts {count.value}). "
            "Look at nvidia-smi and CUDA_VISIBLE_DEVICES."
        )
    return None


def _tensorrt_problem(onnxruntime: Any) -> str | None:
    if _TENSORRT not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} has no {_TENSORRT}. Install the package that has it, and TensorRT "
            f"10.15.1 or later beside it: {install_command('gpu')}."
        )
    return cuda_problem(onnxruntime)


def _rtx_problem(onnxruntime: Any) -> str | None:
    if _RTX not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} has no {_RTX}. It is built from source, or comes with a "
            "package for RTX GPUs: see ONNX Runtime's documentation of this provider."
        )
    return None


DEVICES: dict[str, Device] = {
    "cpu": Device(_CPU, "cpu", is_host=True),
    "cuda": Device(_CUDA, "cuda", captures=True, problem=lambda runtime: cuda_problem(runtime)),
    "tensorrt": Device(_TENSORRT, "cuda", problem=_tensorrt_problem),
    "tensorrt-rtx": Device(_RTX, "cuda", problem=_rtx_problem),
}


def misplaced_operators(graph: Any, provider: str) -> list[str]:
    """Return the heavy operators that a provider left to the CPU: the contributed ones, and a few of the standard.

    It leaves the lengths to the CPU too, in other standard operators: as it should.

    Args:
        graph: An open graph that recorded which provider runs each node.
        provider: The one that should run them.
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


def provider_options(device: str, bundle: Bundle, max_rows: int, cache_key: str) -> Mapping[str, str]:
    """Return the options of a device's provider for a bundle's graph: none but for the two of TensorRT.

    An engine is built for ranges of shapes; without them it would be built again for each number of tokens. Engines are
    kept in the cache directory, which is made: building one takes minutes. Without a cache they are not kept.

    Args:
        device: A name of `DEVICES`.
        bundle: Its sizes, and the hash that its engines are kept by.
        max_rows: Most tokens of one run.
        cache_key: What engines depend on beside the bundle.
    """
    if device not in _OPTIONS:
        return {}
    shapes, kept = _OPTIONS[device]
    one, most = _shapes(bundle, 1), _shapes(bundle, max_rows)
    # Decoding is what takes the time: the engine is tuned for one token.
    options = dict(zip(shapes, (one, one, most), strict=True))
    try:
        directory = own_directory(bundle.manifest_sha256, cache_key, "engines")
        engines = utf8_path(directory)
        if engines is None:
            raise CacheError(f"the name of {directory} is no UTF-8")
    except OSError as error:
        warn_without_cache(error)
        return options
    return options | {name: value or engines for name, value in kept.items()}


# By device: the names for the shapes (least, usual, most), and what keeps engines (an empty value is the directory).
_OPTIONS: Mapping[str, tuple[tuple[str, str, str], Mapping[str, str]]] = {
    "tensorrt": (
        ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"),
        {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": "",
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": "",
        },
    ),
    "tensorrt-rtx": (
        ("nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"),
        {"nv_runtime_cache_path": ""},
    ),
}


def _shapes(bundle: Bundle, count: int) -> str:
    """Return the shapes of all inputs in a run of so many tokens: "name:1x8,...", as the providers parse it."""
    model = bundle.manifest.model
    cache = f"1x{model.num_kv_heads}x{model.context_length}x{model.head_dim}"
    shapes = {
        "input_ids": f"1x{count}",
        "position_ids": f"1x{count}",
        "write_indices": "1",
        "logit_rows": f"{count}",
    }
    for layer in range(model.num_layers):
        shapes |= {f"past_key_values.{layer}.{half}": cache for half in ("key", "value")}
    return ",".join(f"{name}:{shape}" for name, shape in shapes.items())
