"""What a directory is that is no checkpoint, by the names of its files, and what to do with it."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.directory import refuse_foreign_files
from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray]
MakeCheckpoint = Callable[..., Path]

EMBEDDING = "model.embed_tokens.weight"
# What a trainer of transformers leaves in every checkpoint, whatever else is in it.
TRAINER = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"]

KINDS = {
    "bundle": (["rubricrm.json", "model.onnx"], "is a bundle, already exported", "RubricModel.open"),
    "adapter": (["adapter_config.json", "adapter_model.safetensors"], "is an adapter (LoRA)", "merge_and_unload"),
    "old adapter": (["adapter_config.json", "adapter_model.bin"], "is an adapter (LoRA)", "merge_and_unload"),
    "adapter of MLX": (["adapters.safetensors"], "is an adapter (LoRA)", "merge_and_unload"),
    "trainer's adapter": (["adapter_model.safetensors", *TRAINER], "is an adapter (LoRA)", "merge_and_unload"),
    "adapter with shards": (["adapter_model.safetensors", "zero_to_fp32.py"], "is an adapter (LoRA)", "OUT"),
    "gguf": (["model-q4_k_m.gguf"], "holds weights in GGUF (found model-q4_k_m.gguf", "that they were made from"),
    "gguf inside": (["Q8_0/model-00001-of-00002.gguf"], "holds weights in GGUF", "Hugging Face checkpoint"),
    "pickled": (["pytorch_model.bin"], "holds pickled weights", "safe_serialization=True"),
    "pickled shards": (
        ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
        "holds pickled weights",
        "save_pretrained",
    ),
    "DeepSpeed": (
        ["zero_to_fp32.py", "latest", "global_step500/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", *TRAINER],
        "holds shards of DeepSpeed (ZeRO)",
        "python zero_to_fp32.py --safe_serialization {path} OUT",
    ),
    "DeepSpeed's step": (
        ["zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"],
        "holds shards of DeepSpeed (ZeRO)",
        "zero_to_fp32.py",
    ),
    "FSDP": (
        ["pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata", "optimizer_0/__0_0.distcp"],
        "holds shards of PyTorch's FSDP",
        "accelerate merge-weights {path}/pytorch_model_fsdp_0 OUT",
    ),
    "verl": (
        ["model_world_size_2_rank_0.pt", "optim_world_size_2_rank_0.pt", "fsdp_config.json", "huggingface/config.json"],
        "holds shards of verl's trainer (FSDP)",
        "verl.model_merger merge --backend fsdp --local_dir {path} --target_dir OUT",
    ),
    "verl's run": (
        ["data.pt", "actor/model_world_size_1_rank_0.pt", "actor/huggingface"],
        "holds shards of verl's trainer (FSDP)",
        "--local_dir {path}/actor --target_dir OUT",
    ),
    "verl with Megatron": (
        ["dist_ckpt/__0_0.distcp", "dist_ckpt/common.pt", "transformer_config.json", "huggingface/config.json"],
        "holds shards of verl's trainer (Megatron)",
        "--backend megatron --local_dir {path} --target_dir OUT",
    ),
    "Megatron": (
        ["latest_checkpointed_iteration.txt", "iter_0000100/__0_0.distcp", "iter_0000100/common.pt"],
        "holds shards of Megatron",
        "Megatron-Bridge",
    ),
    "Megatron's step": (["mp_rank_00/model_optim_rng.pt"], "holds shards of Megatron", "Megatron-Bridge"),
    "NeMo": (["model.nemo"], "is a checkpoint of NeMo", "Convert it"),
    "Llama's own": (["consolidated.00.pth", "params.json", "tokenizer.model"], "original format of Llama", "convert_"),
    "Mistral's own": (["consolidated.safetensors", "params.json"], "original format of Llama or Mistral", "convert_"),
    "Flax": (["flax_model.msgpack"], "weights of another framework", "from_flax"),
    "TensorFlow": (["tf_model.h5"], "weights of another framework", "from_tf"),
    "torch.save": (["policy.pt"], "saved by torch.save", "save_pretrained"),
    "ONNX": (["model.onnx", "model.onnx_data"], "is a model of another runtime", "made from"),
    "ONNX inside": (["onnx/model_q4.onnx"], "is a model of another runtime", "made from"),
    "OpenVINO": (["openvino_model.xml", "openvino_model.bin"], "is a model of another runtime", "made from"),
    "engine inside": (["engines/rank0.engine"], "is a model of another runtime", "made from"),
    "engine": (["rank0.engine"], "is a checkpoint or an engine of TensorRT-LLM", "made from"),
    "TensorRT-LLM": (["rank0.safetensors"], "is a checkpoint or an engine of TensorRT-LLM", "made from"),
    "embeddings": (["modules.json", "model.safetensors"], "is an embedding model", "writes none"),
    "images": (["model_index.json", "unet/diffusion_pytorch_model.safetensors"], "is a pipeline of diffusers", "text"),
}


def make_files(path: Path, names: list[str]) -> None:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()


def refusal(path: Path, kind: type[Exception] = CheckpointInvalid) -> str:
    with pytest.raises(kind) as caught:
        Checkpoint.open(path)
    return str(caught.value)


@pytest.mark.parametrize("with_config", [False, True], ids=["alone", "with config and tokenizer"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_checkpoint_is_told_what_it_is(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, kind: str, with_config: bool
) -> None:
    names, what, remedy = KINDS[kind]
    path = make_checkpoint(name="it") if with_config else tmp_path / "it"
    if with_config:
        (path / "model.safetensors").unlink()
    make_files(path, names)
    said = refusal(path)
    assert what in said
    assert remedy.replace("{path}", str(path)) in said


def test_files_of_a_repository_are_enough() -> None:
    with pytest.raises(CheckpointInvalid, match=r"^CHECKPOINT_INVALID: org/model-GGUF: holds weights in GGUF"):
        refuse_foreign_files(["README.md", "config.json", "model-Q4.gguf"], "org/model-GGUF")
    refuse_foreign_files(["config.json", "model.safetensors", "onnx/model.onnx", "original/params.json"], "org/model")
    refuse_foreign_files(["config.json", "model-00001-of-00002.safetensors", "model-q8.gguf"], "org/model")


@pytest.mark.parametrize(
    "beside",
    [
        TRAINER,
        ["onnx/model.onnx", "model.gguf", "pytorch_model.bin"],
        ["zero_to_fp32.py", "latest", "global_step10/mp_rank_00_model_states.pt"],
        ["original/consolidated.00.pth", "original/params.json"],
        ["checkpoint-500/adapter_model.safetensors"],
        ["trt/rank0.engine", "embeddings/modules.json", "trt/rank0.safetensors"],
    ],
    ids=lambda names: names[0],
)
def test_whole_weights_win_over_what_lies_beside_them(
    make_checkpoint: MakeCheckpoint, beside: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = make_checkpoint()
    make_files(path, beside)
    Checkpoint.open(path)
    assert caplog.messages == []


@pytest.mark.parametrize("adapter", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_adapter_beside_whole_weights_is_a_warning(
    make_checkpoint: MakeCheckpoint, caplog: pytest.LogCaptureFixture, adapter: str
) -> None:
    path = make_checkpoint()
    (path / adapter).write_text("{}")
    with caplog.at_level(logging.WARNING):
        Checkpoint.open(path)
    (warning,) = caplog.messages
    assert f"{path}: an adapter ({adapter}) lies beside whole weights" in warning
    assert "transformers would load both" in warning


# --- the wrong directory


def test_parent_of_a_checkpoint_names_it(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path.parent / "notes.txt").touch()
    assert f"no config.json, found notes.txt, checkpoint. The checkpoint lies in {path}: pass that" in refusal(
        path.parent
    )


def test_parent_of_several_checkpoints_names_the_last(make_checkpoint: MakeCheckpoint) -> None:
    made = make_checkpoint()
    first = made.parent / "run" / "checkpoint-500"
    shutil.copytree(made, first.parent / "checkpoint-1000")
    shutil.copytree(made, first)
    make_files(first.parent, [f"checkpoint-500/{name}" for name in TRAINER])
    assert f"2 checkpoints lie in it: pass one of them, such as {first.parent}/checkpoint-1000" in refusal(first.parent)


def test_folder_of_the_hubs_cache_names_the_snapshot(make_checkpoint: MakeCheckpoint) -> None:
    made = make_checkpoint()
    path = made.parent / "models--org--model" / "snapshots" / "0123abcd"
    path.parent.mkdir(parents=True)
    made.rename(path)
    assert f"The checkpoint lies in {path}: pass that" in refusal(path.parents[1])


def test_tokenizer_alone(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (path / name).unlink()
    assert "It holds a tokenizer and no model" in refusal(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model-q4.gguf", "is a GGUF file, which is not read"),
        ("model.safetensors", "is a file, expected a checkpoint directory"),
    ],
)
def test_file_instead_of_a_directory(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).touch()
    assert words in refusal(tmp_path / name)


def test_directory_of_another_user_inside_is_left_alone(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, listed = make_checkpoint(), Path.iterdir
    (path / "lost+found").mkdir()

    def refused(folder: Path) -> object:
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    Checkpoint.open(path)


def test_directory_that_cannot_be_read(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> object:
        raise PermissionError(13, "Permission denied")

    path = make_checkpoint()
    monkeypatch.setattr(Path, "iterdir", refused)
    assert f"{path}: cannot be read (Permission denied)" in refusal(path)


# --- weights of another kind


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "quantized by gptq to 4 bits"),
        ("quantization_config", {"quant_method": "awq", "bits": 4}, "quantized by awq to 4 bits"),
        ("quantization_config", {"quant_method": "compressed-tensors", "format": "x"}, "by compressed-tensors"),
        ("quantization_config", {"quant_method": "fp8", "fmt": "e4m3"}, "quantized by fp8"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "by bitsandbytes"),
        ("quantization", {"group_size": 64, "bits": 4}, "quantized by MLX to 4 bits"),
        ("compression_config", {"format": "pack-quantized"}, "quantized already"),
    ],
    ids=str,
)
def test_quantized_checkpoint_names_its_method(
    make_checkpoint: MakeCheckpoint, key: str, value: object, words: str
) -> None:
    said = refusal(make_checkpoint(**{key: value}), CheckpointUnsupported)
    assert words in said
    assert "Export the checkpoint that it was made from" in said


def test_no_quantization_is_none(make_checkpoint: MakeCheckpoint) -> None:
    Checkpoint.open(make_checkpoint(quantization_config=None))


def test_stray_quantized_file_beside_whole_shards(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=2)
    quantized = {f"{EMBEDDING[:-7]}.scales": np.ones(4, np.float16), EMBEDDING: np.ones((272, 6), np.uint32)}
    save_file(quantized, path / "model.safetensors")
    said = refusal(path)
    assert "model.safetensors and the 2 shards of model.safetensors.index.json beside it differ in" in said
    assert "transformers would load model.safetensors. Remove the one that is not the model" in said


def test_same_model_in_one_file_and_in_shards_is_a_warning(
    make_checkpoint: MakeCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_checkpoint(shards=2)
    shards = [load_file(path / f"model-0000{number}-of-00002.safetensors") for number in (1, 2)]
    save_file(shards[0] | shards[1], path / "model.safetensors")
    with Checkpoint.open(path) as checkpoint:
        assert "model.safetensors.index.json" not in checkpoint.files
    assert "model.safetensors is exported, as transformers would load it; the 2 shards" in caplog.text


def test_index_of_another_save_beside_other_shards(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=2)
    for number in (1, 2):
        (path / f"model-0000{number}-of-00002.safetensors").rename(path / f"model-0000{number}-of-00003.safetensors")
    said = refusal(path)
    assert "model.safetensors.index.json: names 2 shards that are not there, such as model-00001-of-00002" in said
    assert "model-00001-of-00003.safetensors, model-00002-of-00003.safetensors are not in it" in said


def test_shards_without_their_index(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(shards=2)
    (path / "model.safetensors.index.json").unlink()
    assert "download model.safetensors.index.json too" in refusal(path)


# --- names of tensors


def renamed(rename: Callable[[str], str]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[rename(name)] = tensors.pop(name)

    return change


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        (lambda name: f"_orig_mod.{name}", 'named with "_orig_mod.", which torch.compile adds'),
        (lambda name: f"module.{name}", 'named with "module.", which DataParallel or DeepSpeed adds'),
        (lambda name: f"module._orig_mod.{name}", 'named with "module._orig_mod."'),
        (lambda name: f"model.{name}", 'named with "model.": model.model.'),
        (lambda name: f"base_model.model.{name}", 'named with "base_model.model.", which PEFT adds'),
        (lambda name: f"policy.{name}", 'named with "policy.": policy.model.'),
        (lambda name: f"actor.module.{name}", 'named with "actor.module."'),
        (lambda name: name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."), "activation checkpointing"),
        (lambda name: name.replace("model.", "model._fsdp_wrapped_module.", 1), "which FSDP adds"),
    ],
)
def test_prefix_of_a_wrapper_is_named(
    make_checkpoint: MakeCheckpoint, rename: Callable[[str], str], words: str
) -> None:
    said = refusal(make_checkpoint(change=renamed(rename)))
    assert words in said
    assert ", expected model." in said
    assert "save_file({name.replace(" in said


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("v_head.summary.weight", (1, 48), "1 tensors of a value head, which PPO trains"),
        ("v_head.summary.bias", (1,), "1 tensors of a value head"),
        ("value_head.weight", (1, 48), "1 tensors of a value head"),
        ("critic_head.weight", (1, 48), "1 tensors of a value head"),
        ("reward_head.0.weight", (1, 48), "a head that scores or classifies text"),
        ("model.score.weight", (1, 48), "a head that scores or classifies text"),
        ("score.weight", (1, 48), "a head that scores or classifies text"),
        ("classifier.bias", (2,), "a head that scores or classifies text"),
        ("mtp.layers.0.self_attn.q_proj.weight", (128, 48), "heads that predict several tokens"),
        ("model.layers.2.eh_proj.weight", (48, 96), "heads that predict several tokens"),
        ("medusa_head.0.0.linear.weight", (48, 48), "heads that predict several tokens"),
        ("visual.patch_embed.proj.weight", (48, 3), "also takes images or sound"),
        ("model.vision_tower.layers.0.weight", (48, 3), "also takes images or sound"),
        ("model.layers.0.mlp.experts.7.gate_proj.weight", (8, 48), "a mixture of experts"),
        ("model.layers.0.mlp.gate_proj.qweight", (8, 48), "tensors of quantized weights"),
        ("model.layers.0.mlp.gate_proj.weight_scale_inv", (1, 1), "tensors of quantized weights"),
        ("model.layers.0.mlp.gate_proj.weight.absmax", (8,), "tensors of quantized weights"),
        ("lm_head.bias", (272,), "1 bias tensors"),
    ],
)
def test_further_tensors_are_named_as_what_they_are(
    make_checkpoint: MakeCheckpoint, name: str, shape: tuple[int, ...], words: str
) -> None:
    path = make_checkpoint(change=lambda tensors: tensors.update({name: np.zeros(shape, np.float32)}))
    said = refusal(path, CheckpointUnsupported)
    assert words in said
    assert name in said


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_adapter_inside_the_weights(make_checkpoint: MakeCheckpoint, prefix: str) -> None:
    def change(tensors: Tensors) -> None:
        renamed(lambda name: prefix + name.replace("q_proj.weight", "q_proj.base_layer.weight"))(tensors)
        tensors[f"{prefix}model.layers.0.self_attn.q_proj.lora_A.weight"] = np.zeros((4, 48), np.float32)

    said = refusal(make_checkpoint(change=change))
    assert "tensors of an adapter (LoRA) that is not merged" in said
    assert "merge_and_unload" in said


@pytest.mark.parametrize("shape", [(0,), (0, 48)])
def test_empty_tensors_of_zero_3(make_checkpoint: MakeCheckpoint, shape: tuple[int, ...]) -> None:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            tensors[name] = np.zeros(shape, ml_dtypes.bfloat16)

    said = refusal(make_checkpoint(change=change))
    assert f"24 of 24 tensors are empty: {EMBEDDING}" in said
    assert "zero_to_fp32.py --safe_serialization" in said


def test_model_that_is_none_in_its_config_is_no_name_of_a_wrapper(make_checkpoint: MakeCheckpoint) -> None:
    def change(tensors: Tensors) -> None:
        tensors["draft.model.norm.weight"] = tensors["model.norm.weight"].copy()

    said = refusal(make_checkpoint(change=change))
    assert "1 tensors that Qwen3ForCausalLM with 2 layers does not have: draft.model.norm.weight" in said


def test_config_that_is_damaged_is_said_by_its_reader(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "config.json").write_text(json.dumps([1]))
    assert "config.json: holds a JSON list" in refusal(path)
