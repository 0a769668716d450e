"""A bundle on disk: open, check against its manifest, verify. Knows no ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rubricrm.errors import BundleInvalid, BundleNotFound
from rubricrm.runtime.manifest import FileFacts, Manifest
from rubricrm.runtime.manifest_reader import read_manifest

MANIFEST_NAME = "rubricrm.json"
LFS_POINTER = b"version https://git-lfs"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, repr=False)
class Bundle:
    """A directory whose manifest was read and whose files have the sizes that it states.

    `manifest_sha256` is of the bytes that were read: it names this bundle in the cache directory.

    A bundle is read-only: its files are mapped while a model is open, and must not be overwritten in place.
    """

    path: Path
    manifest: Manifest
    manifest_sha256: str

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False) -> Self:
        """Open a bundle.

        Args:
            path: The bundle's directory.
            verify: Also hash every file (about 1 s a gigabyte); without it only sizes are compared.

        Raises:
            BundleNotFound: No such directory, or no manifest in it.
            BundleInvalid: The manifest or a file contradicts the contract.
            BundleVersionUnsupported: Written in another format version.
        """
        path = Path(path)
        text = _read_text(path)
        digest = hashlib.sha256(text.encode()).hexdigest()
        bundle = cls(path, read_manifest(text, str(path / MANIFEST_NAME)), digest)
        bundle._check_files()
        if verify:
            bundle.verify()
        return bundle

    def __repr__(self) -> str:
        facts = self.manifest
        return f"{type(self).__name__}({str(self.path)!r}, {facts.model.name!r}, weights {facts.quantization.weights})"

    def file(self, name: str) -> Path:
        """Return the path of a file listed in the manifest."""
        return self.path / name

    @property
    def num_bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.size for entry in self.manifest.files.values())

    def verify(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Hash every file and compare with the manifest; `on_progress` gets the bytes read since its last call.

        Raises:
            BundleInvalid: A file's contents changed.
        """
        for name, expected in self.manifest.files.items():
            try:
                digest = file_sha256(self.file(name), on_progress)
            except OSError as error:
                raise BundleInvalid(f"{self.file(name)}: cannot be read ({error}). Copy the bundle again.") from error
            if digest != expected.sha256:
                raise BundleInvalid(
                    f"{self.file(name)}: SHA-256 is {digest}, the manifest says {expected.sha256}: "
                    "the file was changed or damaged. Copy or export the bundle again."
                )

    def _check_files(self) -> None:
        for name, expected in self.manifest.files.items():
            _check_file(self.file(name), expected)
        for graph in self.manifest.graphs:
            is_there = graph.data_file is not None and self.manifest.has_data(graph)
            _check_pair(self.file(graph.file), self.file(str(graph.data_file)) if is_there else None)
        known = {MANIFEST_NAME, *self.manifest.files}
        # Hidden names are the file manager's business (.DS_Store), and nothing reads them.
        extra = sorted(p.name for p in _entries(self.path) if p.name not in known and not p.name.startswith("."))
        if extra:
            raise BundleInvalid(
                f"{self.path}: holds {', '.join(extra[:3])}, which the manifest does not list. "
                "A bundle holds its own files only: move others elsewhere."
            )


def file_sha256(path: Path, on_progress: Callable[[int], None] | None = None) -> str:
    """Hash a file in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            if on_progress is not None:
                on_progress(len(block))
    return digest.hexdigest()


def describe_file(path: Path) -> FileFacts:
    """Return a file's size and hash, as a manifest states them."""
    return FileFacts(path.stat().st_size, file_sha256(path))


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError as error:
        raise BundleInvalid(f"{path}: cannot be listed ({error}). Change the directory's permissions.") from error


def _read_text(path: Path) -> str:
    manifest = path / MANIFEST_NAME
    try:
        exists, is_directory, has_manifest = path.exists(), path.is_dir(), manifest.is_file()
    except OSError as error:  # a name that is too long, a parent that may not be searched
        raise BundleNotFound(f"{path}: cannot be opened ({error}). Give a bundle's directory.") from error
    if not exists:
        raise BundleNotFound(f"{path}: no such directory. Give a bundle made by `rubricrm export onnx`.")
    if not is_directory:
        raise BundleNotFound(f"{path}: is a file, expected a bundle's directory.")
    if not has_manifest:
        hint = "This is a Hugging Face checkpoint: export it first with `rubricrm export onnx`."
        remedy = hint if (path / "config.json").exists() else "Give a bundle made by `rubricrm export onnx`."
        raise BundleNotFound(f"{path}: no {MANIFEST_NAME} in it. {remedy}")
    _check_link(manifest)
    try:
        return manifest.read_text("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise BundleInvalid(f"{manifest}: cannot be read ({error}). Copy or export the bundle again.") from error


def _check_link(path: Path) -> None:
    """Refuse a link to where the bundle's data may not lie: outside its directory and its repository's blobs."""
    if not path.is_symlink():
        return
    target = Path(os.path.realpath(path))  # Path.resolve raises for a link to itself
    directory = path.parent.resolve()
    if not any(target.is_relative_to(allowed) for allowed in (directory, *_hub_blobs(directory))):
        raise BundleInvalid(
            f"{path}: is a link that leaves the bundle (to {target}). Copy the file instead: links may lead to files "
            "inside the bundle's own directory, or to the blobs of the hub's cache that the bundle lies in."
        )


def _hub_blobs(directory: Path) -> Iterator[Path]:
    """Yield the blobs folder of the hub's cache, where the files of REPOSITORY/snapshots/COMMIT lie."""
    for snapshots in directory.parents:
        if snapshots.name == "snapshots":
            yield snapshots.parent / "blobs"


def _check_pair(graph: Path, data: Path | None) -> None:
    """Refuse a graph beside whose real path its data do not lie: ONNX Runtime would, and say less."""
    if data is not None and _is_in_blobs(graph) != _is_in_blobs(data):
        raise BundleInvalid(
            f"{data}: one of it and {graph.name} lies in the blobs of the hub's cache, the other does not. Download "
            "the bundle again: a graph finds its data beside itself only."
        )


def _is_in_blobs(path: Path) -> bool:
    return any(Path(os.path.realpath(path)).is_relative_to(blobs) for blobs in _hub_blobs(path.parent.resolve()))


def _check_file(path: Path, expected: FileFacts) -> None:
    _check_link(path)
    if not path.is_file():
        raise BundleInvalid(f"{path}: is missing, the manifest lists it. Copy or export the bundle again.")
    size = path.stat().st_size
    if size == expected.size:
        return
    with path.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise BundleInvalid(f"{path}: is a Git LFS pointer, not the file. Run `git lfs pull`.")
    raise BundleInvalid(
        f"{path}: has {size} bytes, the manifest says {expected.size}: truncated or replaced. "
        "Copy or export the bundle again."
    )
