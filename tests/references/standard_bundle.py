"""A bundle as it is while its export measures it: model.onnx alone, with its data in the standard layout."""

from __future__ import annotations

import json
from pathlib import Path

from rubricrm.runtime.bundle import Bundle, describe_file
from rubricrm.runtime.data_layout import derive_data

STEP_FILES = ("model.step.onnx", "model.step.onnx.data")


def standard_only(path: Path) -> Bundle:
    """Change a bundle for the CPU in its place, and open it."""
    data = path / "model.onnx.data"
    if not data.exists():
        derive_data(path / "model.onnx", path / "model.step.onnx", data)
    manifest = path / "rubricrm.json"
    document = json.loads(manifest.read_text("utf-8"))
    document["graphs"] = [graph for graph in document["graphs"] if graph["kv_update"] != "slots"]
    kept = {graph["kv_type"] for graph in document["graphs"]}
    prefixes = document["prompts"]["rubric"]["prefix"]["files"]
    unused = [prefixes.pop(kv_type) for kv_type in set(prefixes) - kept]
    for name in (*STEP_FILES, *unused):
        (path / name).unlink(missing_ok=True)
        document["files"].pop(name, None)
    facts = describe_file(data)
    document["files"][data.name] = {"size": facts.size, "sha256": facts.sha256}
    manifest.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", "utf-8")
    return Bundle.open(path)
