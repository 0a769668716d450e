"""Opening, tying and streaming checkpoints; each bad input with the words a user needs."""

import hashlib
import json
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.runtime.manifest import FileFacts
from rubricrm_export.checkpoint.checkpoint import Checkpoint, CheckpointTensor, checkpoint_digests
from rubricrm_export.checkpoint.files import read_header
from rubricrm_export.checkpoint.tensor import DTYPES, is_finite
from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray]
MakeCheckpoint = Callable[..., Path]

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 8044982000\n"


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def assert_invalid(path: Path, *words: str) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        Checkpoint.open(path)
    for word in words:
        assert word in str(caught.value)


# --- sound checkpoints


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_every_tensor_reads_back(make_checkpoint: MakeCheckpoint, architecture: str, shards: int, dtype: str) -> None:
    written: Tensors = {}
    path = make_checkpoint(architecture, shards=shards, dtype=dtype, change=written.update)
    with Checkpoint.open(path) as checkpoint:
        assert checkpoint.architecture.name == architecture
        assert checkpoint.tied is (architecture == "Qwen3ForCausalLM")
        assert set(checkpoint.architecture.tensor_shapes(checkpoint.tied)) == set(written)
        for name, expected in written.items():
            tensor = checkpoint.tensor(name)
            assert (tensor.name, tensor.shape, tensor.dtype) == (name, expected.shape, dtype)
            assert tensor.nbytes == expected.nbytes
            assert same_bits(tensor.rows(0, tensor.shape[0]), expected)


def test_files_and_their_digests(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=2)
    (path / "notes.txt").write_text("not part of the checkpoint")
    with Checkpoint.open(path) as checkpoint:
        assert checkpoint.files == [
            "README.md",
            "config.json",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        digests = checkpoint_digests(checkpoint.path, checkpoint.files)
    for name in checkpoint.files:
        content = (path / name).read_bytes()
        assert digests[name] == FileFacts(len(content), hashlib.sha256(content).hexdigest())


def test_digest_of_a_lost_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=r"gone\.safetensors: cannot be read"):
        checkpoint_digests(tmp_path, ["gone.safetensors"])


