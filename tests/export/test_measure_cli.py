"""`rubricrm eval` as a user sees it: table, JSON, one line for each error, exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.runtime.bundle import Bundle, describe_file
from rubricrm.runtime.byte_size import byte_text
from rubricrm_export.measure.evaluation import EvaluationJob, evaluate
from rubricrm_export.measure.rubric_agreement import RubricAgreement
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

MakeCheckpoint = Callable[..., Path]

KEYS = [
    *("bundle", "reference", "text", "num_tokens", "kl", "kl_stderr", "top1_agreement", "perplexity"),
    *("reference_perplexity", "rubric_agreement", "rubrics"),
]


def run(bundle: Path, reference: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["eval", str(bundle), "--reference", str(reference), *options])


def report_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def assert_refused(result: Result, exit_code: int, *words: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    for word in words:
        assert word in result.stderr


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("A good answer is short, and it says what it knows. " * 25)
    return path


@pytest.fixture
def disturbed(make_checkpoint: MakeCheckpoint) -> Path:
    """A bundle of the tiny model whose second layer lost something."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        for name in ("self_attn.v_proj", "mlp.down_proj"):
            tensor = tensors[f"model.layers.1.{name}.weight"]
            tensor += (0.1 * rng.standard_normal(tensor.shape)).astype(tensor.dtype)

    checkpoint = make_checkpoint(name="disturbed", change=change)
    return export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "disturbed-bundle")).path


# --- what it prints


def test_json(tiny_bundle: Path, disturbed: Path, text: Path) -> None:
    report = report_of(run(disturbed, tiny_bundle, "--text", str(text), "--no-rubrics", "--json"))
    assert list(report) == KEYS
    bundle = Bundle.open(disturbed)
    assert report["bundle"] == {
        "path": str(disturbed),
        "name": "disturbed",
        "manifest_sha256": bundle.manifest_sha256,
        "num_bytes": bundle.num_bytes,
        "weights": "bf16",
        "activations": "none",
        "kv_cache": "float16",
        "method": "none",
    }
    assert report["reference"]["path"] == str(tiny_bundle)
    assert (report["text"], report["num_tokens"]) == ("text.txt", 1024)
    assert 0.001 < report["kl"] < 1
    assert 0 < report["kl_stderr"] < report["kl"]
    assert 0 < report["top1_agreement"] < 1
    assert report["perplexity"] != report["reference_perplexity"]
    assert (report["rubric_agreement"], report["rubrics"]) == (None, None)


