"""A directory by `rubricrm export tensorrt`, as far as an engine in this process needs to know it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from rubricrm.errors import BundleInvalid, DependencyMissing
from rubricrm.runtime.bundle import describe_file
from rubricrm.runtime.manifest import FileFacts
from rubricrm.runtime.prompt_directory import open_prompt_directory

DIRECTORY_FILE = "rubricrm-tensorrt.json"
DIRECTORY_FORMAT = 1


@dataclass(frozen=True)
class EngineDirectory:
    """What `rubricrm-tensorrt.json` says.

    Attributes:
        path: The directory.
        reader: Who reads it.
        model: The model's name.
        weights: Their type.
        algorithm: The reader's name for how they are quantized; None: they are floats.
        kv: The type of keys and values.
        max_batch_size: Most requests that are computed together.
        max_seq_len: Most tokens that prompt and answer have together.
    """

    path: Path
    reader: str
    model: str
    weights: str
    algorithm: str | None
    kv: str
    max_batch_size: int
    max_seq_len: int

    @classmethod
    def find(cls, path: Path | str, *, verify: bool = False) -> Self | None:
        """Read the file; None where there is none, so that the path is something else.

        Args:
            path: The directory.
            verify: Also compare the hashes of its files, which takes as long as reading the weights.

        Raises:
            BundleInvalid: It cannot be read, or a file is missing or was changed.
        """
        path = Path(path)
        file = path / DIRECTORY_FILE
        try:
            if not file.is_file():
                return None
            document = json.loads(file.read_text("utf-8"))
            if document["format"] != DIRECTORY_FORMAT:
                raise BundleInvalid(
                    f"{file}: has format {document['format']!r}, this version reads {DIRECTORY_FORMAT}. "
                    "Export it again."
                )
            files = {name: FileFacts(**facts) for name, facts in document["files"].items()}
            facts = {name: document[name] for name in ("reader", "model", "weights", "algorithm", "kv")}
            limits = {name: document["limits"][name] for name in ("max_batch_size", "max_seq_len")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleInvalid(f"{file}: cannot be read ({error!r}). Export the directory again.") from error
        for name, expected in files.items():
            check_file(path / name, expected, verify=verify)
        if verify:  # the prompt has hashes of its own
            open_prompt_directory(path).verify()
        return cls(path=path, **facts, **limits)

    def import_engine(self, name: str) -> Any:
        """Import the package of the reader.

        Raises:
            DependencyMissing: It is not installed, or does not work on this machine.
        """
        try:
            return import_module(name)
        except Exception as error:  # without a GPU's driver such packages raise anything
            found = f"which cannot be imported here ({type(error).__name__}: {error!s:.200})"
            raise DependencyMissing(
                f"{self.path}: is for {self.reader} and needs its package {name}, {found}. Install it as the "
                "directory's build.sh does; or run build.sh on the GPU machine, which serves the directory, and use "
                f"RubricModel.connect(url, prompt={str(self.path)!r})."
            ) from error


def check_file(file: Path, expected: FileFacts, *, verify: bool) -> None:
    """Compare a file's size, and its hash where that is wanted, with what was written.

    Raises:
        BundleInvalid: It is missing or was changed.
    """
    size = file.stat().st_size if file.is_file() else None
    if size != expected.size or (verify and describe_file(file) != expected):
        found = "is missing" if size is None else f"has {size} bytes, expected {expected.size}, or was changed"
        raise BundleInvalid(f"{file}: {found}. Export the directory again.")
