"""Whether this project's kernels can be used here: tests of them are skipped where they cannot, and say why."""

import pytest
from rubricrm.runtime.kernels import find_kernels

needs_kernels = pytest.mark.skipif(
    find_kernels().library is None, reason=f"runs this project's kernels: {find_kernels().problem}"
)
