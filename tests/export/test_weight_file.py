"""The writer of weight files, against the library that reads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm_export.errors import CheckpointInvalid, ExportFailed
from rubricrm_export.tensorrt.weight_file import (
    WeightTensor,
    read_weights_header,
    small_tensor,
    split_files,
    write_weights,
)
from safetensors.numpy import load_file

TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "BF16": ml_dtypes.bfloat16}


def tensor(name: str, dtype: str, shape: tuple[int, ...], seed: int = 0) -> tuple[WeightTensor, NDArray[Any]]:
    """A tensor whose parts are its rows, or a single part without rows."""
    values = np.random.default_rng(seed).integers(-9, 9, shape).astype(TYPES[dtype])

    def parts() -> Iterator[NDArray[Any]]:
        yield from (values[start : start + 2] for start in range(0, len(values), 2)) if shape else iter([values])

    return WeightTensor(name, dtype, shape, parts), values


shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([*TYPES]), shapes), max_size=6))
def test_library_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, facts: Any) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    made = [tensor(f"t{number}", dtype, shape, number) for number, (dtype, shape) in enumerate(facts)]
    sizes: list[int] = []
    write_weights(path, [stored for stored, _ in made], {"format": "pt"}, sizes.append)
    loaded = load_file(path)
    assert loaded.keys() == {stored.name for stored, _ in made}
    header = read_weights_header(path)
    for stored, values in made:
        for found in (loaded[stored.name], header[stored.name].array()):
            assert (found.dtype, found.shape) == (values.dtype, values.shape)
            np.testing.assert_array_equal(found, values)
    assert sizes == [values.nbytes for _, values in made]


def test_fp8_is_read_back(tmp_path: Path) -> None:
    values = np.array([[0, 448, -448, 2**-9]], np.float32).astype(ml_dtypes.float8_e4m3fn)
    stored = WeightTensor("w", "F8_E4M3", (1, 4), lambda: [values])
    write_weights(tmp_path / "f", [stored, small_tensor("s", np.array(0.5))], {}, lambda _: None)
    header = read_weights_header(tmp_path / "f")
    assert header["w"].array().astype(np.float32).tolist() == [[0, 448, -448, 2**-9]]
    assert header["s"].array().shape == ()


def test_parts_that_do_not_fill_the_shape(tmp_path: Path) -> None:
    short = WeightTensor("w", "F32", (2, 2), lambda: [np.zeros((1, 2), np.float32)])
    with pytest.raises(ExportFailed, match='tensor "w" made 8 bytes, expected 16'):
        write_weights(tmp_path / "f", [short], {}, lambda _: None)


@pytest.mark.parametrize("contents", [b"", b"\x05\0\0\0\0\0\0\0{}", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_weight_file(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "f").write_bytes(contents)
    with pytest.raises(CheckpointInvalid, match="is no safetensors file"):
        read_weights_header(tmp_path / "f")


def test_files_hold_whole_tensors() -> None:
    tensors = [tensor(str(size), "U8", (size,))[0] for size in (3, 3, 9, 1, 1)]
    names = [[stored.name for stored in part] for part in split_files(tensors, 6)]
    assert names == [["3", "3"], ["9"], ["1", "1"]]
