"""Which products round their activations: all where little is lost, else all but the noisiest, as few as needed."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import GraphVariant
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.measure import accuracy_level
from rubricrm_export.measure.accuracy_level import choose_accuracy_levels
from rubricrm_export.measure.evaluation import EvaluationJob, evaluate
from rubricrm_export.measure.logit_source import BundleLogits
from rubricrm_export.measure.quality import measure
from rubricrm_export.onnx_bundle import quality_gate
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from standard_bundle import standard_only

MakeCheckpoint = Callable[..., Path]
Tensors = dict[str, np.ndarray]

NOISIEST = "/layers.1/mlp/down_proj/MatMul"
TEXT = TokenText("a text", (), (tuple(np.random.default_rng(0).integers(5, 261, 160).tolist()),))


def make_massive(tensors: Tensors, channel: int = 5, factor: float = 1024) -> None:
    """Let one input of layer 1's down_proj be huge, without any change of what the model computes."""
    tensors["model.layers.1.mlp.up_proj.weight"][channel] *= factor
    tensors["model.layers.1.mlp.down_proj.weight"][:, channel] /= factor


@pytest.fixture
def massive(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with massive activations; until a test says otherwise any loss is tolerated, also in exports."""
    tolerate(monkeypatch, 1e9)
    return make_checkpoint(dtype="F32", change=make_massive)


def export(checkpoint: Path, name: str = "bundle", **options: Any) -> Bundle:
    (checkpoint.parent / "eval.txt").write_text("Words to measure on, held out. " * 8)
    options = {"weights": "int4", "block_size": "32", "eval_text": checkpoint.parent / "eval.txt"} | options
    return export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / name, rubrics=False, **options))


def tolerate(monkeypatch: pytest.MonkeyPatch, kl: float) -> None:
    monkeypatch.setattr(accuracy_level, "_TOLERANCE", kl)
    monkeypatch.setattr(accuracy_level, "_SHARE", 0.0)


def standard(checkpoint: Path, **options: Any) -> Bundle:
    """Export, and return the bundle as it is while it is measured."""
    return standard_only(export(checkpoint, **options).path)


def choose(bundle: Bundle, checkpoint: Path, kl: float = 0.0, report: Callable[[int, int], None] | None = None) -> int:
    with Checkpoint.open(checkpoint) as opened:
        return choose_accuracy_levels(bundle, opened, TEXT, kl, threads=1, on_progress=report or (lambda *_: None))


def levels(bundle: Bundle) -> dict[str, int]:
    graph = onnx.load(bundle.path / "model.onnx", load_external_data=False).graph
    return {
        node.name: attribute.i
        for node in graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    }


def exact(bundle: Bundle) -> list[str]:
    return [name for name, level in levels(bundle).items() if level == 1]


def quality_as_exported(bundle: Bundle, checkpoint: Path) -> float:
    return evaluate(EvaluationJob(bundle.path, checkpoint, checkpoint.parent / "eval.txt")).quality.kl


# --- little is lost


def test_default_tolerance_changes_nothing(make_checkpoint: MakeCheckpoint) -> None:
    bundle = standard(make_checkpoint())
    assert {*levels(bundle).values()} == {4}
    before, steps = (bundle.path / "model.onnx").read_bytes(), []
    assert choose(bundle, bundle.path.parent / "checkpoint", report=lambda *step: steps.append(step)) == 0
    assert (bundle.path / "model.onnx").read_bytes() == before
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]


def test_share_of_the_loss_is_tolerated(massive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = standard(massive)
    tolerate(monkeypatch, 0.0)
    monkeypatch.setattr(accuracy_level, "_SHARE", 0.5)
    assert choose(bundle, massive, kl=3 * loss(bundle, [])) == 0
    assert {*levels(bundle).values()} == {4}
    assert choose(bundle, massive, kl=loss(bundle, [])) > 0


def test_bundle_without_such_products(massive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tolerate(monkeypatch, 0.0)
    bundle = standard(massive, weights="fp32", block_size=None)
    assert choose(bundle, massive) == 0


# --- too much is lost


def loss(bundle: Bundle, names: list[str]) -> float:
    """What the products that are not among `names` lose on the text by rounding, in nats per token."""
    graph = onnx.load(bundle.path / "model.onnx", load_external_data=False)

    def logits(chosen: list[str]) -> BundleLogits:
        for node in graph.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1 if node.name in chosen else 4
        return BundleLogits(bundle, TEXT, threads=1, variant=GraphVariant("model.onnx", graph.SerializeToString()))

    return measure(logits([*levels(bundle)]), logits(names), TEXT, bundle.manifest.tokenizer.num_tokens).kl


@pytest.mark.parametrize(("channel", "most"), [(5, 1), (79, 2)], ids=["first block", "last block, which is short"])
def test_massive_activations_are_found_first(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, channel: int, most: int
) -> None:
    checkpoint = make_checkpoint(dtype="F32", change=partial(make_massive, channel=channel))
    tolerate(monkeypatch, 1e9)
    bundle = standard(checkpoint)
    whole, without_it = loss(bundle, []), loss(bundle, [NOISIEST])
    assert without_it < whole / 2
    tolerate(monkeypatch, (whole + without_it) / 2)
    steps: list[tuple[int, int]] = []
    assert choose(bundle, checkpoint, report=lambda *step: steps.append(step)) <= most
    assert NOISIEST in exact(bundle)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]


def test_as_few_as_needed(massive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = standard(massive)
    tolerance = loss(bundle, [NOISIEST]) / 2
    tolerate(monkeypatch, tolerance)
    count = choose(bundle, massive)
    chosen = exact(bundle)
    assert 1 < count == len(chosen) < len(levels(bundle))
    assert NOISIEST in chosen
    assert loss(bundle, chosen) <= tolerance
    # They are taken in one order, and without the last of them too much is lost.
    with Checkpoint.open(massive) as opened:
        noises = accuracy_level._noises(opened, TEXT, 1)
    ranked = sorted(noises, key=noises.__getitem__, reverse=True)
    assert {*chosen} == {*ranked[:count]}
    assert ranked[0] == NOISIEST
    assert loss(bundle, ranked[: count - 1]) > tolerance


def test_no_tolerance_makes_all_exact(massive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = standard(massive)
    tolerate(monkeypatch, -1.0)  # not even no loss at all
    assert choose(bundle, massive) == len(levels(bundle))
    assert {*levels(bundle).values()} == {1}


def test_inputs_that_are_zero(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def silence(tensors: Tensors) -> None:
        make_massive(tensors)
        tensors["model.layers.0.mlp.up_proj.weight"].fill(0)

    checkpoint = make_checkpoint(dtype="F32", change=silence)
    tolerate(monkeypatch, 1e9)
    bundle = standard(checkpoint)
    tolerate(monkeypatch, loss(bundle, []) / 2)
    choose(bundle, checkpoint)
    assert NOISIEST in exact(bundle)


# --- in an export


def test_exported_bundle_is_whole_and_was_measured_as_it_is(massive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = export(massive, "rounded")
    measured: list[list[str]] = []

    def recorded(job: EvaluationJob, *arguments: Any) -> Any:
        measured.append(exact(Bundle.open(job.bundle)))
        return evaluate(job, *arguments)

    monkeypatch.setattr(quality_gate, "evaluate", recorded)
    tolerate(monkeypatch, loss(standard_only(shutil.copytree(rounded.path, rounded.path.parent / "standard")), []) / 3)
    bundle = Bundle.open(export(massive).path, verify=True)
    assert NOISIEST in exact(bundle)
    assert measured == [[], exact(bundle)]
    quality = bundle.manifest.quality
    assert quality is not None
    assert quality["kl"] == quality_as_exported(standard_only(bundle.path), massive)
    assert rounded.manifest.quality is not None
    assert quality["kl"] != rounded.manifest.quality["kl"]
    assert bundle.manifest.files["model.onnx"] != rounded.manifest.files["model.onnx"]
    assert bundle.manifest.files["model.step.onnx"] != rounded.manifest.files["model.step.onnx"]
    assert bundle.manifest.files["model.step.onnx.data"] == rounded.manifest.files["model.step.onnx.data"]
