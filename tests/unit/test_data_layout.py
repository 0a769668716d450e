"""Data files in the other layout: the transposition, its way back, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rubricrm.errors import BundleInvalid
from rubricrm.runtime.data_layout import derive_data
from rubricrm.runtime.graph_tensors import read_tensors

Arrays = Mapping[str, NDArray[Any]]


def write_graph(path: Path, arrays: Arrays, *, write_data: bool = True) -> Path:
    """Write a graph of initializers alone, each at a multiple of 4 KiB of the data file beside it."""
    model = helper.make_model(helper.make_graph([], "g", [], []))
    data = b""
    for name, array in arrays.items():
        data += bytes(-len(data) % 4096)
        tensor = model.graph.initializer.add(
            name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape
        )
        tensor.data_location = TensorProto.EXTERNAL
        facts = {"location": f"{path.name}.data", "offset": len(data), "length": array.nbytes}
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))
        data += array.tobytes()
    path.write_bytes(model.SerializeToString())
    if write_data:
        path.with_name(f"{path.name}.data").write_bytes(data)
    return path


def read_arrays(path: Path) -> Arrays:
    """Read a graph's initializers as onnx does."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def standard(bits: int, rows: int, width: int, block: int, *, symmetric: bool, seed: int = 0) -> dict[str, Any]:
    """Random tensors of one weight in standard layout."""
    numbers, blocks = np.random.default_rng(seed), -(-width // block)
    arrays = {
        "w.codes": numbers.integers(0, 256, (rows, blocks, block * bits // 8), dtype=np.uint8),
        "w.scales": numbers.random((rows, blocks)).astype(np.float16).astype(np.float32),
        "norm": numbers.random(7).astype(np.float32),
    }
    if not symmetric:
        count = rows, -(-blocks * bits // 8)
        zero_points = numbers.integers(0, 256, count, dtype=np.uint8)
        if bits == 4 and blocks % 2:
            zero_points[:, -1] &= 15
        arrays["w.zero_points"] = zero_points
    return arrays


def packed_like(arrays: Arrays) -> dict[str, Any]:
    """Tensors of the packed layout's names, types and shapes, of zeros."""
    (rows, blocks, size), tiles = arrays["w.codes"].shape, -(-len(arrays["w.codes"]) // 64)
    made = {
        "w.packed": np.zeros((tiles, blocks * size // 4, 64, 4), np.uint8),
        "w.packed_scales": np.zeros((tiles, blocks, 64), np.float16),
        "norm": np.zeros(7, np.float32),
    }
    assert rows
    if "w.zero_points" in arrays:
        made["w.packed_zero_points"] = np.zeros((tiles, blocks, 64), np.uint8)
    return made


@settings(deadline=None, max_examples=40)
@given(
    bits=st.sampled_from((4, 8)),
    rows=st.integers(1, 140),
    width=st.integers(1, 300),
    block=st.sampled_from((32, 64, 128)),
    symmetric=st.booleans(),
)
def test_packing_and_back(
    tmp_path_factory: pytest.TempPathFactory, bits: int, rows: int, width: int, block: int, symmetric: bool
) -> None:
    directory = tmp_path_factory.mktemp("layout")
    arrays = standard(bits, rows, width, block, symmetric=symmetric)
    source = write_graph(directory / "model.onnx", arrays)
    graph = write_graph(directory / "step.onnx", packed_like(arrays), write_data=False)
    derive_data(graph, source, directory / "step.onnx.data")
    packed = read_arrays(graph)
    check_packed(packed, arrays, bits)
    back = tmp_path_factory.mktemp("back")
    copy = write_graph(back / "model.onnx", arrays, write_data=False)
    derive_data(copy, graph, back / "model.onnx.data")
    assert (back / "model.onnx.data").read_bytes() == (directory / "model.onnx.data").read_bytes()


def check_packed(packed: Arrays, arrays: Arrays, bits: int) -> None:
    """Compare element by element with the definition in docs/BUNDLE.md."""
    codes, scales = arrays["w.codes"], arrays["w.scales"]
    rows, blocks, size = codes.shape
    flat = codes.reshape(rows, -1)
    for n in {0, rows // 2, rows - 1}:
        for group in {0, blocks * size // 4 - 1}:
            assert packed["w.packed"][n // 64, group, n % 64].tolist() == flat[n, 4 * group : 4 * group + 4].tolist()
        assert packed["w.packed_scales"][n // 64, :, n % 64].tolist() == scales[n].tolist()
        for block in range(blocks if "w.zero_points" in arrays else 0):
            byte = arrays["w.zero_points"][n, block if bits == 8 else block // 2]
            expected = byte if bits == 8 else byte >> 4 if block % 2 else byte & 15
            assert packed["w.packed_zero_points"][n // 64, block, n % 64] == expected
    if rows % 64:
        assert not packed["w.packed"][-1, :, rows % 64 :].any()
        assert not packed["w.packed_scales"][-1, :, rows % 64 :].any()
    assert packed["norm"].tobytes() == arrays["norm"].tobytes()


def test_rows_of_an_embedding_are_a_view_of_its_codes(tmp_path: Path) -> None:
    arrays = standard(4, 100, 64, 32, symmetric=True)
    source = write_graph(tmp_path / "model.onnx", arrays)
    graph = write_graph(tmp_path / "step.onnx", packed_like(arrays), write_data=False)
    derive_data(graph, source, tmp_path / "step.onnx.data")
    wanted = onnx.load(source, load_external_data=False)
    rows = wanted.graph.initializer.add()
    rows.CopyFrom(wanted.graph.initializer[0])
    rows.name, rows.dims[:] = "w.rows", [100, 32]
    back = tmp_path / "back"
    back.mkdir()
    (back / "model.onnx").write_bytes(wanted.SerializeToString())
    derive_data(back / "model.onnx", graph, back / "model.onnx.data")
    assert (back / "model.onnx.data").read_bytes() == (tmp_path / "model.onnx.data").read_bytes()


def test_progress(tmp_path: Path) -> None:
    arrays = standard(4, 64, 64, 32, symmetric=True)
    source = write_graph(tmp_path / "model.onnx", arrays)
    graph = write_graph(tmp_path / "step.onnx", packed_like(arrays), write_data=False)
    seen: list[tuple[int, int]] = []
    derive_data(graph, source, tmp_path / "step.onnx.data", lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] > 0


def derive(tmp_path: Path, arrays: Arrays, packed: Arrays) -> None:
    source = write_graph(tmp_path / "model.onnx", arrays)
    derive_data(write_graph(tmp_path / "step.onnx", packed, write_data=False), source, tmp_path / "step.onnx.data")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("w.packed", np.zeros((2, 16, 64, 4), np.uint8)),  # another number of tiles
        ("w.packed", np.zeros((1, 15, 64, 4), np.uint8)),
        ("w.packed", np.zeros((1, 16, 64, 4), np.int8)),
        ("w.packed", np.zeros((16, 64, 4), np.uint8)),
        ("w.packed_scales", np.zeros((1, 3, 64), np.float16)),
        ("w.packed_scales", np.zeros((1, 2, 64), np.float32)),
        ("w.packed_zero_points", np.zeros((1, 9, 64), np.uint8)),
        ("norm", np.zeros(8, np.float32)),
        ("other", np.zeros(8, np.float32)),
        ("other.packed", np.zeros((1, 16, 64, 4), np.uint8)),
    ],
)
def test_a_tensor_that_does_not_follow_is_named(tmp_path: Path, name: str, array: NDArray[Any]) -> None:
    arrays = standard(8, 64, 64, 32, symmetric=False)
    with pytest.raises(BundleInvalid, match=rf"{name} .* does not follow from its tensors"):
        derive(tmp_path, arrays, packed_like(arrays) | {name: array})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data", "step.onnx"]


def test_scales_that_are_no_float16_are_refused(tmp_path: Path) -> None:
    arrays = standard(4, 64, 64, 32, symmetric=True)
    for wrong in (np.float32(0.1), np.float32(1e6), np.float32(1e-9)):
        arrays["w.scales"][3, 1] = wrong
        with pytest.raises(BundleInvalid, match="is no number of float16"):
            derive(tmp_path, arrays, packed_like(arrays))


def test_a_truncated_data_file_is_refused(tmp_path: Path) -> None:
    arrays = standard(4, 64, 64, 32, symmetric=True)
    source = write_graph(tmp_path / "model.onnx", arrays)
    graph = write_graph(tmp_path / "step.onnx", packed_like(arrays), write_data=False)
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BundleInvalid, match="norm ends at .*truncated or replaced"):
        derive_data(graph, source, tmp_path / "step.onnx.data")
    data.unlink()
    with pytest.raises(BundleInvalid, match="cannot be read"):
        derive_data(graph, source, tmp_path / "step.onnx.data")


def test_tensors_are_read_as_onnx_reads_them(tiny_bundle: Path) -> None:
    found = {tensor.name: tensor for tensor in read_tensors(tiny_bundle / "model.onnx")}
    model = onnx.load(tiny_bundle / "model.onnx", load_external_data=False)
    assert list(found) == [tensor.name for tensor in model.graph.initializer]
    for tensor in model.graph.initializer:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        mine = found[tensor.name]
        assert (mine.shape, mine.element_type) == (tuple(tensor.dims), tensor.data_type)
        if facts:
            assert (mine.location, mine.offset) == (facts["location"], int(facts["offset"]))
            assert mine.num_bytes == int(facts["length"])
        else:
            assert mine.location is None


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_graphs_are_refused_or_read(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    contents = bytearray((tiny_bundle / "model.onnx").read_bytes())
    if data.draw(st.booleans()):
        contents = contents[: data.draw(st.integers(0, len(contents)))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    path.write_bytes(contents)
    with suppress(BundleInvalid):
        assert isinstance(read_tensors(path), tuple)
