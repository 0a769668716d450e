"""Whether this project's kernels can be used here: tests of them are skipped where they cannot, and say why.

Attributes:
    KV_TYPE: Of the cache that a bundle for the CPU has here by default, and a small one's prefix with it.
"""

import pytest
from rubricrm.runtime.kernels import find_kernels

needs_kernels = pytest.mark.skipif(
    find_kernels().library is None, reason=f"runs this project's kernels: {find_kernels().problem}"
)
KV_TYPE = "float32" if find_kernels().library is None else "float16"
