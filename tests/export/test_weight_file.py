"""The writer of weight files, against the library that reads them."""

import json
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
from safetensors import SafetensorError
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


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DAMAGED = [
    (b"", "its header claims 0 bytes, the file has 0"),
    (b"\x05\0\0\0\0\0\0\0{}", "its header claims 5 bytes, the file has 10"),
    (b"\xff" * 8, "its header claims 18446744073709551615 bytes, the file has 8"),
    (b"PK\x03\x04 not tensors", "its header claims"),
    (with_header([]), "its header is a JSON list"),
    (with_header(b"{"), "its header is not JSON"),
    (with_header(b"\xff\xfe{}"), "its header is not JSON"),
    (with_header(b"[" * 100_000), "its header is not JSON"),
    (with_header({"__metadata__": {"format": 1}}), "its metadata is no map of texts"),
    (with_header({"__metadata__": []}), "its metadata is no map of texts"),
    (with_header({"w": 1}), 'no type, shape and two offsets of "w"'),
    (with_header({"w": {"dtype": "F32"}}), 'no type, shape and two offsets of "w"'),
    (with_header({"w": entry(offsets=[0, 2, 4])}), 'no type, shape and two offsets of "w"'),
    (with_header({"w": entry("F31")}, bytes(4)), "'F31', which safetensors does not know"),
    (with_header({"w": entry(["F32"])}, bytes(4)), "which safetensors does not know"),
    (with_header({"w": entry(shape=[-1])}, bytes(4)), "expected whole numbers"),
    (with_header({"w": entry(shape={})}, bytes(4)), "expected whole numbers"),
    (with_header({"w": entry(shape=[1.0])}, bytes(4)), "expected whole numbers"),
    (with_header({"w": entry(offsets=[0, 8])}, bytes(8)), "takes 8 bytes, F32 of \\[1\\] takes 4"),
    (with_header({"w": entry(shape=[2**40, 2**40])}, bytes(4)), "takes 4 bytes"),
    (with_header({"w": entry()}, bytes(3)), "its header promises"),
    (with_header({"w": entry()}, bytes(5)), "its header promises"),
    (with_header({"v": entry(), "w": entry(offsets=[2, 6])}, bytes(6)), '"w" begins at byte .* ends at'),
    (with_header({"v": entry(), "w": entry()}, bytes(4)), "begins at byte"),
    (with_header({"v": entry(), "w": entry(offsets=[8, 12])}, bytes(12)), "begins at byte"),
]


@pytest.mark.parametrize(("contents", "message"), DAMAGED)
def test_what_is_no_weight_file(tmp_path: Path, contents: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(contents)
    with pytest.raises(CheckpointInvalid, match=f"is no sound safetensors file: .*{message}"):
        read_weights_header(tmp_path / "f")
    with pytest.raises((SafetensorError, OSError)):  # the library refuses the same files
        load_file(tmp_path / "f")


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "f"
    write_weights(path, [tensor("a", "F16", (3, 2))[0], tensor("b", "BF16", (4,))[0]], {}, lambda _: None)
    contents = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(contents[: data.draw(st.integers(0, len(contents)))])
    try:
        for stored in read_weights_header(path).values():
            assert stored.array().nbytes == stored.num_bytes
    except CheckpointInvalid:
        pass


def test_files_hold_whole_tensors() -> None:
    tensors = [tensor(str(size), "U8", (size,))[0] for size in (3, 3, 9, 1, 1)]
    names = [[stored.name for stored in part] for part in split_files(tensors, 6)]
    assert names == [["3", "3"], ["9"], ["1", "1"]]
