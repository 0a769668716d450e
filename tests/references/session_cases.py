"""Greedy tokens of small bundles, which sessions in any language must find: tests/cases/engine.

python tests/references/session_cases.py          writes sessions.json
python tests/references/session_cases.py --export also exports the bundles int4 and int8 again
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests/cases/engine"
DEMO = "sdk/python/rubricrm/demo_bundle"
NUM_TOKENS = 48
REQUEST = "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words."


@dataclass(frozen=True)
class SessionCase:
    """A graph, token ids, and the tokens that follow if each is the most likely one.

    Attributes:
        bundle: Path below the repository.
        graph: File of the graph.
        prompt_ids: What is computed first.
        token_ids: What follows.
    """

    bundle: str
    graph: str
    prompt_ids: list[int]
    token_ids: list[int]


def read_cases() -> list[SessionCase]:
    """Return the cases that are stored."""
    return [SessionCase(**case) for case in json.loads((CASES / "sessions.json").read_text("utf-8"))]


def greedy(bundle: Path, graph: str, prompt_ids: list[int], count: int) -> list[int]:
    """Return the tokens that a session of one thread finds."""
    opened = Bundle.open(bundle)
    variant = None if opened.manifest.graph.file == graph else GraphVariant(graph, (bundle / graph).read_bytes())
    session = Session(opened, threads=1, variant=variant)
    assert session.facts.file == graph
    slot = session.new_slot(len(prompt_ids) + count)
    found: list[int] = []
    for _ in range(count):
        (row,) = session.run(slot, [found[-1]] if found else prompt_ids)
        found.append(int(row[: opened.manifest.tokenizer.num_tokens].argmax()))
    session.close()
    return found


def export_bundles() -> None:
    """Export the tiny checkpoint of the tests: INT4 with a cache of float16, INT8 with one of INT8; packed."""
    sys.path[:0] = [str(ROOT / "tests")]
    from conftest import CALIBRATION, write_checkpoint
    from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

    kinds: dict[str, dict[str, Any]] = {"int4": {}, "int8": {"block_size": "32", "kv": "int8"}}
    with tempfile.TemporaryDirectory() as name:
        checkpoint = write_checkpoint(Path(name) / "checkpoint")
        calibration = Path(name) / "calibration.txt"
        calibration.write_text(CALIBRATION)
        for weights, options in kinds.items():
            texts = {"calibration": str(calibration)} if "kv" in options else {}
            shutil.rmtree(CASES / weights, ignore_errors=True)
            job = OnnxExport(
                str(checkpoint), CASES / weights, weights=weights, rubrics=False, max_kl="none", **options, **texts
            )
            export_onnx(job)


def prompt_of(bundle: Path) -> list[int]:
    """Return the ids of the rubric prompt for a request."""
    opened = Bundle.open(bundle)
    tokenizer = Tokenizer.from_file(opened.file(opened.manifest.tokenizer.file))
    return Prompt(opened.manifest.prompt, opened.manifest.chat, tokenizer).encode_request(REQUEST)


def write_cases() -> None:
    """Compute the cases again."""
    demo = prompt_of(ROOT / DEMO)
    varied = [5 + (7 * n) % 250 for n in range(70)]  # random weights answer a real prompt with one token for ever
    cases = []
    for bundle, graph, prompt_ids in (
        (DEMO, "model.step.onnx", demo),
        (DEMO, "model.onnx", demo),
        ("tests/cases/engine/int4", "model.step.onnx", varied),
        ("tests/cases/engine/int8", "model.step.onnx", varied),
    ):
        token_ids = greedy(ROOT / bundle, graph, prompt_ids, NUM_TOKENS)
        cases.append({"bundle": bundle, "graph": graph, "prompt_ids": prompt_ids, "token_ids": token_ids})
    text = ",\n".join(json.dumps(case) for case in cases)
    (CASES / "sessions.json").write_text(f"[\n{text}\n]\n", "utf-8")


if __name__ == "__main__":
    CASES.mkdir(parents=True, exist_ok=True)
    if "--export" in sys.argv:
        export_bundles()
    write_cases()
