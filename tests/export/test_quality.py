"""What was lost: figures against a plain computation, sources of logits against each other, layers, rubrics."""

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import BundleInvalid, OptionInvalid
from rubricrm.generation.result import RubricResult
from rubricrm.rubric.rubric import parse
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm.runtime.slot import Slot
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import CheckpointInvalid, QualityTooLow
from rubricrm_export.measure.layer_errors import LayerError, layer_errors, worst_layers
from rubricrm_export.measure.logit_source import BLOCK_ROWS, BundleLogits, CheckpointLogits
from rubricrm_export.measure.quality import Quality, measure
from rubricrm_export.measure.rubric_agreement import RubricAgreement, compare_rubrics, write_rubrics
from rubricrm_export.measure.verdict import LossLimits
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

MakeCheckpoint = Callable[..., Path]
Tensors = dict[str, np.ndarray]

NUM_TOKENS = 261  # of the tiny bundle, whose vocabulary has 272 rows


class Given:
    """Logits that are there already: one array a sequence."""

    def __init__(self, sequences: Sequence[Any]) -> None:
        self.sequences = [np.array(logits, np.float32) for logits in sequences]

    def rows(self) -> Iterator[np.ndarray]:
        for logits in self.sequences:
            for start in range(0, len(logits), BLOCK_ROWS):
                yield logits[start : start + BLOCK_ROWS]


def text_of(*sequences: Sequence[int], prefix: Sequence[int] = ()) -> TokenText:
    return TokenText("a text", tuple(prefix), tuple(tuple(sequence) for sequence in sequences))


def random_text(*lengths: int, prefix: int = 0, seed: int = 0) -> TokenText:
    rng = np.random.default_rng(seed)
    first, *rest = (rng.integers(0, NUM_TOKENS, length).tolist() for length in (prefix, *lengths))
    return text_of(*rest, prefix=first)


def all_rows(source: Any) -> np.ndarray:
    return np.concatenate(list(source.rows()))


def export(checkpoint: Path, name: str, **options: Any) -> Bundle:
    return export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / name, **options))


# --- figures


def test_figures_of_a_case_computed_by_hand() -> None:
    half, quarter = [0.0, 0.0], [0.0, math.log(3)]  # (1/2, 1/2) and (1/4, 3/4)
    text = text_of([1, 0, 1], [0])
    quality = measure(Given([[half, half, half], [quarter]]), Given([[quarter, half, half], [quarter]]), text, 2)
    kl = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert quality.kl == pytest.approx(kl / 4)
    # Sequences of 3 tokens and 1, whose sums are kl and 0: deviations from the mean are kl/4 and -kl/4.
    assert quality.kl_stderr == pytest.approx(math.sqrt(2 * 2 * (kl / 4) ** 2) / 4)
    assert quality.top1_agreement == 3 / 4
    assert quality.num_tokens == 4
    # Targets are 0, then 1; the token that ends a sequence predicts nothing.
    assert quality.perplexity == pytest.approx(math.sqrt(4 * 2))
    assert quality.reference_perplexity == pytest.approx(2)
    assert (quality.rubrics, quality.rubric_agreement) == (None, None)


def plain_figures(reference: list[np.ndarray], candidate: list[np.ndarray], text: TokenText, n: int) -> list[float]:
    """Row by row, as the definitions say."""
    kls, same, losses = [], [], {0: [], 1: []}
    for p_rows, q_rows, ids in zip(reference, candidate, text.sequences, strict=True):
        for row, logits in enumerate(zip(p_rows, q_rows, strict=True)):
            p, q = ([math.exp(float(x)) for x in side[:n]] for side in logits)
            p, q = ([x / math.fsum(side) for x in side] for side in (p, q))
            kls.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            same.append(p.index(max(p)) == q.index(max(q)))
            if row + 1 < len(ids):
                losses[0].append(-math.log(p[ids[row + 1]]))
                losses[1].append(-math.log(q[ids[row + 1]]))
    perplexities = [math.exp(math.fsum(losses[side]) / len(losses[side])) for side in (1, 0)]
    return [math.fsum(kls) / len(kls), sum(same) / len(same), *perplexities, len(kls)]


