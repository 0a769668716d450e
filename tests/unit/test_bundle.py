"""Opening a bundle: what is missing, damaged or foreign is found and named, before any runtime sees it."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rubricrm import RubricModel
from rubricrm.errors import BundleInvalid, BundleNotFound, BundleVersionUnsupported
from rubricrm.runtime.bundle import Bundle, file_sha256

MakeCheckpoint = Callable[..., Path]

FILES = ("genai_config.json", "model.onnx", "model.onnx.data", "prefix.rubric.float32.safetensors", "tokenizer.json")
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234567\n"


def test_a_whole_bundle_opens(float32_cache_bundle: Path) -> None:
    bundle = Bundle.open(float32_cache_bundle)
    assert bundle.path == float32_cache_bundle
    assert set(bundle.manifest.files) >= set(FILES)
    assert bundle.num_bytes == sum(
        p.stat().st_size for p in float32_cache_bundle.iterdir() if p.name != "rubricrm.json"
    )
    assert bundle.manifest_sha256 == hashlib.sha256((float32_cache_bundle / "rubricrm.json").read_bytes()).hexdigest()
    assert bundle.file("model.onnx") == float32_cache_bundle / "model.onnx"


def test_a_path_may_be_a_string(tiny_bundle: Path) -> None:
    assert Bundle.open(str(tiny_bundle), verify=True).path == tiny_bundle


def test_verifying_reports_every_byte(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    progress: list[int] = []
    bundle.verify(progress.append)
    assert sum(progress) == bundle.num_bytes


def test_a_missing_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="none: no such directory.*rubricrm export onnx"):
        Bundle.open(tmp_path / "none")


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(BundleNotFound, match="file: is a file, expected a bundle's directory"):
        Bundle.open(tmp_path / "file")


def test_an_empty_directory_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match=r"no rubricrm.json in it. Give a bundle made by `rubricrm export onnx`"):
        Bundle.open(tmp_path)


def test_a_checkpoint_is_no_bundle_and_the_remedy_is_to_export_it(make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(BundleNotFound, match="is a Hugging Face checkpoint: export it first"):
        Bundle.open(make_checkpoint())


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800"], ids=["too-long", "nul", "surrogate"])
def test_a_name_that_no_file_can_have_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleNotFound):
        Bundle.open(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    with pytest.raises(BundleInvalid, match=f"{name}: is missing"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_place_of_a_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    (bundle_copy / name).mkdir()
    with pytest.raises(BundleInvalid, match=f"{name}: is missing"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", ["empty", "short", "long"])
def test_a_file_of_another_size_is_named_with_both_sizes(bundle_copy: Path, name: str, size: str) -> None:
    contents = (bundle_copy / name).read_bytes()
    got = {"empty": b"", "short": contents[:-1], "long": contents + b"\0"}[size]
    (bundle_copy / name).write_bytes(got)
    with pytest.raises(BundleInvalid, match=f"{name}: has {len(got)} bytes, the manifest says {len(contents)}"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_when_verifying(bundle_copy: Path, name: str) -> None:
    contents = bytearray((bundle_copy / name).read_bytes())
    contents[len(contents) // 2] ^= 1
    (bundle_copy / name).write_bytes(contents)
    Bundle.open(bundle_copy)
    with pytest.raises(BundleInvalid, match=f"{name}: SHA-256 is .*, the manifest says .*damaged"):
        Bundle.open(bundle_copy, verify=True)


@pytest.mark.parametrize("name", FILES)
def test_a_git_lfs_pointer_is_recognized(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).write_bytes(LFS_POINTER)
    with pytest.raises(BundleInvalid, match=f"{name}: is a Git LFS pointer.*git lfs pull"):
        Bundle.open(bundle_copy)


def test_extra_files_are_named(bundle_copy: Path) -> None:
    (bundle_copy / "notes.txt").write_text("mine")
    (bundle_copy / "folder").mkdir()
    with pytest.raises(BundleInvalid, match=r"holds folder, notes.txt, which the manifest does not list"):
        Bundle.open(bundle_copy)


def test_hidden_files_are_ignored(bundle_copy: Path) -> None:
    (bundle_copy / ".DS_Store").write_bytes(b"\0")
    (bundle_copy / ".cache").mkdir()
    Bundle.open(bundle_copy, verify=True)


@pytest.mark.parametrize("name", [*FILES, "rubricrm.json"])
def test_a_link_that_leaves_the_bundle_is_refused(bundle_copy: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (bundle_copy / name).rename(outside)
    (bundle_copy / name).symlink_to(outside)
    with pytest.raises(BundleInvalid, match=f"{name}: is a link that leaves the bundle .*outside"):
        Bundle.open(bundle_copy)


def test_a_relative_link_that_leaves_the_bundle_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "model.onnx").rename(tmp_path / "model.onnx")
    (bundle_copy / "model.onnx").symlink_to(Path("..") / "model.onnx")
    with pytest.raises(BundleInvalid, match=r"model.onnx: is a link that leaves the bundle"):
        Bundle.open(bundle_copy)


def test_a_link_to_another_file_of_the_bundle_stays_inside(bundle_copy: Path) -> None:
    (bundle_copy / "tokenizer.json").rename(bundle_copy / ".tokenizer.json")
    (bundle_copy / "tokenizer.json").symlink_to(".tokenizer.json")
    Bundle.open(bundle_copy, verify=True)


def test_the_directory_itself_may_be_a_link(bundle_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle_copy, target_is_directory=True)
    Bundle.open(tmp_path / "link", verify=True)


@pytest.mark.parametrize("name", ["model.onnx", "rubricrm.json"])
def test_a_link_to_itself_is_missing(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    (bundle_copy / name).symlink_to(name)
    with pytest.raises((BundleInvalid, BundleNotFound), match=f"{name}"):
        Bundle.open(bundle_copy)


# --- links, as those who hand out files lay them


def as_kubernetes_mounts_it(bundle: Path) -> Path:
    """Lay a bundle as a projected volume: every file a link through ..data, which is a link to a dated folder."""
    dated = bundle / "..2026_01_01_00_00_00.123"
    dated.mkdir()
    (bundle / "..data").symlink_to(dated.name, target_is_directory=True)
    for path in [path for path in bundle.iterdir() if not path.name.startswith(".")]:
        path.rename(dated / path.name)
        path.symlink_to(Path("..data") / path.name)
    return bundle


def as_the_hub_caches_it(bundle: Path, root: Path, inside: str = "") -> Path:
    """Lay a bundle as the hub's client does: files are links to blobs that are called by their hashes."""
    snapshot = root / "models--org--name" / "snapshots" / "0123abcd" / inside
    blobs = root / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in bundle.iterdir():
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("layout", ["kubernetes", "hub", "hub, in a folder", "hub, through a link"])
def test_a_bundle_of_links_to_where_its_data_may_lie_opens_and_runs(
    bundle_copy: Path, tmp_path: Path, layout: str
) -> None:
    with RubricModel.open(bundle_copy, threads=1) as model:
        expected = model.generate("Write a haiku.", max_new_tokens=8).text
    if layout == "kubernetes":
        path = as_kubernetes_mounts_it(bundle_copy)
    else:
        path = as_the_hub_caches_it(bundle_copy, tmp_path / "hub", "int4" if "folder" in layout else "")
    if "link" in layout.split(", ")[-1]:
        (tmp_path / "link").symlink_to(path, target_is_directory=True)
        path = tmp_path / "link"
    with RubricModel.open(path, threads=1, verify=True) as model:
        assert model.generate("Write a haiku.", max_new_tokens=8).text == expected


