"""Every type of weights and of KV cache of the target cpu, in both layouts: the C API writes what Python writes.

The checkpoints have random weights, so that their texts are nonsense: what is compared is each token, text and rubric.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rubricrm_ctypes as native
from both_sides import LIBRARY, assert_equal, comparable, needs_library, opened_model
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.generation import step_cost
from rubricrm.generation.step_cost import StepCost
from rubricrm.runtime.conversion import convert_bundle
from rubricrm.runtime.manifest import STANDARD_LAYOUT
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from short_texts import CALIBRATION, EVALUATION
from standard_bundle import standard_only

pytestmark = [pytest.mark.native, needs_library, needs_kernels]

SMOLLM2 = os.environ.get("RUBRICRM_SMOLLM2")
FREE_ROWS = StepCost({1: 1.0, 8: 1.0})  # so that whatever is drafted is verified
TEMPLATE = "List what a good answer must satisfy, one criterion a line.\n\nRequest:\n{prompt}\n\nRubric:"


@dataclass(frozen=True)
class Case:
    """A bundle.

    Attributes:
        checkpoint: "tiny", "odd", "llama" or "smollm2".
        options: Of its export.
        form: "exported"; "converted": its data in the standard layout; "standard": with model.onnx alone, which ONNX
            Runtime's kernels run.
        kv_type, layout: Of the graph that runs.
    """

    checkpoint: str
    options: dict[str, str | bool]
    kv_type: str
    layout: str = "standard"
    form: str = "exported"

    def __str__(self) -> str:
        return "-".join([self.checkpoint, *(str(value) for value in self.options.values()), self.form])


CHANNEL_W8A8 = {"weights": "int8", "activations": "int8", "method": "rtn"}
CASES = (
    Case("tiny", {"weights": "fp32"}, "float32"),
    Case("odd", {"weights": "bf16"}, "float16"),
    Case("tiny", {"weights": "bf16", "kv": "model"}, "float32"),
    Case("tiny", {"weights": "fp16", "kv": "int8"}, "int8"),
    Case("odd", {"weights": "int4"}, "float16", "packed"),
    Case("tiny", {"weights": "int4", "block_size": "32", "symmetric": True}, "float16", "packed"),
    Case("tiny", {"weights": "int4", "block_size": "32", "kv": "model"}, "float32", "packed"),
    Case("odd", {"weights": "int4", "kv": "int8"}, "int8", "packed"),
    Case("tiny", {"weights": "int8", "kv": "int8"}, "int8", "packed"),
    Case("llama", {"weights": "int8", "kv": "int8-tensor"}, "int8", "packed"),
    Case("tiny", {"weights": "int8", "block_size": "channel"}, "float16"),
    Case("tiny", {"weights": "fp8", "head": "int8"}, "float16"),
    Case("odd", CHANNEL_W8A8, "float16", "packed"),
    Case("odd", {"weights": "fp8"}, "float16"),
    Case("tiny", {"weights": "fp8", "activations": "fp8", "kv": "int8"}, "int8"),
    Case("odd", {"weights": "int4"}, "float16", "packed", "converted"),
    Case("tiny", {"weights": "int8", "kv": "int8"}, "int8", "packed", "converted"),
    Case("odd", {"weights": "int4"}, "float32", "standard", "standard"),
    Case("tiny", {"weights": "int8", "kv": "int8"}, "int8", "standard", "standard"),
    Case("odd", CHANNEL_W8A8, "float32", "standard", "standard"),
)
LARGE_CASES = tuple(Case("smollm2", {"weights": weights}, "float16", "packed") for weights in ("int4", "int8"))
needs_smollm2 = pytest.mark.skipif(SMOLLM2 is None, reason="RUBRICRM_SMOLLM2 names no checkpoint of SmolLM2-135M")

REQUESTS = (
    "Write a haiku about rain.",
    "日本の首都は？ 🙂 <|im_end|>",
    "def merge(a: list[int]) -> list[int]:  # [Hard Rule]\n    return sorted(a)\n\nExplain it.",
    "Write",
)
NUM_TOKENS = 48
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"logprobs": 2},
    {"constrain": False, "logprobs": 3},
    {"temperature": 0.8, "seed": 7, "top_p": 0.95, "top_k": 40, "logprobs": 0},
    {"temperature": 1.5, "seed": 2**64 - 1, "min_p": 0.02, "constrain": False, "logprobs": 1},
    {"temperature": 1.0, "seed": 3, "stop": ["e", ". "]},
)


def made_bundle(case: Case, checkpoint: Path, directory: Path) -> Path:
    for name, text in (("calibration", CALIBRATION), ("evaluation", EVALUATION), ("template", TEMPLATE)):
        (directory / f"{name}.txt").write_text(text, "utf-8")
    job = OnnxExport(
        str(checkpoint),
        directory / "bundle",
        calibration=str(directory / "calibration.txt"),
        eval_text=directory / "evaluation.txt",
        prompt_template=directory / "template.txt",
        rubrics=False,
        max_kl="none",
        **case.options,
    )
    bundle = export_onnx(job)
    if case.form == "standard":
        return standard_only(bundle.path).path
    if case.form == "converted":
        return convert_bundle(bundle, STANDARD_LAYOUT, directory / "converted").path
    return bundle.path


@dataclass(frozen=True)
class Sides:
    """A bundle opened by Python, and by librubricrm with drafts and without."""

    python: RubricModel
    drafting: native.Model
    plain: native.Model

    @property
    def is_exact(self) -> bool:
        return self.python._backend.engine._session.is_exact


@pytest.fixture(
    scope="module",
    params=[*CASES, *(pytest.param(case, marks=needs_smollm2) for case in LARGE_CASES)],
    ids=str,
)
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    case = request.param
    directory = tmp_path_factory.mktemp("models")
    large = case.checkpoint == "smollm2"
    checkpoint = Path(SMOLLM2 or "") if large else request.getfixturevalue(f"{case.checkpoint}_checkpoint")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        patch.setenv("RUBRICRM_CACHE", str(directory / "cache"))
        path = made_bundle(case, checkpoint, directory)
        patch.setattr(step_cost, "measure_step_cost", lambda _: FREE_ROWS)
        # The first opening keeps the cost of steps for both sides.
        python = opened.enter_context(RubricModel.open(path, threads=1))
        drafting = opened.enter_context(closing(opened_model(native.Library(LIBRARY), path)))
        plain = opened.enter_context(closing(opened_model(native.Library(LIBRARY), path, draft=native.OFF)))
        graph = python._backend.engine._session.facts
        assert (graph.kv_type, graph.layout) == (case.kv_type, case.layout)
        models = [json.loads(model.generate("Write", max_new_tokens=1))["model"] for model in (drafting, plain)]
        assert models == [python.generate("Write", max_new_tokens=1).to_dict()["model"]] * 2
        yield Sides(python, drafting, plain)


def without_costs(text: str) -> dict[str, Any]:
    """What a result has in common with that of another model: how much was drafted and restored depends on the past."""
    result = comparable(text)
    for name in ("drafted_tokens", "accepted_tokens", "cached_prompt_tokens"):
        result["usage"].pop(name)
    return result


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way) or "greedy")
def test_results_are_equal(sides: Sides, way: dict[str, Any]) -> None:
    for request in REQUESTS:
        expected = sides.python.generate(request, max_new_tokens=NUM_TOKENS, **way)
        found = sides.drafting.generate(request, max_new_tokens=NUM_TOKENS, **way)
        assert_equal(comparable(found), comparable(expected.to_json()))
        found = sides.plain.generate(request, max_new_tokens=NUM_TOKENS, **way)
        assert_equal(without_costs(found), without_costs(expected.to_json()))
        assert json.loads(found)["usage"]["drafted_tokens"] == 0


def test_four_at_once_are_equal(sides: Sides) -> None:
    """Greedy and sampled, in the form and free, beside each other.

    Where ONNX Runtime multiplies, several rows are rounded otherwise than one, so that an answer may part at a tie.
    """
    asked = [(request, {**way, "max_new_tokens": NUM_TOKENS}) for way in WAYS[1:5] for request in REQUESTS]
    expected = [without_costs(sides.python.generate(request, **way).to_json()) for request, way in asked]
    for model in (sides.drafting, sides.plain):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda call, model=model: model.generate(call[0], **call[1]), asked))
        found = [without_costs(answer) for answer in answers]
        if sides.is_exact:
            assert_equal(found, expected)
        parted = [one["text"] for one, other in zip(found, expected, strict=True) if one["text"] != other["text"]]
        assert len(parted) <= len(asked) // 8


def test_drafts_come_true(sides: Sides) -> None:
    """What was compared was drafted, where a graph's rows are exact."""
    results = [sides.drafting.generate(request, max_new_tokens=NUM_TOKENS) for request in REQUESTS]
    assert any(json.loads(result)["usage"]["accepted_tokens"] for result in results) == sides.is_exact