def test_the_same_bundle_twice_on_built_in_text(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm_export.measure.evaluation.MAX_TOKENS", 1000)
    monkeypatch.setattr("rubricrm_export.measure.evaluation.NUM_REQUESTS", 2)
    monkeypatch.setattr("rubricrm_export.measure.rubric_agreement._MAX_NEW_TOKENS", 8)
    report = report_of(run(tiny_bundle, tiny_bundle, "--json", "--per-layer", "--max-kl", "0", "--min-top1", "1"))
    assert list(report) == [*KEYS, "layers", "worst_layers"]
    assert (report["text"], report["kl"], report["top1_agreement"]) == ("held-out", 0, 1)
    assert report["layers"] == [{"layer": layer, "error": 0, "added": 0} for layer in range(2)]
    assert report["worst_layers"] == []
    assert (report["rubrics"]["num_requests"], report["rubrics"]["identical"]) == (2, 1)
    assert set(report["rubrics"]) == {
        *("num_requests", "identical", "reference_criteria", "candidate_criteria", "common_criteria", "kinds_flipped")
    }


def test_table(tiny_bundle: Path, disturbed: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreement = RubricAgreement(8, 0.25, 70, 74, 54, 3)
    monkeypatch.setattr("rubricrm_export.measure.evaluation._rubrics", lambda *_: agreement)
    result = run(disturbed, tiny_bundle, "--text", str(text), "--per-layer")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    rows = {line[:10].rstrip(): line[11:] for line in lines[:7]}
    assert list(rows) == ["bundle", "reference", "text", "KL", "top-1", "perplexity", "rubrics"]
    size = byte_text(Bundle.open(disturbed).num_bytes)
    assert rows["bundle"] == f"{disturbed} (weights bf16, KV cache float16, {size})"
    assert rows["text"] == "text.txt, 1,024 tokens"
    report = report_of(run(disturbed, tiny_bundle, "--text", str(text), "--json"))
    assert rows["KL"] == f"{report['kl']:.4g} +- {report['kl_stderr']:.2g} nats per token"
    assert rows["top-1"] == f"{100 * report['top1_agreement']:.2f} % of tokens the same"
    assert rows["rubrics"] == ("75.0 % of criteria the same, 3 of 54 with another kind; 25 % of 8 rubrics identical")
    assert lines[7:9] == ["", "layer   error  added"]
    assert [line.split()[0] for line in lines[9:11]] == ["0", "1"]
    assert len({len(line) for line in lines[8:11]}) == 1
    assert lines[11:] == ["worst layers: 1"]


@pytest.mark.parametrize(
    ("agreement", "words"),
    [
        (None, "not compared: no built-in request fits the context"),
        (RubricAgreement(8, 1.0, 0, 0, 0, 0), "not compared: neither model wrote a criterion for 8 requests"),
    ],
)
def test_rubrics_that_cannot_be_compared(
    tiny_bundle: Path, text: Path, monkeypatch: pytest.MonkeyPatch, agreement: RubricAgreement | None, words: str
) -> None:
    monkeypatch.setattr("rubricrm_export.measure.evaluation._rubrics", lambda *_: agreement)
    assert f"rubrics    {words}\n" in run(tiny_bundle, tiny_bundle, "--text", str(text)).stdout


def test_checkpoint_as_reference(make_checkpoint: MakeCheckpoint, tmp_path: Path, text: Path) -> None:
    checkpoint = make_checkpoint()
    bundle = export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle", kv="model")).path
    options = ("--text", str(text), "--per-layer", "--max-kl", "1e-9")
    report = report_of(run(bundle, checkpoint, *options, "--json"))
    expected = {"path": str(checkpoint), "name": "checkpoint", "weights": "checkpoint", "computed": "float32"}
    assert report["reference"] == expected
    assert (report["top1_agreement"], report["rubric_agreement"]) == (1, None)
    assert all(layer["error"] < 1e-5 for layer in report["layers"])
    table = run(bundle, checkpoint, *options).stdout
    assert f"reference  {checkpoint} (checkpoint, in float32)\n" in table
    assert "rubrics    not compared: the reference is a checkpoint; a bundle of it can write rubrics\n" in table


def test_other_prompts_write_no_comparable_rubrics(
    make_checkpoint: MakeCheckpoint, tiny_bundle: Path, tmp_path: Path, text: Path
) -> None:
    (tmp_path / "prompt.txt").write_text("Rubric: {prompt}")
    job = OnnxExport(str(make_checkpoint()), tmp_path / "bundle", prompt_template=tmp_path / "prompt.txt")
    table = run(export_onnx(job).path, tiny_bundle, "--text", str(text)).stdout
    assert "KL         0 +- 0 nats per token\n" in table
    assert "rubrics    not compared: the two have different prompts\n" in table


# --- limits


def test_a_bundle_beyond_the_limits(tiny_bundle: Path, disturbed: Path, text: Path) -> None:
    options = ("--text", str(text), "--no-rubrics", "--json", "--max-kl", "0.0001", "--min-top1", "0.9999")
    result = run(disturbed, tiny_bundle, *options)
    words = ["QUALITY_TOO_LOW", str(disturbed), "expected at most 0.0001", "expected at least 0.9999"]
    assert_refused(result, 1, *words, "Layers that lose most: 1.")
    assert list(json.loads(result.stdout)) == KEYS  # the figures are shown all the same


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-kl", "nan"), "--max-kl must be a finite number >= 0, in nats per token, got nan"),
        (("--max-kl", "-1"), "--max-kl must be a finite number"),
        (("--min-top1", "95"), "--min-top1 must be a share from 0 to 1, got 95.0"),
        (("--threads", "0"), "threads must be an integer from 1"),
    ],
)
def test_options_out_of_range(tiny_bundle: Path, text: Path, options: tuple[str, ...], words: str) -> None:
    result = run(tiny_bundle, tiny_bundle, "--text", str(text), *options)
    assert_refused(result, 2, "OPTION_INVALID", words)
    assert result.stdout == ""


# --- input that is wrong