@settings(max_examples=40)
@given(
    lengths=st.lists(st.sampled_from([1, 2, 3, 127, 128, 129]), min_size=1, max_size=3),
    num_tokens=st.integers(2, 7),
    padding=st.integers(0, 3),
    noise=st.sampled_from([0.0, 1e-3, 1.0, 5.0]),
    prefix=st.sampled_from([0, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_figures_are_those_of_a_plain_computation(
    lengths: list[int], num_tokens: int, padding: int, noise: float, prefix: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(0, num_tokens, length).tolist() for length in [2, *lengths]]
    text = text_of(*sequences, prefix=[0] * prefix)
    reference = [rng.normal(0, 3, (len(ids), num_tokens + padding)).astype(np.float32) for ids in sequences]
    candidate = [logits + rng.normal(0, noise, logits.shape).astype(np.float32) for logits in reference]
    for logits in candidate:
        logits[:, num_tokens:] = 1e9  # the padding of a vocabulary may hold anything
    quality = measure(Given(reference), Given(candidate), text, num_tokens)
    found = [quality.kl, quality.top1_agreement, quality.perplexity, quality.reference_perplexity, quality.num_tokens]
    assert found == pytest.approx(plain_figures(reference, candidate, text, num_tokens), rel=1e-9, abs=1e-12)
    assert quality.kl >= 0


def test_standard_error_needs_two_sequences() -> None:
    logits = Given([[[0.0, 1.0]] * 2])
    quality = measure(logits, logits, text_of([0, 1]), 2)
    assert quality.kl_stderr is None
    assert "kl_stderr" not in quality.figures


def test_standard_error_shrinks_with_the_number_of_sequences() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for number in (10, 1000):
        reference = rng.normal(size=(number, 4, 5))
        candidate = reference + rng.normal(size=reference.shape)
        text = text_of(*[[0, 1, 2, 3]] * number)
        errors.append(measure(Given(reference), Given(candidate), text, 5).kl_stderr)
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.5)


def test_logits_of_any_size_give_numbers() -> None:
    text = text_of([0, 1, 0])
    quality = measure(Given([[[3e38, -3e38]] * 3]), Given([[[-3e38, 3e38]] * 3]), text, 2)
    assert all(math.isfinite(figure) for figure in quality.figures.values())
    assert quality.top1_agreement == 0


@pytest.mark.parametrize("sequences", [[], [[]], [[1], [2]]])
def test_text_without_two_tokens_in_a_row(sequences: list[list[int]]) -> None:
    source = Given([np.zeros((len(ids), 3)) for ids in sequences])
    with pytest.raises(OptionInvalid, match="a text: holds no two tokens in a row"):
        measure(source, source, text_of(*sequences), 3)


def test_few_blocks_are_held_at_once() -> None:
    blocks: list[weakref.ref[Any]] = []
    most = 0

    class Block(np.ndarray):
        """A view that can be referred to weakly."""

    class Counting:
        def rows(self) -> Iterator[np.ndarray]:
            nonlocal most
            for _ in range(50):
                block = np.zeros((BLOCK_ROWS, 4), np.float32).view(Block)
                blocks.append(weakref.ref(block))
                most = max(most, sum(alive() is not None for alive in blocks))
                yield block

    measure(Counting(), Counting(), text_of([0] * (50 * BLOCK_ROWS)), 4)
    assert most <= 4  # of each side the one in work and the next


def test_progress_counts_positions() -> None:
    seen: list[tuple[int, int]] = []
    source = Given([np.zeros((200, 3)), np.zeros((5, 3))])
    measure(source, source, text_of([0] * 200, [0] * 5), 3, lambda *step: seen.append(step))
    assert seen == [(128, 205), (200, 205), (205, 205)]


# --- limits


def some_quality(kl: float = 0.02, top1: float = 0.9) -> Quality:
    return Quality(kl, 0.001, top1, 5.2, 5.1, 100)


@pytest.mark.parametrize(("max_kl", "min_top1"), [(None, None), (0.02, 0.9), (1.0, 0.0)])
def test_within_the_limits(max_kl: float | None, min_top1: float | None) -> None:
    LossLimits(max_kl, min_top1).require(some_quality(), "bundle", worst_layers=pytest.fail)


def test_beyond_the_limits() -> None:
    with pytest.raises(QualityTooLow) as caught:
        LossLimits(0.01, 0.95).require(some_quality(), "bundle", lambda: [7, 2])
    assert str(caught.value) == (
        "QUALITY_TOO_LOW: bundle: KL is 0.02 nats per token, expected at most 0.01; top-1 agreement is 0.9000, "
        "expected at least 0.95. Layers that lose most: 7, 2. Store more bits, use smaller blocks or a calibrated "
        "method, or move the limit."
    )
    with pytest.raises(QualityTooLow, match=r"at most 0.01 \(a reason\)\. Store more bits.*, or think\."):
        LossLimits(0.01, 0.5, "a reason", "or think").require(some_quality(), "bundle")


@pytest.mark.parametrize("max_kl", [-0.1, math.inf, math.nan])
def test_kl_out_of_range(max_kl: float) -> None:
    with pytest.raises(OptionInvalid, match="--max-kl must be a finite number >= 0"):
        LossLimits(max_kl, None)


@pytest.mark.parametrize("min_top1", [-0.1, 1.01, 95.0, math.nan])
def test_top1_out_of_range(min_top1: float) -> None:
    with pytest.raises(OptionInvalid, match="--min-top1 must be a share from 0 to 1"):
        LossLimits(None, min_top1)


def test_figures_for_the_manifest() -> None:
    agreement = RubricAgreement(2, 0.5, 3, 5, 3, 1)
    quality = Quality(0.02, 0.001, 0.9, 5.2, 5.1, 100, agreement)
    assert quality.figures == {
        "kl": 0.02,
        "kl_stderr": 0.001,
        "top1_agreement": 0.9,
        "perplexity": 5.2,
        "reference_perplexity": 5.1,
        "rubric_agreement": 0.75,
        "num_tokens": 100,
    }
    assert "rubric_agreement" not in some_quality().figures


# --- sources of logits


def test_a_bundle_beside_itself_loses_nothing(tiny_bundle: Path) -> None:
    bundle, text = Bundle.open(tiny_bundle), random_text(300, 5, prefix=9)
    quality = measure(BundleLogits(bundle, text), BundleLogits(bundle, text), text, NUM_TOKENS)
    assert (quality.kl, quality.kl_stderr, quality.top1_agreement) == (0.0, 0.0, 1.0)
    assert quality.perplexity == quality.reference_perplexity
    assert quality.num_tokens == 305


@pytest.mark.parametrize("prefix", [1, 127, 130, 300])
def test_a_prefix_changes_no_row(tiny_bundle: Path, prefix: int) -> None:
    bundle, text = Bundle.open(tiny_bundle), random_text(140, 3, prefix=prefix)
    whole = text_of(*([*text.prefix, *sequence] for sequence in text.sequences))
    rows = list(BundleLogits(bundle, text).rows())
    assert [len(block) for block in rows] == [128, 12, 3]
    expected = all_rows(BundleLogits(bundle, whole))
    first = expected[prefix : prefix + 140]
    np.testing.assert_allclose(np.concatenate(rows), np.concatenate([first, expected[-3:]]), atol=2e-5)


@pytest.mark.parametrize("prefix", [0, 40])
@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_a_checkpoint_gives_the_logits_of_its_float32_bundle(
    make_checkpoint: MakeCheckpoint, architecture: str, prefix: int
) -> None:
    path, text = make_checkpoint(architecture), random_text(150, 7, 1, prefix=prefix)
    bundle = export(path, "bundle", weights="fp32")
    steps: list[tuple[int, int]] = []
    with Checkpoint.open(path) as checkpoint:
        source = CheckpointLogits(checkpoint, text, threads=1, on_progress=lambda *step: steps.append(step))
        found = list(source.rows())
    expected = list(BundleLogits(bundle, text).rows())
    assert [block.shape for block in found] == [block.shape for block in expected]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-4)
    assert steps == [(1, 2), (2, 2)]


def test_another_graph_on_the_same_weights(tiny_bundle: Path) -> None:
    bundle, text = Bundle.open(tiny_bundle), random_text(20)
    model = onnx.load(tiny_bundle / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = 1.0
    changed = all_rows(BundleLogits(bundle, text, variant=GraphVariant("model.onnx", model.SerializeToString())))
    assert np.abs(changed - all_rows(BundleLogits(bundle, text))).max() > 0.01


def test_text_longer_than_the_context(tiny_bundle: Path, make_checkpoint: MakeCheckpoint) -> None:
    text = random_text(2000, prefix=49)
    with pytest.raises(OptionInvalid, match=r"a text: holds a sequence of 2049 tokens, .* takes 2048"):
        BundleLogits(Bundle.open(tiny_bundle), text)
    with Checkpoint.open(make_checkpoint()) as checkpoint, pytest.raises(OptionInvalid, match="2049 tokens"):
        CheckpointLogits(checkpoint, text)


def test_logits_that_are_no_numbers(bundle_copy: Path, poison: Callable[[Path, str], None]) -> None:
    poison(bundle_copy, "model.layers.1.mlp.down_proj.weight")
    broken = BundleLogits(Bundle.open(bundle_copy), random_text(5))
    with pytest.raises(QualityTooLow, match="gives logits that are not finite on a text"):
        list(broken.rows())


def test_a_source_that_is_left_early_closes_its_session(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(Session, "close", lambda self: closed.append(self))
    rows = BundleLogits(Bundle.open(tiny_bundle), random_text(300)).rows()
    next(rows)
    del rows
    assert len(closed) == 1


# --- layers


def disturb(layer: int, noise: float = 0.3) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        rng = np.random.default_rng(1)
        for name, tensor in tensors.items():
            if name.startswith(f"model.layers.{layer}.") and tensor.ndim == 2:
                tensor += (noise * tensor.std() * rng.standard_normal(tensor.shape)).astype(tensor.dtype)

    return change


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("against", ["bundle", "checkpoint"])
def test_the_disturbed_layer_is_the_worst(make_checkpoint: MakeCheckpoint, layer: int, against: str) -> None:
    sound = make_checkpoint(name="sound", dtype="F32", num_hidden_layers=4)
    disturbed = make_checkpoint(name="disturbed", dtype="F32", num_hidden_layers=4, change=disturb(layer))
    candidate, text = export(disturbed, "candidate"), random_text(150, 40, prefix=12)
    reference = export(sound, "reference") if against == "bundle" else Checkpoint.open(sound)
    errors = layer_errors(candidate, reference, text)
    assert [error.layer for error in errors] == [0, 1, 2, 3]
    assert worst_layers(errors)[0] == layer
    assert all(error.error < 1e-5 for error in errors[:layer])
    assert all(error.error > 0.05 for error in errors[layer:])
    for before, after in pairwise(errors):
        assert after.added == pytest.approx(math.sqrt(max(after.error**2 - before.error**2, 0)))


def test_layers_of_a_checkpoint_that_overflows(make_checkpoint: MakeCheckpoint, tiny_bundle: Path) -> None:
    def enlarge(tensors: dict[str, np.ndarray]) -> None:
        for name in ("gate", "up", "down"):
            tensors[f"model.layers.1.mlp.{name}_proj.weight"][...] = 1e38

    reference = Checkpoint.open(make_checkpoint(dtype="F32", change=enlarge))
    with pytest.raises(CheckpointInvalid, match="layer 1: activations are not finite at 20 of 20 tokens"):
        layer_errors(Bundle.open(tiny_bundle), reference, random_text(20))


def test_equal_bundles_have_no_worst_layer(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    errors = layer_errors(bundle, bundle, random_text(20))
    assert errors == [LayerError(0, 0.0, 0.0), LayerError(1, 0.0, 0.0)]
    assert worst_layers(errors) == []


def test_worst_layers_are_ordered() -> None:
    errors = [LayerError(n, 1.0, added) for n, added in enumerate([0.1, 0.0, 0.3, 0.1, 0.2])]
    assert worst_layers(errors) == [2, 4, 0]
    assert worst_layers(errors, 9) == [2, 4, 0, 3]


def test_a_long_text_is_cut_for_the_layers(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm_export.measure.layer_errors._MAX_TOKENS", 30)
    bundle = Bundle.open(tiny_bundle)
    ran: list[int] = []
    run = Session.run

    def count(session: Session, slot: Slot, ids: Sequence[int]) -> np.ndarray:
        ran.append(len(ids))
        return run(session, slot, ids)

    monkeypatch.setattr(Session, "run", count)
    layer_errors(bundle, bundle, random_text(20, 20, 20, prefix=3))
    assert ran == [3, 20, 10] * 2


def test_layers_of_another_shape(tiny_bundle: Path, make_checkpoint: MakeCheckpoint) -> None:
    other = export(make_checkpoint(num_hidden_layers=3), "other")
    with pytest.raises(OptionInvalid, match="has 2 layers of width 48, .* 3 of 48: they cannot be compared"):
        layer_errors(Bundle.open(tiny_bundle), other, random_text(5))


@pytest.mark.parametrize("name", ["/layers.0.input_layernorm/RMSNorm", "/layers.1.input_layernorm/residual"])
def test_layers_of_a_foreign_graph(bundle_copy: Path, name: str) -> None:
    bundle = Bundle.open(bundle_copy)
    model = onnx.load(bundle_copy / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        node.name = node.name.replace(name, "other")
        for names in (node.input, node.output):
            names[:] = [value.replace(name, "other") for value in names]
    onnx.save(model, bundle_copy / "model.onnx")
    with pytest.raises(BundleInvalid, match=f'model.onnx: has nothing named "{name}", so its layers cannot'):
        layer_errors(bundle, bundle, random_text(5))


# --- rubrics


def written(**texts: str) -> dict[str, RubricResult]:
    unused: Any = None
    return {
        request: RubricResult(request, text, parse(text), "stop", unused, unused, 0, None, None, {})
        for request, text in texts.items()
    }


FIRST = "1. The response is short. [Hard Rule]\n2. The response is kind. [Principle]\n"


def test_rubrics_computed_by_hand() -> None:
    reference = written(a=FIRST, b="1. The response rhymes. [Hard Rule]\n", c=FIRST)
    candidate = written(
        a=FIRST,
        b="1. The  Response RHYMES. [Principle]\n2. The response is long. [Principle]\n",
        d=FIRST,
    )
    agreement = compare_rubrics(reference, candidate)
    assert agreement == RubricAgreement(
        num_requests=2,
        identical=0.5,
        reference_criteria=3,
        candidate_criteria=4,
        common_criteria=3,
        kinds_flipped=1,
    )
    assert agreement.agreement == pytest.approx(6 / 7)


def test_a_criterion_counts_as_often_as_it_is_written_in_both() -> None:
    reference = written(a="1. The response is short. [Hard Rule]\n" * 3)
    candidate = written(a="1. The response is short. [Principle]\n1. The response is short. [Hard Rule]\n")
    agreement = compare_rubrics(reference, candidate)
    assert agreement is not None
    assert (agreement.common_criteria, agreement.kinds_flipped) == (2, 1)
    assert agreement.agreement == pytest.approx(4 / 5)


def test_equal_rubrics_agree() -> None:
    agreement = compare_rubrics(written(a=FIRST), written(a=FIRST))
    assert agreement is not None
    assert (agreement.agreement, agreement.identical, agreement.kinds_flipped) == (1.0, 1.0, 0)


def test_rubrics_without_criteria_have_no_agreement() -> None:
    agreement = compare_rubrics(written(a="no list"), written(a="no list"))
    assert agreement is not None
    assert (agreement.agreement, agreement.identical) == (None, 1.0)
    assert compare_rubrics(written(a=FIRST), written(b=FIRST)) is None


def test_writing_rubrics_leaves_out_what_does_not_fit(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm_export.measure.rubric_agreement._MAX_NEW_TOKENS", 5)
    steps: list[tuple[int, int]] = []
    requests = ["Write a haiku.", "long " * 1000, "Tell a joke."]
    results = write_rubrics(Bundle.open(tiny_bundle), requests, on_progress=lambda *step: steps.append(step))
    assert list(results) == ["Write a haiku.", "Tell a joke."]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert all(len(result.text) <= 5 for result in results.values())  # a token a byte
