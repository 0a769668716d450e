"""The float model, one layer at a time, against the whole graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rubricrm.bundle import Bundle
from rubricrm.errors import CheckpointInvalid
from rubricrm.session import Session
from rubricrm_export import float_model
from rubricrm_export.checkpoint import Checkpoint
from rubricrm_export.float_model import GROUPS, FloatModel
from rubricrm_export.onnx_export import OnnxExport, export_onnx
from rubricrm_export.token_text import TokenText

MakeCheckpoint = Callable[..., Path]
Float = NDArray[np.float32]


def ids(length: int, seed: int) -> tuple[int, ...]:
    return tuple(int(token) for token in np.random.default_rng(seed).integers(5, 261, length))


PLAIN = TokenText("plain", (), (ids(9, 0), ids(1, 1), ids(23, 2)))
PREFIXED = TokenText("prefixed", ids(11, 3), (ids(4, 4), ids(17, 5), ids(1, 6)))


def logits_of(model: FloatModel) -> Float:
    final = model.final_norm(model.final_residual())
    return np.concatenate([final @ rows.T for _, rows in model.head_blocks()], axis=1)


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


def test_keys_and_values_are_those_of_the_cache(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    bundle = export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle", weights="fp32"))
    text = TokenText("one", (), (ids(19, 0),))
    model = FloatModel(Checkpoint.open(checkpoint), text, threads=1)
    session = Session(bundle, threads=1)
    slot = session.new_slot(32)
    session.run(slot, text.sequences[0])
    cached = slot.cache.positions(19)  # [layers, 2, 1, kv_heads, positions, head_dim]
    residual = model.embed()
    for layer in range(2):
        _, attended, residual = model.traced_layer(residual, model.layer_weights(layer))
        for half, found in enumerate((attended.keys, attended.values)):
            np.testing.assert_allclose(found.transpose(1, 0, 2), cached[layer, half, 0], rtol=0, atol=2e-5)


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
    assert [start for start, _ in model.head_blocks()] == [0, 100, 200]
    np.testing.assert_allclose(logits_of(model), whole, rtol=0, atol=1e-5)


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


def test_only_rows_that_occur_are_read(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = Checkpoint.open(make_checkpoint())
    table = checkpoint.tensor("model.embed_tokens.weight").rows(0, 272).astype(np.float32)
    embedded = FloatModel(checkpoint, PREFIXED, threads=1).embed()
    np.testing.assert_array_equal(embedded, table[PREFIXED.token_ids])


def test_progress(make_checkpoint: MakeCheckpoint) -> None:
    calls: list[tuple[int, int]] = []
    FloatModel(Checkpoint.open(make_checkpoint()), PLAIN, threads=1).final_residual(lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_no_number(make_checkpoint: MakeCheckpoint, value: float) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value

    model = FloatModel(Checkpoint.open(make_checkpoint(change=damage)), PLAIN, threads=1)
    with pytest.raises(CheckpointInvalid, match=r"layers\.1\.mlp\.up_proj\.weight. holds (nan|inf) at \[3, 4\]"):
        model.final_residual()


def test_activations_that_overflow(make_checkpoint: MakeCheckpoint) -> None:
    def enlarge(tensors: dict[str, Any]) -> None:
        for part in ("gate", "up", "down"):
            tensors[f"model.layers.0.mlp.{part}_proj.weight"] *= 1e18

    model = FloatModel(Checkpoint.open(make_checkpoint(change=enlarge)), PLAIN, threads=1)
    with pytest.raises(CheckpointInvalid, match="layer 0: activations are not finite"), np.errstate(all="ignore"):
        model.final_residual()
