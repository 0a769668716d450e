"""A number of bytes in words."""

from __future__ import annotations

_UNITS = ("KB", "MB", "GB", "TB")
_THOUSAND = 999.5  # what is rounded up to it


def byte_text(num_bytes: float) -> str:
    """Return a size with three significant digits and a decimal unit: "512 B", "4.72 GB"; 1 KB is 1,000 bytes."""
    if abs(num_bytes) < 1000:
        return f"{num_bytes:.0f} B"
    power = 1
    while power < len(_UNITS) and abs(num_bytes) / 1000**power >= _THOUSAND:
        power += 1
    size = num_bytes / 1000**power
    decimals = 2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0
    return f"{size:.{decimals}f} {_UNITS[power - 1]}"
