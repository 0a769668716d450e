"""The cases of tests/cases/bundle: one rule of docs/BUNDLE.md each, for this reader and for the schema."""

import json
from pathlib import Path

import jsonschema
import pytest
from edited import edited
from rubricrm.errors import RubricrmError
from rubricrm.runtime.graph_choice import GraphChoice, choose_graph
from rubricrm.runtime.kernels import Kernels
from rubricrm.runtime.manifest import Manifest
from rubricrm.runtime.manifest_reader import read_manifest

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases" / "bundle"
NAMES = sorted(path.stem for path in CASES.glob("*.json") if path.stem != "manifest")


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    case = json.loads((CASES / f"{name}.json").read_text("utf-8"))
    document = edited(json.loads((CASES / "manifest.json").read_text("utf-8")), case["change"])
    missing, expected = case.get("missing", []), case["expect"]

    def problem(device: str) -> str | None:
        return "it is not here" if device in missing else None

    provided = case.get("kernels")
    kernels = Kernels(operators=provided, problem=None if provided else "it is not here")

    def read_and_choose() -> tuple[Manifest, GraphChoice]:
        manifest = read_manifest(json.dumps(document), "bundle/rubricrm.json")
        return manifest, choose_graph(
            manifest.graphs,
            case.get("device"),
            problem,
            "bundle",
            kernels,
        )

    if "error" in expected:
        with pytest.raises(RubricrmError) as caught:
            read_and_choose()
        assert caught.value.code == expected["error"], caught.value
        assert [word for word in expected["words"] if word not in str(caught.value)] == []
    else:
        manifest, choice = read_and_choose()
        assert {"graph": choice.graph.file, "device": choice.device} == expected
        assert json.loads(manifest.to_json()) == document


# What a schema cannot say: that a name is listed, or how often a placeholder stands in a text.
BEYOND_THE_SCHEMA = {
    "invalid_no_data_file_is_listed",
    "invalid_field_is_missing_in_the_template",
    "invalid_fields_overlap",
    "invalid_graph_file_is_not_listed",
    "invalid_prefix_file_is_not_listed",
    "invalid_prefix_of_no_graph",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_says_the_same(name: str) -> None:
    schema = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/bundle.schema.json").read_text("utf-8")))
    case = json.loads((CASES / f"{name}.json").read_text("utf-8"))
    document = edited(json.loads((CASES / "manifest.json").read_text("utf-8")), case["change"])
    assert schema.is_valid(document) is (not name.startswith("invalid") or name in BEYOND_THE_SCHEMA)
