"""`rubricrm export onnx` as a user sees it: text, JSON, one line for each error, exit codes, nothing left behind."""

import json
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.runtime import published_directory
from rubricrm.runtime.bundle import Bundle
from safetensors.numpy import load_file, save_file

MakeCheckpoint = Callable[..., Path]

COMMAND = [sys.executable, "-c", "from rubricrm.cli import main; main()", "export", "onnx"]
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 8044982000\n"


def run(checkpoint: Path | str, target: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["export", "onnx", str(checkpoint), "-o", str(target), *options])


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def assert_refused(result: Result, exit_code: int, *words: str) -> None:
    """One line that begins with Error and the error's code, and no traceback."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


# --- what it prints


def test_text(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    result = run(make_checkpoint(), tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    bundle = Bundle.open(tmp_path / "bundle", verify=True)
    assert rows == {
        "bundle": str(tmp_path / "bundle"),
        "num_bytes": str(bundle.num_bytes),
        "manifest_sha256": bundle.manifest_sha256,
        "model": "checkpoint",
        "weights": "bf16",
        "target": "cpu",
        "license": "apache-2.0",
    }


def test_undeclared_license_is_said(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    card = checkpoint / "README.md"
    card.write_text(card.read_text().replace("license: apache-2.0", "tags: []"))
    assert json.loads(run(checkpoint, tmp_path / "json", "--json").stdout)["license"] is None
    rows = dict(line.split(maxsplit=1) for line in run(checkpoint, tmp_path / "text").stdout.splitlines())
    assert rows["license"] == "not declared"


def test_json(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    options = ("--weights", "fp16", "--target", "cuda", "--json")
    report = json.loads(run(make_checkpoint(), tmp_path / "bundle", *options).stdout)
    bundle = Bundle.open(tmp_path / "bundle")
    assert report == {
        "bundle": str(tmp_path / "bundle"),
        "num_bytes": bundle.num_bytes,
        "manifest_sha256": bundle.manifest_sha256,
        "model": "checkpoint",
        "weights": "fp16",
        "target": "cuda",
        "license": "apache-2.0",
        "warnings": [],
    }


def set_template(checkpoint: Path, template: str) -> None:
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))


ALWAYS_THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--weights", "int4", "--no-rubrics")], ids=" ".join)
def test_warnings_are_printed_once_and_in_the_report(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, options: tuple[str, ...]
) -> None:
    checkpoint = make_checkpoint()
    set_template(checkpoint, ALWAYS_THINKS)
    (checkpoint / "adapter_config.json").write_text("{}")
    result = run(checkpoint, tmp_path / "bundle", *options, "--json")
    assert result.exit_code == 0, result.output
    adapter, thought = json.loads(result.stdout)["warnings"]
    assert "an adapter (adapter_config.json) lies beside whole weights" in adapter
    assert "starts inside a thought" in thought
    assert [line for line in result.stderr.splitlines() if line.startswith("warning: ")] == [
        f"warning: {adapter}",
        f"warning: {thought}",
    ]
    if "--dry-run" not in options:
        assert Bundle.open(tmp_path / "bundle").manifest.chat.starts_in_thought
    text = run(checkpoint, tmp_path / "text", *options).stdout
    assert f"warning               {thought}" in text.splitlines()


def test_token_that_ends_a_turn_is_a_stop_id(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    set_template(checkpoint, ALWAYS_THINKS.replace("<think>\n", ""))
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        config = json.loads((checkpoint / name).read_text())
        eos = {"eos_token": "<|endoftext|>"} if name == "tokenizer_config.json" else {"eos_token_id": 0}
        (checkpoint / name).write_text(json.dumps(config | eos))
    report = json.loads(run(checkpoint, tmp_path / "bundle", "--dry-run", "--json").stdout)
    assert report["stop_ids"] == [0, 2]


def test_dry_run(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    result = run(make_checkpoint(), tmp_path / "new" / "bundle", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    manifest = report.copy()
    assert report.pop("num_parameters") * 2 == report.pop("weight_bytes")
    assert report.pop("prefix_tokens") > 100
    assert report == {
        "dry_run": True,
        "model": "checkpoint",
        "architecture": "Qwen3ForCausalLM",
        "license": "apache-2.0",
        "weights": "bf16",
        "target": "cpu",
        "template_source": "README.md",
        "stop_ids": [0, 2],
        "warnings": [],
    }
    assert names(tmp_path) == ["checkpoint"]
    text = run(tmp_path / "checkpoint", tmp_path / "bundle", "--dry-run").stdout
    assert [line.split()[0] for line in text.splitlines()] == [*manifest][:-1]
    assert names(tmp_path) == ["checkpoint"]


def test_options_reach_the_bundle(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Rubric: {prompt}")
    (tmp_path / "chat.jinja").write_text("{{ messages[-1].content }}{% if add_generation_prompt %}>{% endif %}")
    options = ("--prompt-template", str(tmp_path / "prompt.txt"), "--chat-template", str(tmp_path / "chat.jinja"))
    assert run(make_checkpoint(), tmp_path / "bundle", *options).exit_code == 0
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert (manifest.prompt.template, manifest.chat.generation) == ("Rubric: {prompt}", ">")


def test_force_replaces(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint, target = make_checkpoint(), tmp_path / "bundle"
    assert run(checkpoint, target).exit_code == 0
    assert_refused(run(checkpoint, target), 2, "OUTPUT_EXISTS", "Pass --force")
    assert run(checkpoint, target, "--force", "--weights", "fp32").exit_code == 0
    assert Bundle.open(target).manifest.quantization.weights == "fp32"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weights", "int2"], "'int2' is not one of 'fp32', 'fp16', 'bf16'"),
        (["--target", "tpu"], "'tpu' is not one of 'cpu', 'cuda'"),
        (["--unknown"], "No such option"),
    ],
)
def test_usage(make_checkpoint: MakeCheckpoint, tmp_path: Path, options: list[str], words: str) -> None:
    result = run(make_checkpoint(), tmp_path / "bundle", *options)
    assert result.exit_code == 2
    assert words in result.stderr


def test_output_is_required(make_checkpoint: MakeCheckpoint) -> None:
    result = CliRunner().invoke(cli, ["export", "onnx", str(make_checkpoint())])
    assert result.exit_code == 2
    assert "Missing option '-o'" in result.stderr


# --- bad checkpoints


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lie_about_the_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 10**9) + path.read_bytes()[8:])


def reshape(path: Path) -> None:
    tensors = load_file(path)
    tensors["model.layers.0.self_attn.k_proj.weight"] = np.zeros((32, 48), tensors["model.norm.weight"].dtype)
    save_file(tensors, path)


def set_key(key: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {key: value}))

    return change


def in_weights(change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda path: change(path / "model.safetensors")


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def make_foreign(path: Path) -> None:
    empty(path)
    (path / "notes.txt").write_text("mine")


def remove(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def replace(name: str, text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(shutil.rmtree, ["CHECKPOINT_INVALID", "no such directory"], id="missing directory"),
        pytest.param(empty, ["CHECKPOINT_INVALID", "directory is empty"], id="empty directory"),
        pytest.param(make_foreign, ["CHECKPOINT_INVALID", "no config.json", "notes.txt"], id="foreign directory"),
        pytest.param(
            set_key("architectures", ["GPT2LMHeadModel"]),
            ["CHECKPOINT_UNSUPPORTED", "GPT2LMHeadModel", "Qwen3ForCausalLM"],
            id="another architecture",
        ),
        pytest.param(remove("model.safetensors"), ["CHECKPOINT_INVALID", "no weights"], id="no weights"),
        pytest.param(in_weights(truncate), ["CHECKPOINT_INVALID", "cut off or damaged"], id="truncated"),
        pytest.param(
            in_weights(lie_about_the_header),
            ["CHECKPOINT_INVALID", "header claims 1000000000 bytes"],
            id="header longer than the file",
        ),
        pytest.param(
            replace("model.safetensors", LFS_POINTER), ["Git LFS pointer", "git lfs pull"], id="Git LFS pointer"
        ),
        pytest.param(replace("tokenizer.json", LFS_POINTER), ["tokenizer.json", "Git LFS pointer"], id="LFS tokenizer"),
        pytest.param(
            in_weights(reshape),
            ["k_proj.weight", "[32, 48]", "[64, 48]", "num_key_value_heads * head_dim"],
            id="wrong shape",
        ),
        pytest.param(
            set_key("tie_word_embeddings", False),
            ["untied head is missing", "lm_head.weight"],
            id="untied head missing",
        ),
        pytest.param(
            set_key("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
            ["CHECKPOINT_UNSUPPORTED", "rope_scaling"],
            id="rope scaling",
        ),
        pytest.param(
            lambda path: (set_key("use_sliding_window", True)(path), set_key("sliding_window", 4096)(path)),
            ["CHECKPOINT_UNSUPPORTED", "sliding_window"],
            id="sliding window",
        ),
        pytest.param(set_key("head_dim", 24), ["CHECKPOINT_UNSUPPORTED", "head_dim", "24", "16"], id="head_dim"),
        pytest.param(remove("tokenizer.json"), ["CHECKPOINT_INVALID", "tokenizer.json"], id="no tokenizer"),
        pytest.param(remove("README.md"), ["PROMPT_TEMPLATE_INVALID", "--prompt-template FILE"], id="no card"),
        pytest.param(
            remove("tokenizer_config.json"), ["PROMPT_TEMPLATE_INVALID", "--chat-template FILE"], id="no chat template"
        ),
        pytest.param(set_key("eos_token_id", 999), ["CHECKPOINT_INVALID", "eos_token_id", "999"], id="end id"),
        pytest.param(
            replace("tokenizer.json", "{}"), ["tokenizer.json", "pre_tokenizer"], id="tokenizer of another kind"
        ),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["export", "dry run"])
def test_bad_checkpoint(
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    damage: Callable[[Path], object],
    words: list[str],
    options: list[str],
) -> None:
    checkpoint = make_checkpoint()
    damage(checkpoint)
    before = names(tmp_path)
    assert_refused(run(checkpoint, tmp_path / "bundle", *options), 2, *words)
    assert names(tmp_path) == before


def test_missing_shard(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(shards=3)
    (checkpoint / "model-00002-of-00003.safetensors").unlink()
    assert_refused(run(checkpoint, tmp_path / "bundle"), 2, "model-00002-of-00003.safetensors", "shard is missing")


def test_name_that_is_none(tmp_path: Path) -> None:
    assert_refused(run("no/such/model", tmp_path / "bundle"), 2, "CHECKPOINT_INVALID", "no such directory")


def test_revision_of_a_directory(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    result = run(make_checkpoint(), tmp_path / "bundle", "--revision", "main")
    assert_refused(result, 2, "OPTION_INVALID", "revision")


@pytest.mark.parametrize("option", ["--prompt-template", "--chat-template"])
def test_template_file_that_is_not_there(make_checkpoint: MakeCheckpoint, tmp_path: Path, option: str) -> None:
    result = run(make_checkpoint(), tmp_path / "bundle", option, str(tmp_path / "gone.txt"))
    assert_refused(result, 2, "PROMPT_TEMPLATE_INVALID", "gone.txt")


def test_number_beyond_fp16(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(dtype="F32", change=lambda t: t["model.norm.weight"].fill(1e6))
    result = run(checkpoint, tmp_path / "bundle", "--weights", "fp16", "--target", "cuda")
    assert_refused(result, 2, "CHECKPOINT_UNSUPPORTED", "model.norm.weight: holds 1e+06")
    assert names(tmp_path) == ["checkpoint"]


# --- work that fails


def test_full_disk(make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_directory, "_SPARE_BYTES", 1 << 60)
    result = run(make_checkpoint(), tmp_path / "bundle")
    assert_refused(result, 1, "WRITE_FAILED", "GB free", "Free some space")
    assert names(tmp_path) == ["checkpoint"]


def test_disk_that_fills_up(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    # A limit of the process in place of a full disk: the write fails in the same call.
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n" + COMMAND[2]
    )
    command = [sys.executable, "-c", script, "export", "onnx", str(make_checkpoint()), "-o", str(tmp_path / "bundle")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 1, finished.stderr
    assert finished.stderr.startswith("Error: WRITE_FAILED: ")
    assert len(finished.stderr.splitlines()) == 1
    assert names(tmp_path) == ["checkpoint"]


def test_target_below_a_file(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = run(make_checkpoint(), tmp_path / "file" / "bundle")
    assert_refused(result, 1, "WRITE_FAILED", "cannot be written")


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_ctrl_c(make_checkpoint: MakeCheckpoint, bundle_copy: Path, replacing: bool) -> None:
    checkpoint = make_checkpoint()
    if not replacing:
        shutil.rmtree(bundle_copy)
    script = (
        "import signal\n"
        # A shell's background job, and all that it starts, ignores Ctrl-C: these tests may be one.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from rubricrm_export.graph.streamed_tensor import StreamedTensor\n"
        "def wait(*_):\n"
        "    print('here', flush=True)\n"
        "    signal.pause()\n"
        "StreamedTensor.tofile = wait\n" + COMMAND[2]
    )
    command = [sys.executable, "-c", script, *COMMAND[3:], str(checkpoint), "-o", str(bundle_copy), "--force"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (130, "Interrupted.\n")
    assert names(bundle_copy.parent) == (["bundle", "checkpoint"] if replacing else ["checkpoint"])
    if replacing:
        Bundle.open(bundle_copy, verify=True)


# --- what it needs


@pytest.mark.parametrize("module", ["onnx_ir", "onnx", "ml_dtypes", "jinja2", "onnxruntime"])
def test_missing_extra_is_named(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, block: Callable[[str], str], module: str
) -> None:
    script = block(module) + COMMAND[2]
    command = [sys.executable, "-c", script, *COMMAND[3:], str(make_checkpoint()), "-o", str(tmp_path / "bundle")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 1, finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert module in finished.stderr
    assert "[cpu" in finished.stderr.partition("pip install ")[2]
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize(
    "arguments", [["export", "--help"], ["export", "onnx", "--help"], ["eval", "--help"], ["--help"]]
)
def test_help_needs_no_extra(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom rubricrm.cli import cli\n"
        f"try:\n    cli({arguments!r}, prog_name='rubricrm')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'ml_dtypes', 'jinja2', 'tokenizers', 'torch', 'rich'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"Usage: {' '.join(['rubricrm', *arguments[:-1]])}" in finished.stdout
    assert finished.stdout.endswith("LOADED []\n")


def test_help_names_every_option() -> None:
    text = CliRunner().invoke(cli, ["export", "onnx", "--help"]).output
    for option in (
        *("--output", "--weights", "--target", "--prompt-template", "--chat-template", "--revision", "--force"),
        *("--dry-run", "--json"),
    ):
        assert option in text
