"""The job: a checkpoint's directory becomes a bundle whose manifest is right; a wrong one is refused by name."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_kernels import KV_TYPE
from rubricrm import __version__
from rubricrm.errors import OptionInvalid, OutputInvalid, RubricrmError
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.errors import CheckpointInvalid, ExportFailed, PromptTemplateInvalid
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx, plan_onnx
from safetensors import safe_open

MakeCheckpoint = Callable[..., Path]

FILES = [
    "genai_config.json",
    "grammar.npz",
    "model.onnx",
    "model.onnx.data",
    "model.step.onnx",
    f"prefix.rubric.{KV_TYPE}.safetensors",
    "tokenizer.json",
]


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def export(checkpoint: Path, **options: Any) -> Bundle:
    return export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle", **options))


# --- the manifest


def test_manifest_of_a_tiny_checkpoint(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    manifest = export(checkpoint, weights="fp16").manifest
    stored = {p.name: p.read_bytes() for p in checkpoint.iterdir()}
    num_parameters = 272 * 48 + 2 * (2 * 48 + 2 * 32 + 2 * 128 * 48 + 2 * 64 * 48 + 3 * 80 * 48) + 48
    assert dataclasses.asdict(manifest.model) == {
        "name": "checkpoint",
        "architecture": "Qwen3ForCausalLM",
        "license": "apache-2.0",
        "num_parameters": num_parameters,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 32,
        "vocab_size": 272,
        "context_length": 2048,
    }
    shared = {
        "file": "model.onnx",
        "data_file": "model.onnx.data",
        "layout": "standard",
        "target": "cpu",
        "kv_update": "shared",
        "kv_type": "float32",
        "compute_type": "float32",
        "requires": {"domains": {"ai.onnx": 23, "com.microsoft": 1}, "library": None},
        "extensions": {},
    }
    required = {"domains": {"ai.onnx": 23, "com.microsoft": 1, "rubricrm": 1}, "library": "1"}
    changed = {"file": "model.step.onnx", "kv_update": "slots", "kv_type": "float16", "requires": required}
    step = shared | changed
    assert [dataclasses.asdict(graph) for graph in manifest.graphs] == [step, shared]
    assert dataclasses.asdict(manifest.quantization) == {
        "weights": "fp16",
        "activations": "none",
        "method": "none",
    }
    assert dataclasses.asdict(manifest.tokenizer) == {"file": "tokenizer.json", "num_tokens": 261}
    assert manifest.prompt.template_source == "README.md"
    assert manifest.prompt.template.startswith("Write the rubric of a good answer.\n")
    assert manifest.prompt.template_sha256 == hashlib.sha256(manifest.prompt.template.encode()).hexdigest()
    assert manifest.prompt.stop_ids == (0, 2)
    assert manifest.chat.generation.endswith("<think>\n\n</think>\n\n")
    assert manifest.generation.max_new_tokens == 1024
    assert manifest.quality is None
    source = manifest.provenance.source
    assert (source.repo, source.commit) == (None, None)
    assert {name: (entry.size, entry.sha256) for name, entry in source.files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in stored.items()
    }
    names = ("onnx", "onnx-ir", "outlines-core", "numpy", "safetensors")
    tools = {"rubricrm": __version__} | {name: version(name) for name in names}
    assert manifest.provenance.tools == tools
    assert manifest.provenance.command == "rubricrm export onnx checkpoint --target cpu --weights fp16"


def test_manifest_lists_every_file(make_checkpoint: MakeCheckpoint) -> None:
    bundle = export(make_checkpoint())
    found = contents(bundle.path)
    del found["rubricrm.json"]
    assert sorted(found) == sorted([*FILES, "tokenizer_config.json"])
    assert {name: (entry.size, entry.sha256) for name, entry in bundle.manifest.files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in found.items()
    }
    bundle.verify()


@pytest.mark.parametrize(
    ("front", "license_", "name"),
    [
        ("---\nlicense: mit\nmodel_name: Tiny\n---\n", "mit", "Tiny"),
        ("---\ntags: []\n---\n", None, "checkpoint"),
        ("", None, "checkpoint"),
    ],
    ids=["declared", "undeclared", "no front matter"],
)
def test_license_and_name(make_checkpoint: MakeCheckpoint, front: str, license_: str | None, name: str) -> None:
    checkpoint = make_checkpoint()
    card = checkpoint / "README.md"
    card.write_text(front + card.read_text().split("---\n", 2)[2])
    bundle = export(checkpoint)
    assert (bundle.manifest.model.license, bundle.manifest.model.name) == (license_, name)
    assert json.loads((bundle.path / "rubricrm.json").read_text())["model"]["license"] == license_


def test_options_are_in_the_provenance_without_their_directories(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    template, chat = checkpoint.parent / "my template.txt", checkpoint.parent / "chat.jinja"
    template.write_text("Rubric of {prompt}:")
    message = "[{{ m.role }}]{{ m.content }}"
    chat.write_text(f"{{% for m in messages %}}{message}{{% endfor %}}{{{{ '>' if add_generation_prompt }}}}")
    bundle = export(checkpoint, prompt_template=template, chat_template=chat)
    prompt = bundle.manifest.prompt
    assert (prompt.template, prompt.template_source) == ("Rubric of {prompt}:", "my template.txt")
    assert (bundle.manifest.chat.user.before, bundle.manifest.chat.generation) == ("[user]", ">")
    assert bundle.manifest.provenance.command == (
        "rubricrm export onnx checkpoint --target cpu --prompt-template my template.txt --chat-template chat.jinja"
    )
    # Other runtimes look for it there.
    assert json.loads((bundle.path / "tokenizer_config.json").read_text())["chat_template"] == chat.read_text()


def test_no_absolute_path_is_in_any_file(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    bundle = export(make_checkpoint())
    for data in contents(bundle.path).values():
        assert str(tmp_path).encode() not in data
    manifest = (bundle.path / "rubricrm.json").read_text()
    assert not re.search(r'"(/|~|[A-Za-z]:\\)', manifest)


def test_two_exports_are_the_same_bytes(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint(shards=2)
    jobs = [OnnxExport(str(checkpoint), checkpoint.parent / name / "bundle") for name in ("one", "two")]
    first, second = (contents(export_onnx(job).path) for job in jobs)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_shards_change_the_provenance_only(make_checkpoint: MakeCheckpoint) -> None:
    checkpoints = [make_checkpoint(name=f"of {n}", shards=n) for n in (1, 3)]
    one, three = (contents(export_onnx(OnnxExport(str(c), c.parent / f"bundle {c.name}")).path) for c in checkpoints)
    assert [name for name in one if one[name] != three[name]] == ["rubricrm.json"]


# --- the prefix


def test_small_models_ship_their_prefix(make_checkpoint: MakeCheckpoint) -> None:
    bundle = export(make_checkpoint())
    facts = bundle.manifest.prompt.prefix
    assert facts.files == {KV_TYPE: f"prefix.rubric.{KV_TYPE}.safetensors"}
    with safe_open(bundle.file(f"prefix.rubric.{KV_TYPE}.safetensors"), framework="np") as tensors:
        ids = [int(token) for token in tensors.metadata()["token_ids"].split(",")]
        assert len(ids) == facts.num_tokens > 100
        positions = tensors.get_tensor("positions")
        assert (positions.dtype, positions.shape) == (KV_TYPE, (2, 2, 1, 2, facts.num_tokens, 32))
    with RubricModel.open(bundle.path, threads=1) as model:
        result = model.generate("Write a haiku.", max_new_tokens=4)
    assert result.usage.cached_prompt_tokens == facts.num_tokens


def test_cuda_bundles_ship_none(make_checkpoint: MakeCheckpoint) -> None:
    manifest = export(make_checkpoint(), target="cuda").manifest
    assert manifest.prompt.prefix.files == {}
    assert manifest.prompt.prefix.num_tokens > 100
    assert f"prefix.rubric.{KV_TYPE}.safetensors" not in manifest.files


def test_template_that_begins_with_the_request_has_the_chat_before_it(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    template = checkpoint.parent / "template.txt"
    template.write_text("{prompt}")
    manifest = export(checkpoint, prompt_template=template).manifest
    # <|im_start|> and the five bytes of "user" and its line break.
    assert manifest.prompt.prefix.num_tokens == 6


# --- devices and types


@pytest.mark.parametrize(
    ("weights", "device", "computed", "kept"),
    [
        ("fp32", "cpu", "float32", ["float32", "float32"]),
        ("fp16", "cpu", "float32", ["float16", "float32"]),
        ("bf16", "cpu", "float32", ["float16", "float32"]),
        ("fp16", "cuda", "float16", ["float16", "float16"]),
        ("bf16", "cuda", "bfloat16", ["bfloat16", "bfloat16"]),
    ],
)
def test_types_of_the_graphs(
    make_checkpoint: MakeCheckpoint, weights: str, device: str, computed: str, kept: list[str]
) -> None:
    manifest = export(make_checkpoint(), weights=weights, target=device).manifest
    assert {(graph.target, graph.compute_type) for graph in manifest.graphs} == {(device, computed)}
    assert [graph.kv_type for graph in manifest.graphs] == kept
    assert manifest.quantization.weights == weights


@pytest.mark.parametrize("weights", ["fp16", "bf16"])
def test_cuda_bundle_is_refused_on_a_cpu(make_checkpoint: MakeCheckpoint, weights: str) -> None:
    bundle = export(make_checkpoint(), weights=weights, target="cuda")
    with pytest.raises(OptionInvalid, match=r"was exported for cuda, cannot run on cpu\. Export with --target cpu"):
        RubricModel.open(bundle.path, device="cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "int3"}, "weights must be one of fp32, fp16, bf16, int8, int4, fp8, got 'int3'"),
        ({"target": "tpu"}, "target must be one of cpu, cuda, tensorrt, got 'tpu'"),
    ],
)
def test_unknown_option(options: dict[str, str], words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        OnnxExport("checkpoint", Path("bundle"), **options)  # type: ignore[arg-type]


# --- plans, progress and refusals


def test_plan_is_the_manifest_without_files(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    plan = plan_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle"))
    assert [p.name for p in checkpoint.parent.iterdir()] == ["checkpoint"]
    manifest = export(checkpoint).manifest
    assert plan.is_small
    assert plan.weight_bytes == 2 * manifest.model.num_parameters
    without_files = dataclasses.replace(
        manifest,
        files={},
        prompts=plan.manifest.prompts,
        provenance=dataclasses.replace(manifest.provenance, source=plan.manifest.provenance.source),
    )
    assert plan.manifest == without_files


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_progress_counts_the_weights(make_checkpoint: MakeCheckpoint, architecture: str, weights: str) -> None:
    checkpoint = make_checkpoint(architecture)
    calls: list[tuple[str, int, int]] = []
    job = OnnxExport(str(checkpoint), checkpoint.parent / "bundle", weights=weights)
    export_onnx(job, lambda *call: calls.append(call))
    total = plan_onnx(dataclasses.replace(job, force=True)).weight_bytes
    done = [done for _, done, _ in calls]
    assert {(stage, total) for stage, _, total in calls} == {("Writing weights", total)}
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)
    assert 0.8 * total < sorted(set(done))[-2] < total


def test_tokenizer_larger_than_the_vocabulary(make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(CheckpointInvalid, match=r"tokenizer\.json: has 261 ids, vocab_size in config\.json is 260"):
        export(make_checkpoint(vocab_size=260))


def test_tokenizer_as_large_as_the_vocabulary(make_checkpoint: MakeCheckpoint) -> None:
    assert export(make_checkpoint(vocab_size=261)).manifest.model.vocab_size == 261


def test_template_longer_than_the_context(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint(max_position_embeddings=100)
    with pytest.raises(PromptTemplateInvalid, match=r"README\.md: \d+ tokens stand before .prompt., .* holds 100"):
        plan_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle"))


def test_new_tokens_do_not_exceed_the_context(make_checkpoint: MakeCheckpoint) -> None:
    assert export(make_checkpoint(max_position_embeddings=512)).manifest.generation.max_new_tokens == 512


@pytest.mark.parametrize("file", ["README.md", "tokenizer_config.json"])
def test_missing_template_says_what_to_pass(make_checkpoint: MakeCheckpoint, file: str) -> None:
    checkpoint = make_checkpoint()
    (checkpoint / file).unlink()
    with pytest.raises(PromptTemplateInvalid, match="Pass .*: --(prompt|chat)-template FILE"):
        export(checkpoint)


def test_weights_replaced_while_exporting(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    other = make_checkpoint(name="other", hidden_size=64)

    def swap(_: str, done: int, total: int) -> None:
        if 0 < done < total / 2:
            (checkpoint / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())

    with pytest.raises(CheckpointInvalid, match="was changed while it was in use"):
        export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle"), swap)
    assert not (tmp_path / "bundle").exists()


def test_number_that_is_not_finite_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.norm.weight"][0] = np.nan

    with pytest.raises(CheckpointInvalid, match=r'"model\.norm\.weight" holds 1 NaN of 48 weights'):
        export(make_checkpoint(change=damage))


def test_a_model_that_computes_no_numbers_is_not_exported(make_checkpoint: MakeCheckpoint) -> None:
    """Its weights are finite; what it computes of them is not."""

    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.norm.weight"].fill(3e38)

    checkpoint = make_checkpoint(dtype="F32", change=damage)
    with pytest.raises(OutputInvalid, match="logits are not finite") as caught:
        export(checkpoint)
    assert ".writing" not in str(caught.value)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]


def test_graph_that_the_checker_refuses(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint()
    monkeypatch.setattr("rubricrm_export.graph.decoder.IR_VERSION", 99)
    with pytest.raises(ExportFailed, match="does not pass the ONNX checker"):
        export(checkpoint)
    assert not (checkpoint.parent / "bundle").exists()


@pytest.mark.parametrize("damage", ["empty", "{", "[]", "null", "no text", "half"])
@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
)
def test_damaged_file_is_an_error_of_the_vocabulary(make_checkpoint: MakeCheckpoint, file: str, damage: str) -> None:
    checkpoint = make_checkpoint()
    data = (checkpoint / file).read_bytes()
    damaged = {"empty": b"", "no text": b"\xff\xfe", "half": data[: len(data) // 2]}.get(damage, damage.encode())
    (checkpoint / file).write_bytes(damaged)
    with pytest.raises(RubricrmError) as caught:
        export(checkpoint)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in checkpoint.parent.iterdir()] == ["checkpoint"]


# --- memory

MEASURED = """
import sys, threading, time
from pathlib import Path
import psutil
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
import onnxruntime, rubricrm.runtime.tokenizer

process, peak, done = psutil.Process(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)
start = process.memory_info().rss
thread = threading.Thread(target=watch)
thread.start()
export_onnx(OnnxExport(sys.argv[1], Path(sys.argv[2]), weights=sys.argv[3]))
done = True
thread.join()
print((peak - start) >> 20)
"""


@pytest.mark.parametrize("weights", ["bf16", "fp16", "fp32"])
def test_memory_is_a_few_blocks(large_checkpoint: Path, tmp_path: Path, weights: str) -> None:
    command = [sys.executable, "-c", MEASURED, str(large_checkpoint), str(tmp_path / "bundle"), weights]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(finished.stdout) < 60
