"""The demo model: its shipped bundle is a fresh export, and it writes rubrics."""

import json
import re
from pathlib import Path

import pytest
import short_requests
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from shipped_bundle import assert_same_bundle
from templates import lines

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "models/demo/checkpoint"
REQUESTS = ROOT / "../shared/data/requests.jsonl"
ITEM = re.compile(r"(\d+)\. The response\b.+ \[(Hard Rule|Principle)\]")


@needs_kernels
def test_the_shipped_bundle_equals_a_fresh_export(tmp_path: Path) -> None:
    fresh = export_onnx(OnnxExport(str(CHECKPOINT), tmp_path / "bundle"))
    shipped = Bundle.open(DEMO_BUNDLE, verify=True)
    assert_same_bundle(fresh, shipped, "prefix.rubric.float16.safetensors")


def test_the_demo_is_small() -> None:
    assert Bundle.open(DEMO_BUNDLE).num_bytes < 17e6
    assert (CHECKPOINT / "model.safetensors").stat().st_size < 20e6


def test_it_writes_what_was_asked_as_hard_rules() -> None:
    with RubricModel.demo() as model:
        result = model.generate('Write a short poem about a lighthouse. Use at most 60 words and avoid the word "sea".')
    assert result.finish_reason == "stop"
    assert result.rubric.issues == ()
    rules = " ".join(rule.text for rule in result.rubric.hard_rules)
    assert "60 words" in rules
    assert '"sea"' in rules
    assert result.rubric.principles


def test_no_short_request_makes_it_collapse() -> None:
    requests = lines(ROOT / "models/demo/held_out.txt")
    with RubricModel.demo() as model:
        rows = list(short_requests.rows(model, requests))
    assert [row for row in rows if row["collapse"]] == []


@pytest.mark.skipif(not REQUESTS.exists(), reason=f"{REQUESTS.name} does not lie beside the checkout")
def test_every_rubric_of_foreign_requests_is_well_formed() -> None:
    requests = [json.loads(line)["request"] for line in REQUESTS.read_text("utf-8").splitlines()]
    with RubricModel.demo() as model:
        for outcome in model.generate_many(requests, max_new_tokens=512):
            result, request = outcome.result, outcome.request
            assert result is not None, outcome.error
            assert result.finish_reason == "stop", request
            assert result.rubric.issues == (), request
            assert all(ITEM.fullmatch(line) for line in result.text.splitlines()), request