def test_blobs_of_another_repository_are_outside(bundle_copy: Path, tmp_path: Path) -> None:
    snapshot = as_the_hub_caches_it(bundle_copy, tmp_path / "hub")
    other = tmp_path / "hub" / "models--org--other" / "blobs"
    other.mkdir(parents=True)
    tokenizer = snapshot / "tokenizer.json"
    blob = Path(os.path.realpath(tokenizer))
    blob.rename(other / blob.name)
    tokenizer.unlink()
    tokenizer.symlink_to(other / blob.name)
    with pytest.raises(BundleInvalid, match="tokenizer.json: is a link that leaves the bundle .*blobs of the hub"):
        Bundle.open(snapshot)


def test_a_directory_whose_name_begins_alike_is_outside(bundle_copy: Path, tmp_path: Path) -> None:
    alike = tmp_path / f"{bundle_copy.name}-2"
    alike.mkdir()
    (bundle_copy / "tokenizer.json").rename(alike / "tokenizer.json")
    (bundle_copy / "tokenizer.json").symlink_to(alike / "tokenizer.json")
    with pytest.raises(BundleInvalid, match="is a link that leaves the bundle"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("copied", ["model.onnx", "model.onnx.data"])
def test_a_graph_and_its_data_lie_together(bundle_copy: Path, tmp_path: Path, copied: str) -> None:
    snapshot = as_the_hub_caches_it(bundle_copy, tmp_path / "hub")
    contents = (snapshot / copied).read_bytes()
    (snapshot / copied).unlink()
    (snapshot / copied).write_bytes(contents)
    with pytest.raises(BundleInvalid, match="lies in the blobs of the hub's cache, the other does not"):
        Bundle.open(snapshot)


def test_the_hash_is_of_the_manifest_that_was_read(bundle_copy: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    digest = hashlib.sha256((bundle_copy / "rubricrm.json").read_bytes()).hexdigest()
    (bundle_copy / "rubricrm.json").write_text("{}")
    assert bundle.manifest_sha256 == digest


def test_a_manifest_that_is_not_utf8_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "rubricrm.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(BundleInvalid, match=r"rubricrm.json: cannot be read"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("contents", [b"", b"{", LFS_POINTER], ids=["empty", "cut", "lfs-pointer"])
def test_a_manifest_that_is_not_json_is_refused(bundle_copy: Path, contents: bytes) -> None:
    (bundle_copy / "rubricrm.json").write_bytes(contents)
    with pytest.raises(BundleInvalid, match=r"rubricrm.json: not JSON"):
        Bundle.open(bundle_copy)


def test_a_newer_bundle_asks_for_an_upgrade(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "rubricrm.json").read_text("utf-8"))
    (bundle_copy / "rubricrm.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(BundleVersionUnsupported, match="Upgrade rubricrm"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "inner/file"])
def test_a_listed_path_that_leaves_the_directory_is_never_opened(bundle_copy: Path, name: str) -> None:
    manifest = json.loads((bundle_copy / "rubricrm.json").read_text("utf-8"))
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    (bundle_copy / "rubricrm.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleInvalid, match="plain file names inside the bundle"):
        Bundle.open(bundle_copy)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(bundle_copy: Path) -> None:
    (bundle_copy / "model.onnx").chmod(0)
    with pytest.raises(BundleInvalid, match=r"model.onnx: cannot be read"):
        Bundle.open(bundle_copy, verify=True)


def test_hashing_takes_a_file_in_blocks(tmp_path: Path) -> None:
    contents = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(contents)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(contents).hexdigest()