def test_other_tokenizers(tiny_bundle: Path, make_checkpoint: MakeCheckpoint, text: Path) -> None:
    checkpoint = make_checkpoint()
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    other = export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "other")).path
    digest = describe_file(checkpoint / "tokenizer.json").sha256[:12]
    for reference in (other, checkpoint):
        result = run(tiny_bundle, reference, "--text", str(text))
        assert_refused(result, 2, f"{tiny_bundle} and {reference}: their tokenizers differ", digest)


def test_other_layers(tiny_bundle: Path, make_checkpoint: MakeCheckpoint, text: Path) -> None:
    checkpoint = make_checkpoint(num_hidden_layers=1)
    options = ("--text", str(text), "--no-rubrics")
    assert run(tiny_bundle, checkpoint, *options).exit_code == 0
    assert_refused(run(tiny_bundle, checkpoint, *options, "--per-layer"), 2, "OPTION_INVALID", "layer by layer")


@pytest.mark.parametrize("missing", ["bundle", "reference"])
def test_nothing_there(tiny_bundle: Path, tmp_path: Path, missing: str) -> None:
    gone = tmp_path / "gone"
    pair = (gone, tiny_bundle) if missing == "bundle" else (tiny_bundle, gone)
    assert_refused(run(*pair), 2, "BUNDLE_NOT_FOUND", str(gone), "no such directory")


def test_damaged_checkpoint(tiny_bundle: Path, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    (checkpoint / "model.safetensors").unlink()
    assert_refused(run(tiny_bundle, checkpoint), 2, "CHECKPOINT_INVALID", "no weights")


@pytest.mark.parametrize(
    ("contents", "words"), [(b"", "is empty"), (b"\xff\xfe", "not UTF-8"), (b"a", "holds 1 tokens"), (None, "read")]
)
def test_bad_text(tiny_bundle: Path, tmp_path: Path, contents: bytes | None, words: str) -> None:
    path = tmp_path / "text.txt"
    if contents is not None:
        path.write_bytes(contents)
    assert_refused(run(tiny_bundle, tiny_bundle, "--text", str(path)), 2, "OPTION_INVALID", "text.txt", words)


def test_weights_that_are_no_numbers(
    tiny_bundle: Path, bundle_copy: Path, poison: Callable[[Path, str], None], text: Path
) -> None:
    bundle = bundle_copy
    poison(bundle, "model.layers.1.mlp.down_proj.weight")
    assert_refused(run(bundle, tiny_bundle, "--text", str(text)), 1, "QUALITY_TOO_LOW", str(bundle), "not finite")


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--device", "tpu"), "'tpu' is not one of 'cpu', 'cuda'"), (("--unknown",), "No such option")],
)
def test_usage(tiny_bundle: Path, options: tuple[str, ...], words: str) -> None:
    result = run(tiny_bundle, tiny_bundle, *options)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_reference_is_needed(tiny_bundle: Path) -> None:
    result = CliRunner().invoke(cli, ["eval", str(tiny_bundle)])
    assert result.exit_code == 2
    assert "Missing option '--reference'" in result.stderr


def test_device_of_another_target(tiny_bundle: Path, text: Path) -> None:
    result = run(tiny_bundle, tiny_bundle, "--text", str(text), "--device", "cuda")
    assert result.exit_code in (1, 2)
    assert len(result.stderr.splitlines()) == 1


# --- what it needs


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_missing_extra_is_named(tiny_bundle: Path, text: Path, block: Callable[[str], str], module: str) -> None:
    arguments = ["eval", str(tiny_bundle), "--reference", str(tiny_bundle), "--text", str(text)]
    script = block(module) + "from rubricrm.cli import main\nmain()\n"
    command = [sys.executable, "-c", script, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 1, finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert module in finished.stderr
    assert "[cpu" in finished.stderr.partition("pip install ")[2]


def test_progress_names_its_stages(tiny_bundle: Path, text: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    job = EvaluationJob(tiny_bundle, tiny_bundle.parent / "checkpoint", text)
    evaluate(job, lambda *step: steps.append(step))
    assert [step for step in steps if step[0] == "Running the checkpoint"] == [
        ("Running the checkpoint", 1, 2),
        ("Running the checkpoint", 2, 2),
    ]
    assert steps[-1] == ("Comparing", 1024, 1024)