def test_generation_config_is_read_or_none(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    with Checkpoint.open(path) as checkpoint:
        assert checkpoint.generation_config is not None
        assert checkpoint.generation_config["eos_token_id"] == [2, 0]
    (path / "generation_config.json").unlink()
    with Checkpoint.open(path) as checkpoint:
        assert checkpoint.generation_config is None


def test_links_of_a_hub_cache_are_followed(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    path = make_checkpoint(shards=2)
    snapshot, blobs = tmp_path / "snapshots" / "0123abcd", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in path.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    with Checkpoint.open(snapshot) as checkpoint:
        assert checkpoint.tensor(EMBEDDING).rows(0, 1).shape == (1, 48)


def test_single_file_wins_over_an_index_as_in_transformers(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with Checkpoint.open(path) as checkpoint:
        assert "model.safetensors.index.json" not in checkpoint.files


def test_rotary_tables_of_old_checkpoints_are_ignored(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(16, np.float32)

    with Checkpoint.open(make_checkpoint(change=change)) as checkpoint:
        assert checkpoint.tied


def test_file_that_vanishes_or_changes_after_opening(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    with Checkpoint.open(path) as checkpoint:
        tensor = checkpoint.tensor(EMBEDDING)
    save_file({EMBEDDING: np.zeros((272, 40), np.float32)}, path / "model.safetensors")
    with pytest.raises(CheckpointInvalid, match=f'"{EMBEDDING}" was changed while it was in use'):
        tensor.rows(0, 1)
    (path / "model.safetensors").unlink()
    with pytest.raises(CheckpointInvalid, match=rf'model.safetensors: tensor "{EMBEDDING}" cannot be read any more'):
        tensor.rows(0, 1)


def test_unknown_tensor_is_a_key_error(make_checkpoint: MakeCheckpoint) -> None:
    with Checkpoint.open(make_checkpoint()) as checkpoint, pytest.raises(KeyError, match="nothing"):
        checkpoint.tensor("model.nothing")


# --- tied or not


def test_tied_without_head_gives_the_embedding_for_both(make_checkpoint: MakeCheckpoint) -> None:
    with Checkpoint.open(make_checkpoint(tie_word_embeddings=True)) as checkpoint:
        assert checkpoint.tied
        assert same_bits(checkpoint.tensor(HEAD).rows(3, 5), checkpoint.tensor(EMBEDDING).rows(3, 5))


def test_tied_with_only_the_head_gives_the_head_for_both(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(change=lambda tensors: tensors.update({HEAD: tensors.pop(EMBEDDING)}))
    with Checkpoint.open(path) as checkpoint:
        assert checkpoint.tied
        assert same_bits(checkpoint.tensor(EMBEDDING).rows(3, 5), checkpoint.tensor(HEAD).rows(3, 5))


def test_tied_with_an_equal_head_is_tied(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDING].copy()

    with Checkpoint.open(make_checkpoint(change=change)) as checkpoint:
        assert checkpoint.tied


def test_tied_with_another_head_is_a_contradiction(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDING].copy()
        tensors[HEAD][-1, -1] += 1  # the last weight of all: every block is compared

    assert_invalid(
        make_checkpoint(change=change),
        f'"{EMBEDDING}" and "{HEAD}" differ',
        '"tie_word_embeddings" in config.json is true',
        'Set "tie_word_embeddings" to false',
    )


def test_tied_with_a_head_of_another_type_is_a_contradiction(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(change=lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].astype(np.float32)}))
    assert_invalid(path, f'"{EMBEDDING}" and "{HEAD}" differ')


def test_tied_with_a_head_of_another_shape_names_both_shapes(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(change=lambda tensors: tensors.update({HEAD: tensors[EMBEDDING][:260].copy()}))
    assert_invalid(path, f'"{HEAD}" has the shape [260, 48], expected [272, 48]')


@pytest.mark.parametrize("is_equal", [True, False])
def test_untied_with_a_head_is_untied_even_if_equal(make_checkpoint: MakeCheckpoint, is_equal: bool) -> None:
    def change(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDING].copy() if is_equal else tensors[HEAD]

    path = make_checkpoint(tie_word_embeddings=False, change=change)
    with Checkpoint.open(path) as checkpoint:
        assert not checkpoint.tied


def test_untied_without_head_is_invalid(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(tie_word_embeddings=False, change=lambda tensors: tensors.pop(HEAD))
    assert_invalid(path, "untied head is missing", HEAD, '"tie_word_embeddings" in config.json is false')


def test_absent_tie_without_head_says_what_absence_means(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(without=("tie_word_embeddings",))
    assert_invalid(path, "untied head is missing", "absent, which means false", "Set it to true")


# --- the directory


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    assert_invalid(tmp_path / "gone", str(tmp_path / "gone"), "no such directory", "org/model")


def test_path_that_is_a_file(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    assert_invalid(path / "model.safetensors", "is a file, expected a checkpoint directory", f"Pass {path} instead")


def test_empty_directory(tmp_path: Path) -> None:
    assert_invalid(tmp_path, "the directory is empty", "config.json", "model.safetensors")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["photo.jpg"], ["no config.json, found photo.jpg", "Pass the directory that holds config.json"]),
        (list("abcdefg"), ["found a, b, c, d, e and 2 more"]),
    ],
    ids=["foreign", "many"],
)
def test_foreign_directory_is_told_what_it_is(tmp_path: Path, files: list[str], words: list[str]) -> None:
    for file in files:
        (tmp_path / file).touch()
    assert_invalid(tmp_path, "no config.json", *words)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_config_that_is_not_json(make_checkpoint: MakeCheckpoint, content: bytes) -> None:
    path = make_checkpoint()
    (path / "config.json").write_bytes(content)
    assert_invalid(path, "config.json: is not JSON", "Download the file again")


def test_config_that_is_no_object(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "config.json").write_text("[1]")
    assert_invalid(path, "config.json: holds a JSON list, expected an object")


def test_config_of_another_architecture_comes_before_missing_files(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(architectures=["BertModel"])
    (path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointUnsupported, match=r"config.json.*BertModel.*expected one of Qwen3ForCausalLM"):
        Checkpoint.open(path)


def test_missing_tokenizer(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "tokenizer.json").unlink()
    assert_invalid(path, "tokenizer.json: is missing", "copy it from the base model", "save_pretrained")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_git_lfs_pointer_in_place_of_a_file(make_checkpoint: MakeCheckpoint, name: str) -> None:
    path = make_checkpoint()
    (path / name).write_text(LFS_POINTER)
    assert_invalid(path, f"{name}: is a Git LFS pointer", "git lfs pull")


# --- the weight files


def test_no_weights(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "model.safetensors").unlink()
    assert_invalid(path, "neither model.safetensors nor model.safetensors.index.json", "Finish the download")


def test_only_pickled_weights(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert_invalid(path, "holds pickled weights (found pytorch_model.bin; a checkpoint has model.safetensors)")


def test_missing_shard_is_named_and_counted(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=3)
    (path / "model-00002-of-00003.safetensors").unlink()
    assert_invalid(path, "model-00002-of-00003.safetensors: this shard is missing", "1 of 3 shards", "Finish the down")


def test_shard_that_is_a_broken_link(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=3)
    shard = path / "model-00002-of-00003.safetensors"
    shard.unlink()
    shard.symlink_to("../../blobs/gone")
    assert_invalid(path, "model-00002-of-00003.safetensors: this shard is a broken link")


def test_index_that_names_a_tensor_which_the_shard_lacks(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=2)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    shard = index["weight_map"][EMBEDDING]
    elsewhere = next(name for name, holder in index["weight_map"].items() if holder != shard)
    index["weight_map"][elsewhere] = shard
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_invalid(path, f'{shard}: lacks tensor "{elsewhere}"', "(1 such tensors)", "of the same revision")


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_index_without_a_map(make_checkpoint: MakeCheckpoint, content: str) -> None:
    path = make_checkpoint(shards=2)
    (path / "model.safetensors.index.json").write_text(content)
    assert_invalid(path, 'model.safetensors.index.json: "weight_map" is no object of tensors and shards')


def test_index_that_is_not_json(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=2)
    (path / "model.safetensors.index.json").write_text("{")
    assert_invalid(path, "model.safetensors.index.json: is not JSON")


@pytest.mark.parametrize(
    "shard", ["../secret.safetensors", "/etc/a.safetensors", "a\\b.safetensors", "sub/a.safetensors", "a.bin", 7]
)
def test_index_that_leaves_the_directory(make_checkpoint: MakeCheckpoint, shard: object) -> None:
    path = make_checkpoint(shards=2)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {EMBEDDING: shard}}))
    assert_invalid(path, f'tensor "{EMBEDDING}" is in {json.dumps(shard)}', "without a path")


def with_header(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 bytes, expected a safetensors file"),
        (b"1234567", "has 7 bytes, expected a safetensors file"),
        (struct.pack("<Q", 1000) + b"{}", "its header claims 1000 bytes, the file has 10"),
        (b"PK\x03\x04" + b"\x00\x00\x00\x01" * 9, "is no whole safetensors file"),
        (with_header(b"not json"), "its header is not JSON"),
        (with_header(b"\xff" * 8), "its header is not JSON"),
        (with_header(b"[1, 2]"), "is no sound safetensors file ("),
        (
            with_header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}', b"123456789"),
            "no sound safetensors file (",
        ),
    ],
    ids=["empty", "short", "header-too-long", "zip", "not-json", "not-utf8", "list", "offsets"],
)
def test_damaged_weight_file(make_checkpoint: MakeCheckpoint, content: bytes, words: str) -> None:
    path = make_checkpoint()
    (path / "model.safetensors").write_bytes(content)
    assert_invalid(path, str(path / "model.safetensors"), words, "Download the file again")


@pytest.mark.parametrize("change", [-1, -5000, 3])
def test_weight_file_of_the_wrong_length(make_checkpoint: MakeCheckpoint, change: int) -> None:
    file = make_checkpoint() / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:change] if change < 0 else content + b"x" * change)
    assert_invalid(
        file.parent,
        "is cut off or damaged",
        f"promises {len(content)} bytes, the file has {len(content) + change}",
    )


