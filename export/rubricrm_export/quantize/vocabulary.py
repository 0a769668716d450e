"""What the options of quantization may be called. Imports nothing heavy: the command line's help names them too."""

from __future__ import annotations

from rubricrm.runtime.manifest import METHODS as STORED_METHODS

METHODS = STORED_METHODS[1:]  # a manifest also knows "none", which nobody asks for
KV_CACHES = ("model", "float16", "int8", "int8-tensor", "fp8")
HEADS = ("model", "int8", "int4")
BLOCK_SIZES = ("32", "64", "128", "channel")
HEAD_BLOCK_SIZES = ("32", "64", "128")
