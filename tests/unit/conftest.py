"""What several tests of the runtime share: an open tiny model, and bundles with an edited manifest."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rubricrm import RubricModel

EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]


@pytest.fixture(scope="session")
def tiny_model(tiny_bundle: Path) -> Iterator[RubricModel]:
    """The tiny bundle, opened; no test may close it."""
    with RubricModel.open(tiny_bundle, threads=1) as model:
        yield model


@pytest.fixture
def edit_manifest(bundle_copy: Path) -> EditManifest:
    """Return a function that lets its argument change the parsed manifest of `bundle_copy`, and returns the bundle."""

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        path = bundle_copy / "rubricrm.json"
        document = json.loads(path.read_text("utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        return bundle_copy

    return edit


@pytest.fixture
def bundle_without_prefix(edit_manifest: EditManifest) -> Path:
    """A bundle whose prefix is computed at first open, as a large model's is."""

    def forget_prefix(document: dict[str, Any]) -> None:
        document["prefix"]["file"] = None
        del document["files"]["prefix.safetensors"]

    bundle = edit_manifest(forget_prefix)
    (bundle / "prefix.safetensors").unlink()
    return bundle
