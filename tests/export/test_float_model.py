"""The float model, one layer at a time, against the whole graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid, RuntimeFailed
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
from rubricrm_export.calibrate import float_model
from rubricrm_export.calibrate.float_model import FloatModel, require_finite
from rubricrm_export.calibrate.layer_tensors import GROUPS
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.tensor import CheckpointTensor
from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

MakeCheckpoint = Callable[..., Path]
Float = NDArray[np.float32]


def ids(length: int, seed: int) -> tuple[int, ...]:
    return tuple(int(token) for token in np.random.default_rng(seed).integers(5, 261, length))


PLAIN = TokenText("plain", (), (ids(9, 0), ids(1, 1), ids(23, 2)))
PREFIXED = TokenText("prefixed", ids(11, 3), (ids(4, 4), ids(17, 5), ids(1, 6)))


def logits_of(model: FloatModel) -> Float:
    return model.logits(model.final_norm(model.final_residual()), model.head())


def expected_logits(bundle: Path, text: TokenText) -> Float:
    """The same from the whole graph, sequence by sequence, each after the prefix."""
    session = Session(Bundle.open(bundle), threads=1)
    slot = session.new_slot(256)
    rows = [session.run(slot, text.prefix, rows=len(text.prefix))] if text.prefix else []
    for sequence in text.sequences:
        slot.cache.rewind(len(text.prefix))
        rows.append(session.run(slot, sequence, rows=len(sequence)))
    session.close()
    return np.concatenate(rows)


@pytest.mark.parametrize("text", [PLAIN, PREFIXED], ids=["plain", "prefixed"])
@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("Qwen3ForCausalLM", {}),
        ("Qwen3ForCausalLM", {"tie_word_embeddings": False, "num_hidden_layers": 1}),
        ("LlamaForCausalLM", {}),
        ("LlamaForCausalLM", {"tie_word_embeddings": True, "hidden_size": 80, "head_dim": 16}),
        (
            "Qwen3ForCausalLM",
            {
                "hidden_size": 49,
                "intermediate_size": 83,
                "vocab_size": 263,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "dtype": "F32",
            },
        ),
        ("LlamaForCausalLM", {"num_key_value_heads": 4, "dtype": "F16"}),
    ],
)
def test_logits_are_those_of_the_whole_graph(
    make_checkpoint: MakeCheckpoint, architecture: str, config: dict[str, Any], text: TokenText
) -> None:
    checkpoint = make_checkpoint(architecture, **config)
    bundle = export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle", weights="fp32")).path
    got = logits_of(FloatModel(Checkpoint.open(checkpoint), text, threads=1))
    expected = expected_logits(bundle, text)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_keys_and_values_are_those_of_the_cache(make_checkpoint: MakeCheckpoint, architecture: str) -> None:
    checkpoint = make_checkpoint(architecture)
    bundle = export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle", weights="fp32"))
    text = TokenText("two", ids(7, 0), (ids(3, 1), ids(12, 2)))
    model = FloatModel(Checkpoint.open(checkpoint), text, threads=1)
    session = Session(bundle, threads=1)
    slot = session.new_slot(32)
    session.run(slot, (*text.prefix, *text.sequences[1]))
    cached = slot.cache.positions(19)  # [layers, 2, 1, kv_heads, positions, head_dim]
    tokens = [*range(7), *range(10, 22)]  # the prefix and the second sequence, among all tokens
    residual = model.embed()
    for layer in range(2):
        _, attended, residual = model.traced_layer(residual, model.layer_weights(layer))
        for half, found in enumerate((attended.keys, attended.values)):
            np.testing.assert_allclose(found[tokens].transpose(1, 0, 2), cached[layer, half, 0], rtol=0, atol=2e-5)


@given(prefix=st.integers(0, 9), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_a_sequence_is_what_it_is_alone(tiny_bundle: Path, prefix: int, lengths: list[int], seed: int) -> None:
    checkpoint = Checkpoint.open(tiny_bundle.parent / "checkpoint")
    text = TokenText("some", ids(prefix, seed), tuple(ids(length, seed + n) for n, length in enumerate(lengths, 1)))
    found = FloatModel(checkpoint, text, threads=1).final_residual()
    starts = prefix + np.cumsum([0, *lengths[:-1]])
    for sequence, start in zip(text.sequences, starts, strict=True):
        alone = TokenText("alone", (), (text.prefix + sequence,))
        expected = FloatModel(checkpoint, alone, threads=1).final_residual()
        for rows, wanted in (
            (slice(0, prefix), slice(0, prefix)),
            (slice(start, start + len(sequence)), slice(prefix, None)),
        ):
            np.testing.assert_allclose(found[rows], expected[wanted], rtol=0, atol=1e-5 * np.abs(expected).max())


def test_stages_are_their_formulas(make_checkpoint: MakeCheckpoint) -> None:
    model = FloatModel(Checkpoint.open(make_checkpoint()), PLAIN, threads=1)
    weights, x = model.layer_weights(1), model.embed()
    wide = {name: weight.astype(np.float64) for name, weight in weights.items()}
    exact = x.astype(np.float64)
    gain = wide["input_layernorm.weight"]
    normed = exact / np.sqrt(np.square(exact).mean(1, keepdims=True) + 1e-6) * gain
    np.testing.assert_allclose(model.norm(x, weights["input_layernorm.weight"]), normed, rtol=0, atol=1e-5)
    gate, up = exact @ wide["mlp.gate_proj.weight"].T, exact @ wide["mlp.up_proj.weight"].T
    gated = gate / (1 + np.exp(-gate)) * up
    np.testing.assert_allclose(model.gate(x, weights), gated, rtol=0, atol=1e-5)
    down = exact + gated @ wide["mlp.down_proj.weight"].T
    found = model.project(gated.astype(np.float32), weights["mlp.down_proj.weight"], x)
    np.testing.assert_allclose(found, down, rtol=0, atol=1e-5)


def test_other_weights_in_any_layout(make_checkpoint: MakeCheckpoint) -> None:
    model = FloatModel(Checkpoint.open(make_checkpoint()), PREFIXED, threads=1)
    residual, weights = model.embed(), model.layer_weights(0)
    exact = model.layer(residual, weights)
    transposed = {name: np.asfortranarray(weight) for name, weight in weights.items()}
    np.testing.assert_array_equal(model.layer(residual, transposed), exact)
    for name in weights:
        changed = model.layer(residual, weights | {name: weights[name] * np.float32(1.5)})
        assert not np.array_equal(changed, exact), name


def test_the_trace_is_the_layer(make_checkpoint: MakeCheckpoint) -> None:
    model = FloatModel(Checkpoint.open(make_checkpoint()), PREFIXED, threads=1)
    residual, weights = model.embed(), model.layer_weights(0)
    inputs, _, after = model.traced_layer(residual, weights)
    np.testing.assert_array_equal(after, model.layer(residual, weights))
    for group, x in zip(GROUPS, inputs, strict=True):
        assert {weights[name].shape[1] for name in group.matrices} == {x.shape[1]}
        assert len(x) == PREFIXED.num_tokens
        assert group.before in weights


def test_rows_in_parts_give_the_same(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(make_checkpoint())
    whole = logits_of(FloatModel(checkpoint, PREFIXED, threads=1))
    monkeypatch.setattr(float_model, "_ROWS", 5)
    monkeypatch.setattr(float_model, "_HEAD_BYTES", 4 * 48 * 100)
    model = FloatModel(checkpoint, PREFIXED, threads=1)
    assert [(start, len(rows)) for start, rows in model.head_blocks()] == [(0, 100), (100, 100), (200, 72)]
    np.testing.assert_allclose(logits_of(model), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_head_is_the_checkpoints(make_checkpoint: MakeCheckpoint, tied: bool) -> None:
    checkpoint = Checkpoint.open(make_checkpoint(tie_word_embeddings=tied))
    head = FloatModel(checkpoint, PLAIN, threads=1).head()
    stored = checkpoint.tensor("model.embed_tokens.weight" if tied else "lm_head.weight").rows(0, 272)
    assert head.dtype == np.float32
    np.testing.assert_array_equal(head, stored.astype(np.float32))


def test_embedding_of_another_table(make_checkpoint: MakeCheckpoint) -> None:
    model = FloatModel(Checkpoint.open(make_checkpoint()), PLAIN, threads=1)
    asked: list[NDArray[np.int64]] = []

    def rows(unique: NDArray[np.int64]) -> Float:
        asked.append(unique)
        return np.repeat(unique.astype(np.float32)[:, None], 48, 1)

    embedded = model.embed(rows)
    assert embedded[:, 0].astype(int).tolist() == PLAIN.token_ids
    (unique,) = asked
    assert unique.tolist() == sorted(set(PLAIN.token_ids))


def test_only_rows_that_occur_are_read(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(make_checkpoint())
    table = checkpoint.tensor("model.embed_tokens.weight").rows(0, 272).astype(np.float32)
    read: list[int] = []
    rows = CheckpointTensor.rows

    def record(tensor: CheckpointTensor, start: int, stop: int) -> NDArray[Any]:
        read.extend(range(start, stop))
        return rows(tensor, start, stop)

    monkeypatch.setattr(CheckpointTensor, "rows", record)
    embedded = FloatModel(checkpoint, PREFIXED, threads=1).embed()
    np.testing.assert_array_equal(embedded, table[PREFIXED.token_ids])
    assert read == sorted(set(PREFIXED.token_ids))


def test_progress(make_checkpoint: MakeCheckpoint) -> None:
    calls: list[tuple[int, int]] = []
    FloatModel(Checkpoint.open(make_checkpoint()), PLAIN, threads=1).final_residual(lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_no_number(make_checkpoint: MakeCheckpoint, value: float) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value

    model = FloatModel(Checkpoint.open(make_checkpoint(change=damage)), PLAIN, threads=1)
    with pytest.raises(
        CheckpointInvalid, match=r"layers\.1\.mlp\.up_proj\.weight. holds 1 .* \((nan|inf)\) at \[3, 4\]"
    ):
        model.final_residual()


def test_activations_that_overflow(make_checkpoint: MakeCheckpoint) -> None:
    def enlarge(tensors: dict[str, Any]) -> None:
        for part in ("gate", "up", "down"):
            tensors[f"model.layers.0.mlp.{part}_proj.weight"] *= 1e18

    model = FloatModel(Checkpoint.open(make_checkpoint(change=enlarge)), PLAIN, threads=1)
    with (
        pytest.raises(CheckpointInvalid, match="layer 0: activations are not finite at 33 of 33 tokens"),
        np.errstate(all="ignore"),
    ):
        model.final_residual()


def test_one_token_that_overflows_in_a_later_layer(make_checkpoint: MakeCheckpoint) -> None:
    def enlarge(tensors: dict[str, Any]) -> None:
        tensors["model.embed_tokens.weight"][8] = 0  # stays zero in every layer
        for part in ("gate", "up", "down"):
            tensors[f"model.layers.1.mlp.{part}_proj.weight"] *= 1e18

    text = TokenText("two", (), ((8,), (7,)))
    model = FloatModel(Checkpoint.open(make_checkpoint(change=enlarge)), text, threads=1)
    with pytest.raises(CheckpointInvalid, match="layer 1: activations are not finite at 1 of 2 tokens"):
        model.final_residual()


def test_one_number_that_is_not_finite() -> None:
    residual = np.zeros((5, 4), np.float32)
    require_finite(residual, 7)
    residual[3, 2] = np.inf
    with pytest.raises(CheckpointInvalid, match="layer 7: activations are not finite at 1 of 5 tokens"):
        require_finite(residual, 7)


@pytest.mark.parametrize("prefix", [0, 9])
def test_longest_sequence_is_the_context(make_checkpoint: MakeCheckpoint, prefix: int) -> None:
    checkpoint = Checkpoint.open(make_checkpoint(max_position_embeddings=16))
    fits = TokenText("fits", ids(prefix, 0), (ids(2, 1), ids(16 - prefix, 2)))
    assert FloatModel(checkpoint, fits, threads=1).final_residual().shape == (18, 48)
    too_long = TokenText("too-long.txt", ids(prefix, 0), (ids(2, 1), ids(17 - prefix, 2)))
    with pytest.raises(OptionInvalid, match="too-long.txt: holds a sequence of 17 tokens, .*checkpoint takes 16"):
        FloatModel(checkpoint, too_long, threads=1)


def test_failure_of_the_runtime_is_named(make_checkpoint: MakeCheckpoint) -> None:
    model = FloatModel(Checkpoint.open(make_checkpoint()), PLAIN, threads=1)
    with pytest.raises(RuntimeFailed, match=r"float model of .*checkpoint \(project\): "):
        model.project(np.zeros((3, 48), np.float32), np.zeros((48, 47), np.float32), np.zeros((3, 48), np.float32))
