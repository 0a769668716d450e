"""`rubricrm export tensorrt`: every pair is offered or refused by name, and errors come without a traceback."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm_export.tensorrt.devices import DEVICES
from rubricrm_export.tensorrt.linear import STORAGES
from rubricrm_export.tensorrt.option_values import HEADS, KV_CACHES, METHODS, READERS, WEIGHTS
from rubricrm_export.tensorrt.support import FORMATS, choose, describe_formats, supported

MakeCheckpoint = Callable[..., Path]


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["export", "tensorrt", *map(str, words)])


def assert_refused(result: Result, code: str, *words: str) -> None:
    assert result.exit_code == 2 if code == "OPTION_INVALID" else result.exit_code != 0
    assert "Traceback" not in result.output
    for word in (code, *words):
        assert word in result.output


@pytest.mark.parametrize("device", [None, *DEVICES])
@pytest.mark.parametrize("reader", READERS)
def test_every_combination_is_offered_or_refused_with_a_reason(reader: str, device: str | None) -> None:
    listed = {(row["weights"], row["kv"]) for row in supported((reader,)) if device is None or device in row["devices"]}
    for weights, kv, method, head in product(WEIGHTS, KV_CACHES, (None, *METHODS), (None, *HEADS)):
        options = {"kv": kv, "device": device, "method": method, "head": head}
        if (weights, kv) not in listed:
            with pytest.raises(OptionInvalid, match=f"--for {reader} cannot run .*\nIt can run:\n"):
                choose(reader, weights, **options)
            continue
        row = next(row for row in FORMATS if (row.reader, row.weights) == (reader, weights))
        if method not in (None, *row.methods) or head not in (None, *row.heads):
            with pytest.raises(OptionInvalid, match=f"cannot be used by --for {reader} --weights {weights}; "):
                choose(reader, weights, **options)
        else:
            assert choose(reader, weights, **options).format == row


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reader": "tensorrt-llm", "weights": "fp8", "kv": "int8"}, "only TensorRT-LLM 1.2 reads an INT8 KV cache"),
        ({"reader": "vllm", "weights": "int4"}, "does not read ModelOpt's W4A16_AWQ"),
        ({"reader": "vllm", "weights": "bf16", "kv": "fp8"}, "quantizes the KV cache alone"),
        ({"reader": "edge-llm", "weights": "int4", "kv": "fp8"}, "drops an FP8 KV cache beside INT4 weights"),
        ({"reader": "edge-llm", "weights": "bf16"}, "its graphs compute in FP16"),
        ({"reader": "edge-llm", "weights": "fp8", "device": "agx-orin"}, "agx-orin has no FP8 (compute capability 8.7"),
        ({"reader": "edge-llm", "weights": "fp16", "kv": "fp8", "device": "agx-orin"}, "agx-orin has no FP8"),
        ({"reader": "edge-llm", "weights": "fp8", "device": "h100"}, "ships no library for that GPU"),
        ({"reader": "tensorrt-llm", "weights": "int4", "device": "agx-orin"}, "use --for edge-llm there"),
        ({"reader": "tensorrt-llm", "weights": "fp8", "method": "gptq"}, "--method gptq cannot be used"),
        ({"reader": "tensorrt-llm-1.2", "weights": "int8", "method": "rtn"}, "the reader rounds them itself"),
        ({"reader": "tensorrt-llm", "weights": "fp8", "head": "fp8"}, "--head fp8 cannot be used"),
    ],
    ids=str,
)
def test_reasons(options: dict[str, str], reason: str) -> None:
    reader, weights = options.pop("reader"), options.pop("weights")
    with pytest.raises(OptionInvalid) as caught:
        choose(reader, weights, **options)
    assert reason in str(caught.value)


def test_every_form_has_its_factory() -> None:
    assert {row.form for row in FORMATS} == STORAGES.keys()


def test_every_reader_runs_on_some_device() -> None:
    assert {reader for device in DEVICES.values() for reader in device.readers} >= {*READERS}
    assert [name for name, device in DEVICES.items() if name != device.name] == []


def test_dry_run_checks_and_writes_nothing(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    words = (make_checkpoint(), "-o", tmp_path / "out", "--for", "vllm", "--weights", "fp8", "--kv", "fp8", "--dry-run")
    result = run(*words, "--json", "--device", "h100")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    facts = ("dry_run", "for", "weights", "algorithm", "kv", "method", "head", "device", "calibration")
    assert tuple(report[name] for name in facts) == (True, "vllm", "fp8", "FP8", "fp8", "rtn", "model", "h100", "self")
    assert "build.sh" not in run(*words).output
    assert not (tmp_path / "out").exists()
    assert_refused(run(*words, "--resume", "--kv", "model", "--weights", "bf16"), "OPTION_INVALID", "has none")
    assert_refused(run(*words, "--max-seq-len", 4096), "OPTION_INVALID", "the model's context holds 2048 tokens")
    (tmp_path / "out").mkdir()
    assert_refused(run(*words), "OUTPUT_EXISTS")


def test_int4_head_of_an_odd_vocabulary(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "vocab_size": 273}
    words = (make_checkpoint(**sizes), "-o", tmp_path / "out", "--for", "edge-llm", "--weights", "int4", "--dry-run")
    assert run(*words).exit_code == 0
    assert_refused(run(*words, "--head", "int4"), "OPTION_INVALID", "273 outputs", "pairs of outputs")


def test_list_is_the_table() -> None:
    assert run("--list").output == describe_formats() + "\n"
    rows = json.loads(run("--list", "--for", "edge-llm", "--json").output)
    assert {row["for"] for row in rows} == {"edge-llm"}
    assert "agx-orin" in next(row for row in rows if row["weights"] == "int4" and row["kv"] == "model")["devices"]


def test_export_and_check(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    result = run(make_checkpoint(), "-o", tmp_path / "out", "--for", "vllm", "--weights", "bf16", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["for"], report["weights"], report["algorithm"]) == ("vllm", "bf16", "floats")
    result = run(tmp_path / "out", "--check", "--for", "vllm")
    assert (result.exit_code, "no faults" in result.output) == (0, True)
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace('"head_dim": 32', '"head_dim": 12'))
    result = run(tmp_path / "out", "--check", "--for", "vllm", "--json")
    assert result.exit_code != 0
    assert [finding["rule"] for finding in json.loads(result.stdout)["findings"]] == ["head-dim"]
    assert_refused(run(tmp_path / "out", "--check", "--for", "vllm"), "CHECKPOINT_INVALID", "[head-dim]", "Set")


def test_text_report_names_the_next_step(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    result = run(make_checkpoint(), "-o", tmp_path / "out", "--for", "tensorrt-llm", "--weights", "fp16")
    assert f"{tmp_path / 'out'}/build.sh (not run on a GPU)" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "CHECKPOINT is missing"),
        (("x",), "-o is missing"),
        (("x", "-o", "y"), "--for is missing: one of tensorrt-llm"),
        (("x", "-o", "y", "--for", "vllm"), "--weights is missing: one of fp16"),
        (("--check",), "--check needs a directory, and --for READER"),
        (("x", "-o", "y", "--for", "vllm", "--weights", "int8"), "does not read ModelOpt's W8A16"),
    ],
)
def test_missing_options(words: tuple[str, ...], message: str) -> None:
    assert_refused(run(*words), "OPTION_INVALID", message)


def test_resume_without_a_calibration(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "out", "--for", "vllm", "--weights", "bf16", "--resume")
    assert_refused(run(make_checkpoint(), *words), "OPTION_INVALID", "this export has none")
