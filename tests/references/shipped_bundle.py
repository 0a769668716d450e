"""A bundle that ships in the package beside a fresh export of its checkpoint."""

from __future__ import annotations

import json

import numpy as np
from rubricrm.runtime.bundle import Bundle
from safetensors.numpy import load_file


def assert_same_bundle(fresh: Bundle, shipped: Bundle, prefix: str) -> None:
    """Compare manifests, which hold the files' hashes; `prefix` is the file of the prompt's keys and values."""
    # Keys and values are computed: another processor may round them differently.
    ours, theirs = (load_file(bundle.file(prefix)) for bundle in (fresh, shipped))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, theirs[name], rtol=1e-3, atol=1e-3)
    assert _stable_part(fresh, prefix) == _stable_part(shipped, prefix)


def _stable_part(bundle: Bundle, prefix: str) -> dict[str, object]:
    manifest: dict[str, object] = json.loads(bundle.manifest.to_json())
    files, provenance = manifest["files"], manifest["provenance"]
    assert isinstance(files, dict)
    assert isinstance(provenance, dict)
    del files[prefix], provenance["tools"]
    return manifest
