"""What the devices of TensorRT need of an installation, and what their providers are told. Imports no ONNX Runtime.

Option names are those of ONNX Runtime's documentation of the two providers. Not run on a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rubricrm.runtime.cuda import cuda_problem
from rubricrm.runtime.machine import cache_directory

if TYPE_CHECKING:
    from rubricrm.runtime.bundle import Bundle

logger = logging.getLogger(__name__)

PROVIDER = "TensorrtExecutionProvider"
RTX_PROVIDER = "NvTensorRTRTXExecutionProvider"


def tensorrt_problem(onnxruntime: Any) -> str | None:
    """Return why an ONNX Runtime cannot use TensorRT here, and the remedy; None if nothing is known to be missing.

    Args:
        onnxruntime: The imported module.
    """
    if PROVIDER not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} has no {PROVIDER}. Install the package that has it, and TensorRT "
            "10.15.1 or later beside it: pip install 'rubricrm[gpu]'."
        )
    return cuda_problem(onnxruntime)


def rtx_problem(onnxruntime: Any) -> str | None:
    """As `tensorrt_problem`, of TensorRT for RTX."""
    if RTX_PROVIDER not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} has no {RTX_PROVIDER}. It is built from source, or comes with a "
            "package for RTX GPUs: see ONNX Runtime's documentation of this provider."
        )
    return None


def provider_options(device: str, bundle: Bundle, max_rows: int) -> Mapping[str, str]:
    """Return the options of a device's provider for a bundle's graph: none but for the two of TensorRT.

    An engine is built for ranges of shapes; without them it would be built anew for each number of tokens. Engines are
    kept in the cache directory, which is made: building one takes minutes.

    Args:
        device: As in `Session`.
        bundle: Its sizes, and the hash that its engines are kept by.
        max_rows: Most tokens of one run.
    """
    if device not in _OPTIONS:
        return {}
    engines = cache_directory() / bundle.manifest_sha256 / "tensorrt"
    try:
        engines.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("engines cannot be kept in %s (%s): the next opening builds them again", engines, error)
    return _OPTIONS[device](_shapes(bundle, 1), _shapes(bundle, max_rows), str(engines))


def _tensorrt_options(one: str, most: str, engines: str) -> Mapping[str, str]:
    return {
        "trt_profile_min_shapes": one,
        "trt_profile_opt_shapes": one,  # decoding is what takes the time
        "trt_profile_max_shapes": most,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": engines,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": engines,
    }


def _rtx_options(one: str, most: str, engines: str) -> Mapping[str, str]:
    return {
        "nv_profile_min_shapes": one,
        "nv_profile_opt_shapes": one,
        "nv_profile_max_shapes": most,
        "nv_runtime_cache_path": engines,
    }


_OPTIONS: Mapping[str, Callable[[str, str, str], Mapping[str, str]]] = {
    "tensorrt": _tensorrt_options,
    "tensorrt-rtx": _rtx_options,
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
