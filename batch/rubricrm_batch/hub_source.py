"""Rows of a data set of the Hugging Face hub, or of a local one in its layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rubricrm.runtime.installation import missing_package

from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.source import BATCH_ROWS, SourceBatch


class HubSource:
    """One split of a data set, which `datasets` downloads once and maps from its cache.

    Args:
        name: OWNER/NAME, or a local directory.
        split: Its split: "train", say.

    Raises:
        DependencyMissing: datasets is not installed.
        InputInvalid: It cannot be loaded.
    """

    def __init__(self, name: str, split: str) -> None:
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise missing_package("reading a data set of the hub", error, "batch", "hf") from error
        try:
            self._rows = load_dataset(name, split=split).with_format("arrow")
        except Exception as error:  # datasets raises errors of its own, of fsspec, of HTTP and of its readers
            raise InputInvalid(f"hub:{name}: the split {split!r} cannot be loaded ({error}).") from error
        self._name = f"{name.rstrip('/').rpartition('/')[2]}/{split}"
        self.files = tuple(Path(entry["filename"]) for entry in self._rows.cache_files)
        self.schema = self._rows.features.arrow_schema.remove_metadata()

    def batches(self) -> Iterator[SourceBatch]:
        """Yield all rows."""
        start = 1
        for table in self._rows.iter(BATCH_ROWS):
            for batch in table.cast(self.schema).combine_chunks().to_batches():
                yield SourceBatch(self._name, range(start, start + batch.num_rows), batch)
                start += batch.num_rows