# --- the tensors


def test_missing_tensors_are_counted_and_named(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(change=lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert_invalid(path, "1 of 24 tensors are missing: model.layers.1.mlp.up_proj.weight", "num_hidden_layers")


def test_missing_embedding_of_an_untied_model(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint("LlamaForCausalLM", change=lambda tensors: tensors.pop(EMBEDDING))
    assert_invalid(path, f"tensors are missing: {EMBEDDING}")


def test_fewer_layers_than_the_config_says(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert_invalid(path, "11 of 35 tensors are missing: model.layers.2.input_layernorm.weight", "and 8 more")


def test_more_layers_than_the_config_says(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert_invalid(path, "11 tensors that Qwen3ForCausalLM with 1 layers does not have: model.layers.1.")


def test_names_without_prefix(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    assert_invalid(make_checkpoint(change=change), 'named without the prefix "model."', "embed_tokens.weight")


def test_bias_would_change_the_function(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        for layer in range(2):
            for part in "qk":
                tensors[f"model.layers.{layer}.self_attn.{part}_proj.bias"] = np.zeros(8, np.float32)

    with pytest.raises(CheckpointUnsupported, match=r"4 bias tensors.*_proj\.bias.*and 1 more.*without bias"):
        Checkpoint.open(make_checkpoint(change=change))


def test_qk_norms_in_a_llama_checkpoint(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(16, np.float32)

    assert_invalid(make_checkpoint("LlamaForCausalLM", change=change), "1 tensors that LlamaForCausalLM", "q_norm")


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.uint8, ml_dtypes.float8_e4m3fn])
def test_type_that_is_not_read(make_checkpoint: MakeCheckpoint, dtype: type) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    path = make_checkpoint()
    tensors = load_file(path / "model.safetensors")
    tensors[name] = tensors[name].astype(dtype)
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(CheckpointUnsupported, match=rf'"{name}" is [FIU]\w+, expected one of BF16, F16, F32'):
        Checkpoint.open(path)


def test_wrong_shape_names_both_and_the_config_keys(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"head_dim": 16}))
    assert_invalid(
        path,
        '"model.layers.0.self_attn.q_proj.weight" has the shape [128, 48], expected [64, 48]',
        "[num_attention_heads * head_dim, hidden_size]",
    )


# --- reading in blocks


def open_tensor(path: Path, array: np.ndarray) -> CheckpointTensor:
    """A tensor alone in its file, without a checkpoint around it."""
    save_file({"w": array}, path)
    return read_header(path)["w"]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@settings(max_examples=40)
@given(
    num_rows=st.integers(1, 40),
    row_shape=st.sampled_from([(), (1,), (7,)]),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    max_bytes=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_put_together_are_the_tensor(
    dtype: str, num_rows: int, row_shape: tuple[int, ...], cuts: list[int], max_bytes: int, seed: int
) -> None:
    size = num_rows * int(np.prod(row_shape, dtype=int)) * DTYPES[dtype].itemsize
    bits = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    # Any bits with the highest one of the exponent cleared: finite numbers.
    bits[DTYPES[dtype].itemsize - 1 :: DTYPES[dtype].itemsize] &= 0xBF
    array = bits.view(DTYPES[dtype]).reshape(num_rows, *row_shape)
    edges = [0, *sorted(min(cut, num_rows) for cut in cuts), num_rows]
    with tempfile.TemporaryDirectory() as folder:
        tensor = open_tensor(Path(folder) / "w.safetensors", array)
        blocks = [tensor.rows(start, stop) for start, stop in pairwise(edges)]
        chunks = list(tensor.chunks(max_bytes))
    assert same_bits(np.concatenate(blocks), array)
    assert same_bits(np.concatenate(chunks), array)
    assert all(len(chunk) == 1 or chunk.nbytes <= max_bytes for chunk in chunks)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 6), (3, 2), (6, 6)])
def test_rows_outside_the_tensor(tmp_path: Path, start: int, stop: int) -> None:
    tensor = open_tensor(tmp_path / "w.safetensors", np.zeros((5, 2), np.float32))
    with pytest.raises(IndexError, match=f"w: rows {start} to {stop} of a tensor of 5 rows"):
        tensor.rows(start, stop)


def test_a_row_is_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    tensor = open_tensor(tmp_path / "w.safetensors", np.zeros((5, 2), np.float32))
    tensor.rows(0, 5)[:] = 1
    assert not tensor.rows(0, 5).any()


def resident_peak_bytes() -> int:
    """The most memory this process has had resident, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def test_streaming_a_large_tensor_holds_two_blocks_at_most(tmp_path: Path) -> None:
    save_file({"w": np.zeros((8192, 4096), ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    tensor = read_header(tmp_path / "w.safetensors")["w"]
    assert tensor.nbytes == 64 << 20
    tracemalloc.start()
    try:
        num_bytes = sum(chunk.nbytes for chunk in tensor.chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_bytes == tensor.nbytes
    assert peak < 20 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux's /proc")
def test_streaming_leaves_no_mapped_pages_resident(tmp_path: Path) -> None:
    save_file({"w": np.zeros((16384, 4096), ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    tensor = read_header(tmp_path / "w.safetensors")["w"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    before = resident_peak_bytes()
    num_bytes = sum(chunk.nbytes for chunk in tensor.chunks())
    assert num_bytes == 128 << 20
    assert resident_peak_bytes() - before < 64 << 20


# --- numbers that are not finite


NOT_FINITE = [np.nan, -np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("value", NOT_FINITE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_is_not_finite_is_refused_where_it_is_read(tmp_path: Path, dtype: str, value: float) -> None:
    array = np.ones((5, 3, 2), DTYPES[dtype])
    array[3, 1, 0] = array[4, 2, 1] = np.copysign(value, value)
    tensor = open_tensor(tmp_path / "w.safetensors", array)
    tensor.rows(0, 3)
    kind = "NaN" if np.isnan(value) else "infinite"
    with pytest.raises(CheckpointInvalid) as caught:
        list(tensor.chunks(12 * DTYPES[dtype].itemsize))
    assert str(caught.value) == (
        f'CHECKPOINT_INVALID: {tmp_path / "w.safetensors"}: tensor "w" holds 2 {kind} of 30 weights, the first '
        f"({float(array[3, 1, 0])}) at [3, 1, 0], expected finite numbers. The checkpoint is damaged or its training "
        "diverged: export another one."
    )


def test_both_kinds_are_counted(tmp_path: Path) -> None:
    array = np.array([0, np.inf, np.nan, -np.inf], np.float16)
    with pytest.raises(CheckpointInvalid, match=r"holds 1 NaN and 2 infinite of 4 weights, the first \(inf\) at \[1\]"):
        open_tensor(tmp_path / "w.safetensors", array).rows(0, 4)


@given(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), st.randoms())
def test_finite_is_what_numpy_calls_finite(dtype: str, bits: list[int], random: Any) -> None:
    # Random bits are rarely at the borders: some are set there.
    exponent = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}[dtype]
    size = 8 * DTYPES[dtype].itemsize
    borders = [exponent - 1, exponent, exponent + 1]
    borders += [border | 1 << (size - 1) for border in borders]
    chosen = [random.choice([number % 2**size, random.choice(borders)]) for number in bits]
    block = np.array(chosen, f"u{size // 8}").view(DTYPES[dtype])
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of a signaling NaN
        assert is_finite(block) == bool(np.isfinite(block).all())
