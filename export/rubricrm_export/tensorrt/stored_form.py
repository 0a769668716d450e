"""The forms that readers know for a matrix: what a form is called in their files, and what it is stored as."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredForm:
    """A form of the matrices of the layers. How each of them is made is `linear.STORAGES`.

    Attributes:
        algorithm: The readers' `quant_algo`; None: floats.
        dtype: Type of the weights in safetensors; None: a float type.
        activations: Type that inputs of the matrices are rounded to with calibrated scales: "none", "int8" or "fp8".
    """

    algorithm: str | None
    dtype: str | None
    activations: str = "none"


FLOATS = StoredForm(None, None)
# TensorRT-LLM 1.2 rounds floats itself, to nearest, into a layout of the GPU's own.
FLOATS_TO_ROUND = StoredForm("W8A16", None)
FP8 = StoredForm("FP8", "F8_E4M3", "fp8")
W8A16 = StoredForm("W8A16", "I8")
W8A8 = StoredForm("W8A8_SQ_PER_CHANNEL", "I8", "int8")
W4A16 = StoredForm("W4A16_AWQ", "U8")
