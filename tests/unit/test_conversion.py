"""Bundles in the other layout: what changes, what does not, and what is refused."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from click.testing import CliRunner, Result
from rubricrm import RubricModel
from rubricrm.cli import cli
from rubricrm.errors import BundleInvalid, OptionInvalid, OutputExists, WriteFailed
from rubricrm.runtime import conversion, published_directory
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.conversion import convert_bundle


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, arguments)])


@pytest.fixture
def packed_copy(packed_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the packed bundle, to damage."""
    return Path(shutil.copytree(packed_bundle, tmp_path / "packed"))


# ---- what changes ----


def test_the_data_file_is_another_and_all_else_is_the_same(packed_bundle: Path, tmp_path: Path) -> None:
    made = convert_bundle(Bundle.open(packed_bundle), "standard", tmp_path / "made", on_progress=lambda *_: None)
    made.verify()
    old, new = contents(packed_bundle), contents(made.path)
    assert new.keys() - old.keys() == {"model.onnx.data"}
    assert old.keys() - new.keys() == {"model.step.onnx.data"}
    assert all(new[name] == old[name] for name in old.keys() & new.keys() - {"rubricrm.json"})
    assert made.manifest.graphs == Bundle.open(packed_bundle).manifest.graphs
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("name", ["packed_bundle", "narrow_bundle"])
def test_there_and_back_is_the_same_bundle(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    packed = request.getfixturevalue(name)
    standard = convert_bundle(Bundle.open(packed), "standard", tmp_path / "standard")
    back = convert_bundle(standard, "packed", tmp_path / "back")
    assert contents(back.path) == contents(packed)


def test_onnx_runtime_alone_opens_what_was_converted(standard_bundle: Path) -> None:
    graph = onnxruntime.InferenceSession(str(standard_bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    assert "logits" in [value.name for value in graph.get_outputs()]


def test_a_bundle_of_links_is_converted_to_files(packed_bundle: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "c", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(packed_bundle, blobs)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    made = convert_bundle(Bundle.open(snapshot), "standard", tmp_path / "made")
    made.verify()
    assert not [path for path in made.path.iterdir() if path.is_symlink()]


def test_a_bundle_may_be_converted_in_its_place_while_it_is_open(packed_copy: Path) -> None:
    with RubricModel.open(packed_copy, threads=1) as model:
        expected = model.generate("Write a haiku.", max_new_tokens=12).text
        convert_bundle(model.bundle, "standard", packed_copy, force=True)
        assert model.generate("Write a haiku.", max_new_tokens=12).text == expected
    assert "model.onnx.data" in Bundle.open(packed_copy, verify=True).manifest.files


def test_progress_is_of_writing_and_of_hashing(packed_bundle: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert_bundle(
        Bundle.open(packed_bundle),
        "standard",
        tmp_path / "made",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    shares = [done / total for done, total in seen]
    assert shares == sorted(shares)
    assert min(shares) < 0.5
    assert shares[-1] == 1


# ---- what is refused ----


def test_a_bundle_of_this_layout_is_not_copied(packed_bundle: Path, standard_bundle: Path, tmp_path: Path) -> None:
    for path, layout in ((packed_bundle, "packed"), (standard_bundle, "standard")):
        with pytest.raises(OptionInvalid, match=f"{path}: is in the layout {layout} already"):
            convert_bundle(Bundle.open(path), layout, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_floats_have_one_layout(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="has no graph in the layout packed: only weights in blocks of 32, 64"):
        convert_bundle(Bundle.open(tiny_bundle), "packed", tmp_path / "made")


def test_what_stands_at_the_output_is_not_replaced(packed_bundle: Path, standard_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    bundle = Bundle.open(packed_bundle)
    for output, force in ((standard_bundle, False), (tmp_path / "mine", False), (tmp_path / "mine", True)):
        before = contents(output)
        with pytest.raises(OutputExists, match=r"exists"):
            convert_bundle(bundle, "standard", output, force=force)
        assert contents(output) == before


def test_a_truncated_data_file_is_refused_and_nothing_is_left(packed_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(packed_copy)
    data = packed_copy / "model.step.onnx.data"
    data.write_bytes(data.read_bytes()[:-4096])
    with pytest.raises(BundleInvalid, match="truncated or replaced"):
        convert_bundle(bundle, "standard", tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def fail(number: int) -> Callable[..., Any]:
    def raise_error(*_: object) -> None:
        raise OSError(number, "made")

    return raise_error


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, r"cannot be written \(made\)")]
)
def test_a_disk_that_fails(
    packed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    monkeypatch.setattr(conversion, "write_derived_data", fail(number))
    with pytest.raises(WriteFailed, match=f"{tmp_path / 'made'}: {words}; nothing was left"):
        convert_bundle(Bundle.open(packed_bundle), "standard", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_is_known_before_the_work(
    packed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_directory, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(WriteFailed, match="Free some space"):
        convert_bundle(Bundle.open(packed_bundle), "standard", tmp_path / "made")


# ---- the command ----


def test_the_command_says_what_it_wrote(packed_bundle: Path, tmp_path: Path) -> None:
    text = run(packed_bundle, "--layout", "standard", "-o", tmp_path / "made")
    assert (text.exit_code, text.stderr) == (0, "")
    assert text.stdout.startswith(f"{tmp_path / 'made'}: standard, ")
    printed = json.loads(run(tmp_path / "made", "--layout", "packed", "-o", tmp_path / "back", "--json").stdout)
    assert printed == {
        "bundle": str(tmp_path / "back"),
        "layout": "packed",
        "num_bytes": Bundle.open(packed_bundle).num_bytes,
        "manifest_sha256": Bundle.open(packed_bundle).manifest_sha256,
    }


def test_the_command_refuses_in_one_line(packed_bundle: Path, tmp_path: Path) -> None:
    for arguments in (
        (packed_bundle, "--layout", "packed", "-o", tmp_path / "made"),
        (tmp_path / "none", "--layout", "packed", "-o", tmp_path / "made"),
        (packed_bundle, "--layout", "standard", "-o", packed_bundle),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--layout", "packed"), ("--layout", "loose", "-o", "made"), ("-o", "made")])
def test_wrong_usage(packed_bundle: Path, arguments: tuple[str, ...]) -> None:
    assert run(packed_bundle, *arguments).exit_code == 2


def test_the_command_shows_progress_on_a_terminal(
    packed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    result = run(packed_bundle, "--layout", "standard", "-o", tmp_path / "made")
    assert "Converting" in result.stderr
    assert "100%" in result.stderr
