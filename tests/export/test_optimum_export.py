"""`rubricrm export onnx --exporter optimum` without optimum: options, and programs that are missing or fail.

What the real one writes is compared in tests/parity.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid, OutputExists
from rubricrm_export.errors import CheckpointInvalid, ExportFailed
from rubricrm_export.onnx_bundle.optimum import REQUIREMENTS, OptimumExport, export_optimum

MakeCheckpoint = Callable[..., Path]
Program = Callable[[str], Path]

INPUTS = ("input_ids", "attention_mask", "position_ids")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A function that makes an environment whose optimum-cli is a script; `target` is where it shall write."""

    def make(script: str) -> Path:
        folder = tmp_path / "environment" / "bin"
        folder.mkdir(parents=True)
        path = folder / "optimum-cli"
        path.write_text(f"#!{sys.executable}\nimport sys, pathlib\ntarget = pathlib.Path(sys.argv[-1])\n{script}\n")
        path.chmod(0o755)
        (folder / "python").write_text("#!/bin/sh\necho 0.1.0\n")
        (folder / "python").chmod(0o755)
        return folder.parent

    return make


def write_graph(path: Path, inputs: Sequence[str], heads: int | str = 2) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "new"]) for name in inputs]
    values += [
        helper.make_tensor_value_info(f"past_key_values.0.{half}", TensorProto.FLOAT, ["batch", heads, "past", 32])
        for half in ("key", "value")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "new", 272])
    node = helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "graph", values, [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_the_program_gets_the_checkpoint_and_the_task(make_checkpoint: MakeCheckpoint, program: Program) -> None:
    checkpoint = make_checkpoint()
    environment = program("print(*sys.argv[1:-1]); sys.exit(3)")
    with pytest.raises(ExportFailed, match="optimum-cli failed with exit code 3. It ended with:") as raised:
        export_optimum(OptimumExport(str(checkpoint), checkpoint.parent / "bundle", environment))
    words = f"export onnx --model {checkpoint} --task text-generation-with-past --dtype fp32"
    assert words in str(raised.value)
    assert names(checkpoint.parent) == ["checkpoint", "environment"]


def test_weight_that_is_not_finite_is_refused_before_the_program_runs(
    make_checkpoint: MakeCheckpoint, program: Program
) -> None:
    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.embed_tokens.weight"][270, 3] = np.inf  # a row that no token uses

    checkpoint = make_checkpoint(change=damage)
    environment = program("pathlib.Path(target.parents[1] / 'ran').touch(); sys.exit(3)")
    with pytest.raises(CheckpointInvalid, match=r'"model\.embed_tokens\.weight" holds 1 infinite .* at \[270, 3\]'):
        export_optimum(OptimumExport(str(checkpoint), checkpoint.parent / "bundle", environment))
    assert names(checkpoint.parent) == ["checkpoint", "environment"]


@pytest.mark.parametrize(
    ("inputs", "heads", "message"),
    [
        (None, 2, "optimum-cli ended well and wrote no model.onnx"),
        (("input_ids", "attention_mask"), 2, "expected input_ids, attention_mask, position_ids and keys"),
        ((*INPUTS, "pixel_values"), 2, "has the inputs input_ids, .*pixel_values.*cannot run this architecture"),
        (INPUTS, "heads", "does not say how large axis 1 of past_key_values.0.key is"),
    ],
)
def test_a_graph_that_the_sdk_cannot_run(
    make_checkpoint: MakeCheckpoint,
    program: Program,
    tmp_path: Path,
    inputs: Sequence[str] | None,
    heads: int | str,
    message: str,
) -> None:
    checkpoint = make_checkpoint()
    script = "target.mkdir()"
    if inputs is not None:
        write_graph(tmp_path / "made.onnx", inputs, heads)
        script += f"\nimport shutil; shutil.copy({str(tmp_path / 'made.onnx')!r}, target / 'model.onnx')"
    with pytest.raises(ExportFailed, match=message):
        export_optimum(OptimumExport(str(checkpoint), tmp_path / "bundle", program(script)))
    assert "bundle" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_what_is_refused_before_the_program_runs(
    make_checkpoint: MakeCheckpoint, program: Program, tmp_path: Path
) -> None:
    environment = program("sys.exit('must not run')")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    with pytest.raises(CheckpointInvalid, match="no weights|safetensors"):
        export_optimum(OptimumExport(str(empty), tmp_path / "bundle", environment))
    checkpoint = make_checkpoint()
    with pytest.raises(OutputExists):
        export_optimum(OptimumExport(str(checkpoint), checkpoint, environment))


def test_an_environment_without_it(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="bin/optimum-cli: is missing. Install it there: pip install 'optimum-onnx"):
        export_optimum(OptimumExport(str(make_checkpoint()), tmp_path / "bundle", tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exporter", "optimum", "--weights", "int4"], "--weights has no meaning with --exporter optimum"),
        (["--exporter", "optimum", "--target", "cpu"], "--target has no meaning with --exporter optimum"),
        (["--exporter", "optimum", "--kv", "int8"], "--kv has no meaning with --exporter optimum"),
        (["--exporter", "optimum", "--asymmetric"], "--symmetric has no meaning with --exporter optimum"),
        (["--exporter", "optimum", "--no-rubrics"], "--no-rubrics has no meaning with --exporter optimum"),
        (["--exporter", "optimum", "--dry-run"], "--dry-run has no meaning with --exporter optimum"),
        (["--environment", "here"], "--environment has no meaning without --exporter optimum"),
    ],
)
def test_options_of_the_other_exporter(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, words: list[str], message: str
) -> None:
    result = CliRunner().invoke(cli, ["export", "onnx", str(make_checkpoint()), "-o", str(tmp_path / "bundle"), *words])
    assert result.exit_code == OptionInvalid.exit_code
    assert message in result.stderr


def test_the_extra_is_what_the_environment_gets() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    listed = text.partition("\noptimum = [")[2].partition("]\n")[0].replace('"', "").split(",")
    assert sorted(filter(None, (entry.strip() for entry in listed))) == sorted(REQUIREMENTS)
