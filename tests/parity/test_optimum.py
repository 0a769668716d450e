"""Bundles by optimum-onnx's own export against ours: the same logits, also of an architecture unknown to ours."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
from rubricrm_export.errors import CheckpointUnsupported, ExportFailed
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from rubricrm_export.onnx_bundle.optimum import OptimumExport, export_optimum

pytestmark = pytest.mark.reference

MakeCheckpoint = Callable[..., Path]

DEMO = Path(__file__).parents[2] / "models" / "demo" / "checkpoint"
TOLERANCE = 1e-3
IDS = [5 + (11 * n) % 250 for n in range(70)]


def logits(bundle: Bundle, chunks: tuple[int, ...]) -> NDArray[np.float32]:
    session = Session(bundle, threads=1)
    slot = session.new_slot(len(IDS))
    rows, start = [], 0
    for count in chunks:
        rows.append(session.run(slot, IDS[start : start + count], rows=count))
        start += count
    session.close()
    return np.concatenate(rows)[:, : bundle.manifest.tokenizer.num_tokens]


def ours(checkpoint: Path, path: Path) -> Bundle:
    return export_onnx(OnnxExport(str(checkpoint), path, weights="fp32"))


@pytest.mark.parametrize(
    ("architecture", "tied"), [("Qwen3ForCausalLM", True), ("Qwen3ForCausalLM", False), ("LlamaForCausalLM", False)]
)
def test_logits_are_those_of_our_graph(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, architecture: str, tied: bool
) -> None:
    checkpoint = make_checkpoint(architecture, tie_word_embeddings=tied)
    bundle = export_optimum(OptimumExport(str(checkpoint), tmp_path / "optimum"))
    expected = logits(ours(checkpoint, tmp_path / "ours"), (70,))
    for chunks in ((70,), (30, 1, 1, 38)):
        assert np.abs(logits(bundle, chunks) - expected).max() <= TOLERANCE


def test_the_demo_model_writes_the_same_rubrics(tmp_path: Path) -> None:
    bundle = export_optimum(OptimumExport(str(DEMO), tmp_path / "optimum"))
    own = ours(DEMO, tmp_path / "ours")
    assert np.abs(logits(bundle, (70,)) - logits(own, (70,))).max() <= TOLERANCE
    graph, model = bundle.manifest.graph, bundle.manifest.model
    assert (graph.target, graph.kv_update, graph.kv_type) == ("cpu", "concatenate", "float32")
    assert model == own.manifest.model  # read from the graph here, from the configuration there
    assert bundle.manifest.prompt == own.manifest.prompt
    assert bundle.manifest.provenance.source.files == own.manifest.provenance.source.files
    assert bundle.manifest.provenance.tools["optimum-onnx"] == "0.1.0"
    with RubricModel.open(bundle.path, verify=True) as theirs, RubricModel.open(own.path) as mine:
        for request in ("Explain how a rainbow forms.", "Write a haiku about rain. Use the word 'grey'."):
            assert theirs.generate(request).text == mine.generate(request).text


def test_an_architecture_that_ours_does_not_know(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    llama = make_checkpoint("LlamaForCausalLM")
    # Without a window Mistral computes what Llama does.
    facts = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
    mistral = make_checkpoint("LlamaForCausalLM", name="mistral", **facts)
    with pytest.raises(CheckpointUnsupported, match="MistralForCausalLM"):
        ours(mistral, tmp_path / "refused")
    bundle = export_optimum(OptimumExport(str(mistral), tmp_path / "optimum"))
    assert bundle.manifest.model.architecture == "MistralForCausalLM"
    difference = np.abs(logits(bundle, (69, 1)) - logits(ours(llama, tmp_path / "ours"), (70,)))
    assert difference.max() <= TOLERANCE


def test_what_optimum_refuses_leaves_nothing(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(model_type="nosuch")
    with pytest.raises(ExportFailed, match="optimum-cli failed with exit code 1. It ended with:\n(.*\n)*.*nosuch"):
        export_optimum(OptimumExport(str(checkpoint), tmp_path / "optimum"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]
