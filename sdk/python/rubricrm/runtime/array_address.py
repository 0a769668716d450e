"""Where the elements of an array lie, for a runtime that takes addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def address(array: NDArray[Any]) -> int:
    """Return where an array's elements lie.

    array.ctypes.data gives the same and takes 10 microseconds, a tenth of a small model's step.
    """
    found: int = array.__array_interface__["data"][0]
    return found
