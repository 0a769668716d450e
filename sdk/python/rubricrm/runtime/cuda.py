"""What the device cuda needs of an installation, and what of it is missing. It is given ONNX Runtime, imports none."""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROVIDER = "CUDAExecutionProvider"
_INSTALL = "pip install 'rubricrm[gpu]'"
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_PROVIDER_LIBRARY = "libonnxruntime_providers_cuda.so"
_DRIVER_LIBRARY = "libcuda.so.1"


def cuda_problem(onnxruntime: Any) -> str | None:
    """Return why an ONNX Runtime cannot use a CUDA GPU here, and the remedy; None if nothing is known to be missing.

    Loads the libraries of CUDA and cuDNN, which stay loaded, and starts the driver.

    Args:
        onnxruntime: The imported module.
    """
    if PROVIDER not in onnxruntime.get_available_providers():
        return _package_problem(onnxruntime.__version__)
    if not sys.platform.startswith("linux"):
        return None
    _preload(onnxruntime)
    library = Path(onnxruntime.__file__).parent / "capi" / _PROVIDER_LIBRARY
    built_for = getattr(onnxruntime, "cuda_version", "")
    problems = [problem for problem in (_library_problem(library), _driver_problem(built_for)) if problem]
    return " And ".join(problems) or None


def _package_problem(module_version: str) -> str:
    installed = {name: found for name in _PACKAGES if (found := _version(name))}
    named = " and ".join(f"{name} {found}" for name, found in installed.items())
    if len(installed) == 2:
        return (
            f"{named} are both installed, are one module, and overwrite each other's files: the one in use "
            f"({module_version}) has no {PROVIDER}. Remove both (pip uninstall {' '.join(_PACKAGES)}), then {_INSTALL}."
        )
    if "onnxruntime" in installed:
        return f"{named} is the package for CPUs. Replace it: pip uninstall onnxruntime, then {_INSTALL}."
    return f"{named or f'onnxruntime {module_version}'} has no {PROVIDER} here. Install a package that has: {_INSTALL}."


def is_gpu_package_installed() -> bool:
    """Whether somebody wanted a GPU here."""
    return _version("onnxruntime-gpu") is not None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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
        return f"a library of CUDA cannot be loaded ({error}). Install what is missing: {_INSTALL}."
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
