"""The verdict on a loss: in words, beside what others lost; the default limits, and how they are overruled."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.errors import QualityTooLow
from rubricrm_export.measure.verdict import LIMITS, USUAL_KL, DefaultLimit, default_limit, limits_of, verdict
from rubricrm_export.onnx_bundle.export import OnnxExport
from rubricrm_export.quantize.combinations import COMBINATIONS, READER
from rubricrm_export.quantize.scheme import Scheme

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Export = Callable[..., Bundle]

INT4 = "INT4 block 128, GPTQ, head INT4"


def schemes() -> list[Scheme]:
    found = [Scheme.of("cpu", "bf16", kv="int8"), Scheme.of("cuda", "bf16", kv="fp8")]
    for row in COMBINATIONS:
        if row.target != READER:
            for size, method in product(row.block_sizes, row.methods):
                chosen = {"weights": row.weights, "activations": row.activations, "block_size": size, "method": method}
                found.append(Scheme.of(row.target, "bf16", **chosen))
    return found


# --- the tables


def test_every_scheme_has_a_limit_and_every_limit_a_scheme() -> None:
    assert {id(default_limit(scheme)) for scheme in schemes()} == {id(limit) for limit in LIMITS.values()}
    assert all(0 < limit.max_kl < 1 and len(limit.reason) > 40 for limit in LIMITS.values())


# --- in words


@pytest.mark.parametrize(
    ("kl", "words"),
    [(0.13, "usual for"), (0.001, "less than usual for"), (0.7, "more than usual for")],
)
def test_loss_beside_others(kl: float, words: str) -> None:
    scheme = Scheme.of("cpu", "bf16", weights="int4", method="gptq")
    low, high = USUAL_KL[INT4]
    assert verdict(scheme, {"kl": kl, "top1_agreement": 0.842}) == (
        f"lost {kl:g} nats per token, top-1 agreement 84 %: {words} {INT4} ({low:g} on the demo model, {high:g} on "
        "SmolLM2-135M)"
    )


def test_recipe_that_nobody_measured() -> None:
    scheme = Scheme.of("cpu", "bf16", weights="int8", head_block_size="64")
    found = verdict(scheme, {"kl": 0.0123, "top1_agreement": 0.9})
    assert found.endswith(": no other model was measured by INT8 block 32, round to nearest, head INT8 block 64")


def test_limits_that_are_asked_for() -> None:
    scheme = Scheme.of("cpu", "bf16", weights="int4")
    calibrated = Scheme.of("cpu", "bf16", weights="int4", method="gptq")
    default = limits_of(scheme, None, None, "b.resume")
    assert (default.max_kl, default.min_top1) == (LIMITS["int4", "none"].max_kl, None)
    assert LIMITS["int4", "none"].reason in default.reason
    asked = limits_of(scheme, 0.5, 0.9, "b.resume")
    assert (asked.max_kl, asked.min_top1, asked.reason) == (0.5, 0.9, "")
    assert limits_of(scheme, "none", None, "b.resume").max_kl is None
    assert "resume" not in default.remedy
    assert "b.resume keeps the calibration" in limits_of(calibrated, None, None, "b.resume").remedy


@pytest.mark.parametrize("max_kl", [-0.1, float("nan"), float("inf")])
def test_limit_out_of_range(max_kl: float, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="--max-kl must be a finite number"):
        OnnxExport("checkpoint", tmp_path / "bundle", max_kl=max_kl)


# --- by the command


@pytest.fixture
def command(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Callable[..., Any]:
    """Run `rubricrm export onnx` on a tiny checkpoint, calibrated and measured on a short text."""
    checkpoint = make_checkpoint(num_hidden_layers=1)
    text = tmp_path / "text.txt"
    text.write_text("The response is short, and rhymes. " * 20)

    def run(*words: str) -> Any:
        common = ["onnx", str(checkpoint), "-o", str(tmp_path / "bundle"), "--eval-text", str(text), "--no-rubrics"]
        return CliRunner().invoke(cli, ["export", *common, "--calibration", str(text), *words])

    return run


@pytest.mark.parametrize("is_json", [True, False])
def test_export_ends_with_a_verdict(command: Callable[..., Any], is_json: bool) -> None:
    result = command("--weights", "int4", *(["--json"] if is_json else []))
    assert result.exit_code == 0, result.output
    if is_json:
        report = json.loads(result.stdout)
        scheme = Scheme.of("cpu", "bf16", weights="int4")
        assert report["verdict"] == verdict(scheme, report["quality"])
    else:
        assert "verdict               lost 0." in result.stdout
        assert "nats per token, top-1 agreement" in result.stdout


def test_float_export_has_no_verdict(command: Callable[..., Any]) -> None:
    report = json.loads(command("--weights", "fp16", "--json").stdout)
    assert "verdict" not in report


@pytest.mark.parametrize("method", ["rtn", "gptq"])
def test_default_limit_refuses_and_is_overruled(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setitem(LIMITS, ("int4", "none"), DefaultLimit(1e-6, "a test wants it so"))  # type: ignore[misc]
    words = ("--weights", "int4", "--method", method)
    refused = command(*words)
    assert refused.exit_code == QualityTooLow.exit_code
    message = refused.stderr
    assert QualityTooLow.code in message
    assert f"{tmp_path / 'bundle'}: KL is 0." in message
    assert ".writing" not in message
    assert "expected at most 1e-06 (the default for INT4 block 128" in message
    assert "a test wants it so" in message
    assert "or pass --max-kl none to take it as it is" in message
    left = {path.name for path in tmp_path.iterdir()} - {"checkpoint", "text.txt"}
    if method == "rtn":
        assert left == set()
        assert "--resume" not in message
        assert command(*words, "--max-kl", "none").exit_code == 0
        return
    assert left == {"bundle.resume"}
    assert f"{tmp_path / 'bundle.resume'} keeps the calibration, and --resume goes on from it" in message

    def no_calibration(*_: Any) -> Any:
        raise AssertionError("a layer was calibrated again")

    monkeypatch.setattr("rubricrm_export.calibrate.calibrated_weights._LayerCalibration.run", no_calibration)
    overruled = command(*words, "--resume", "--max-kl", "none", "--json")
    assert overruled.exit_code == 0, overruled.exception
    assert json.loads(overruled.stdout)["quality"]["kl"] > 1e-6
    assert not (tmp_path / "bundle.resume").exists()
    assert "--max-kl none" in Bundle.open(tmp_path / "bundle").manifest.provenance.command


def test_limit_that_is_no_number(command: Callable[..., Any]) -> None:
    result = command("--weights", "int4", "--max-kl", "much")
    assert result.exit_code == 2
    assert "'much' is not a valid float" in result.output


def test_a_tensorrt_graph_has_the_limit_of_what_was_measured(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    bundle = export(make_checkpoint(), weights="int8", activations="int8", target="tensorrt")
    assert bundle.manifest.quality is not None
    scheme = Scheme.of("tensorrt", "bf16", weights="int8", activations="int8")
    assert default_limit(scheme) is LIMITS["int8", "one scale"]
    assert np.isfinite(bundle.manifest.quality["kl"])
