"""Sizes in words: never a number that says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.runtime.byte_size import byte_text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.00 KB"),
        (4096, "4.10 KB"),
        (9994, "9.99 KB"),
        (9996, "10.0 KB"),
        (99_960, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (33_554_432, "33.6 MB"),
        (4_720_000_000, "4.72 GB"),
        (25_275_000_000, "25.3 GB"),
        (5 * 10**12, "5.00 TB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes(num_bytes: int, text: str) -> None:
    assert byte_text(num_bytes) == text


@given(st.integers(1, 10**18))
def test_a_size_is_within_half_a_percent_and_never_zero(num_bytes: int) -> None:
    number, unit = byte_text(num_bytes).split()
    shown = float(number) * 1000 ** ("B", "KB", "MB", "GB", "TB").index(unit)
    assert shown > 0
    assert abs(shown - num_bytes) <= 0.0051 * num_bytes
