"""A sample of a quantity, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 95, 99)


def distribution(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Return percentiles (numpy's, linear between samples), extremes and the samples themselves, in their order.

    Values that are None, where a quantity does not exist, are left out; None where nothing is left.
    """
    samples = [value for value in values if value is not None]
    if not samples:
        return None
    found = {f"p{p}": float(np.percentile(samples, p)) for p in PERCENTILES}
    return {**found, "min": min(samples), "max": max(samples), "n": len(samples), "samples": samples}
