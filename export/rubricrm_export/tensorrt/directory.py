"""A directory that `rubricrm export tensorrt` wrote: what rubricrm-tensorrt.json says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rubricrm.engines.engine_directory import DIRECTORY_FILE, DIRECTORY_FORMAT, check_file
from rubricrm.errors import BundleInvalid
from rubricrm.runtime.manifest import FileFacts

from rubricrm_export.tensorrt.job import EngineLimits


@dataclass(frozen=True)
class TensorRTDirectory:
    """A directory and what it was made for.

    Attributes:
        path: Where it lies; not part of the file.
        reader: Who reads it.
        weights, kv, method, head, device: The options it was made with.
        algorithm: The reader's `quant_algo`; None: floats.
        limits: What its engine is to be built for.
        model: The model's name.
        template: The prompt's template, with `request_field` where the request goes.
        request_field: What stands in its place.
        command: The command that wrote it, without paths.
        source: SHA-256 of the checkpoint's files.
        files: Size and SHA-256 of the directory's files.
    """

    path: Path
    reader: str
    weights: str
    algorithm: str | None
    kv: str
    method: str
    head: str
    device: str | None
    limits: EngineLimits
    model: str
    template: str
    request_field: str
    command: str
    source: Mapping[str, str]
    files: Mapping[str, FileFacts] = field(repr=False)

    def write(self) -> None:
        """Write the file into the directory."""
        document = {"format": DIRECTORY_FORMAT, **{key: value for key, value in asdict(self).items() if key != "path"}}
        (self.path / DIRECTORY_FILE).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> TensorRTDirectory:
        """Read the file and check that the others are there.

        Args:
            path: The directory.
            verify: Compare the hashes too; takes as long as reading the weights.

        Raises:
            BundleInvalid: It is no such directory, or a file is missing or was changed.
        """
        file = path / DIRECTORY_FILE
        try:
            document = json.loads(file.read_text("utf-8"))
            version = document.pop("format")
            if version != DIRECTORY_FORMAT:
                raise BundleInvalid(
                    f"{file}: has format {version!r}, this version reads {DIRECTORY_FORMAT}. Export it again."
                )
            files = {name: FileFacts(**facts) for name, facts in document.pop("files").items()}
            limits = EngineLimits(**document.pop("limits"))
            directory = cls(path=path, limits=limits, files=files, **document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleInvalid(
                f"{file}: cannot be read ({error!r}). Pass a directory that `rubricrm export tensorrt` wrote."
            ) from error
        directory._check(verify)
        return directory

    def _check(self, verify: bool) -> None:
        for name, facts in self.files.items():
            check_file(self.path / name, facts, verify=verify)

    @property
    def num_bytes(self) -> int:
        """Bytes of its files."""
        return sum(facts.size for facts in self.files.values())

    def report(self) -> dict[str, Any]:
        """Return what a command prints of it."""
        return {
            "directory": str(self.path),
            "for": self.reader,
            "model": self.model,
            "weights": self.weights,
            "algorithm": self.algorithm or "floats",
            "kv": self.kv,
            "method": self.method,
            "head": self.head,
            "device": self.device or "any",
            "num_bytes": self.num_bytes,
        }
