"""A checkpoint becomes a bundle by optimum-onnx's own export: `rubricrm export onnx --exporter optimum`.

For architectures that this project's graph does not know, and to compare with. The graph concatenates keys and values
at each step and computes all rows of logits: it is slower than our own, and not quantized. Its sizes are read from the
graph itself (a head_dim guessed from the configuration is wrong for Qwen3).
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC, ModelFacts, ProvenanceFacts, QuantizationFacts, SourceFacts
from rubricrm.runtime.path_text import printable_path
from rubricrm.runtime.published_directory import (
    check_output,
    check_space,
    describe_files,
    scratch_directory,
    whole_directory,
    write_manifest,
)
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.checkpoint.checkpoint import checkpoint_digests
from rubricrm_export.checkpoint.config_keys import ConfigKeys
from rubricrm_export.checkpoint.directory import require_checkpoint_directory
from rubricrm_export.checkpoint.files import (
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    Weights,
    companion_files,
    read_json_object,
    read_weights,
)
from rubricrm_export.checkpoint.hub import ResolvedCheckpoint, resolve_checkpoint
from rubricrm_export.checkpoint.prompt_source import read_card_field
from rubricrm_export.errors import CheckpointInvalid, ExportFailed
from rubricrm_export.graph.data_file import save_graph
from rubricrm_export.graph.writer import DATA_FILE, GRAPH_FILE
from rubricrm_export.onnx_bundle.bundle_files import add_prefix, write_companions
from rubricrm_export.onnx_bundle.plan import (
    ExportPlan,
    chat_template_of,
    graph_facts,
    make_manifest,
    model_name,
    read_prompts,
    tool_versions,
)
from rubricrm_export.quantize.scheme import Scheme
from rubricrm_export.system.progress_bar import Progress, no_progress
from rubricrm_export.system.tool import own_program, program_of, run_tool

_PROGRAM = "optimum-cli"
# The extra `optimum`: the newest optimum-onnx, and the newest transformers and torch that it was run with.
REQUIREMENTS = ("optimum-onnx[onnxruntime]==0.1.0", "transformers==4.57.6", "torch==2.13.0")
_TASK = "text-generation-with-past"
_FLOAT_BYTES = 4
_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_INPUTS = ("input_ids", "attention_mask", "position_ids")


@dataclass(frozen=True)
class OptimumExport:
    """The options of an export by optimum-onnx.

    Attributes:
        source: A checkpoint's directory, or the name of a repository on the Hugging Face hub.
        output: The bundle to write.
        environment: A virtual environment with optimum-onnx; None: the one that runs this, else one of our own.
        prompt, temperature, prompt_template, chat_template, revision, force: As `OnnxExport`.
    """

    source: str
    output: Path
    environment: Path | None = None
    prompt: str = RUBRIC
    temperature: float | None = None
    prompt_template: Path | None = None
    chat_template: Path | None = None
    revision: str | None = None
    force: bool = False

    @property
    def command(self) -> str:
        """The command line without its paths, for the provenance."""
        return f"rubricrm export onnx {printable_path(Path(self.source).name)} --exporter optimum"


def export_optimum(job: OptimumExport, on_progress: Progress | None = None) -> Bundle:
    """Write a bundle of float32 weights for the CPU.

    Memory: the model in float32 several times over, in optimum's process. Disk: its graph beside ours until the end.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound, or optimum failed; nothing was left.
    """
    report = partial(on_progress or no_progress, "Exporting with optimum")
    check_output(job.output, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    job = replace(job, chat_template=chat_template_of(job, resolved.path))
    require_checkpoint_directory(resolved.path)
    weights = read_weights(resolved.path)
    check_space(job.output, 2 * _FLOAT_BYTES * _num_parameters(weights))
    program = _program(job.environment)
    report(0, 2)
    weights.require_finite()
    with (
        scratch_directory(job.output, "optimum") as made,
        whole_directory(job.output, force=job.force) as directory,
    ):
        words = [str(program), "export", "onnx", "--model", str(resolved.path.resolve()), "--task", _TASK]
        run_tool([*words, "--dtype", "fp32", str(made)])
        report(1, 2)
        tools = {**tool_versions(), "optimum-onnx": _version(program)}
        plan = _write_graph(job, resolved, weights, tools, made, directory)
        write_companions(resolved.path, job.chat_template, plan.manifest, directory)
        manifest = replace(plan.manifest, files=describe_files(directory))
        add_prefix(write_manifest(directory, manifest), plan)
        report(2, 2)
    return Bundle.open(job.output)


def _program(environment: Path | None) -> Path:
    if environment is not None:
        return program_of(environment, _PROGRAM, REQUIREMENTS)
    here = Path(sys.executable).parent / _PROGRAM
    return here if here.is_file() else own_program(_PROGRAM, REQUIREMENTS)


def _write_graph(
    job: OptimumExport,
    resolved: ResolvedCheckpoint,
    weights: Weights,
    tools: Mapping[str, str],
    made: Path,
    directory: Path,
) -> ExportPlan:
    """Write optimum's graph with its weights in one data file, and say what the bundle is."""
    path = made / GRAPH_FILE
    if not path.is_file():
        raise ExportFailed(f"{_PROGRAM} ended well and wrote no {GRAPH_FILE}.")
    graph = ir.load(path)
    config = read_json_object(resolved.path / CONFIG)
    model = _model_facts(resolved, config, graph, _num_parameters(weights))
    tokenizer = Tokenizer.from_file(resolved.path / TOKENIZER)
    if tokenizer.num_tokens > model.vocab_size:
        raise CheckpointInvalid(
            f"{resolved.path / TOKENIZER}: has {tokenizer.num_tokens} ids, the graph's logits have "
            f"{model.vocab_size}. Tokenizer and model do not belong together."
        )
    companions = companion_files(resolved.path)
    generation_config = read_json_object(resolved.path / GENERATION_CONFIG) if GENERATION_CONFIG in companions else None
    files = sorted([*companions, *weights.files])
    source = SourceFacts(resolved.repo, resolved.commit, checkpoint_digests(resolved.path, files))
    chat, prompt = read_prompts(resolved.path, config, generation_config, job, tokenizer)
    manifest = make_manifest(
        model,
        (graph_facts("cpu", "concatenate", "float32", "float32", _domains(graph)),),
        QuantizationFacts("fp32", "none", "none"),
        tokenizer,
        chat,
        job.prompt,
        prompt,
        ProvenanceFacts(source, tools, job.command),
    )
    save_graph(graph, directory / GRAPH_FILE, DATA_FILE, lambda _: None)
    return ExportPlan(manifest, Scheme.of("cpu", "fp32"), _FLOAT_BYTES * model.num_parameters)


def _domains(graph: ir.Model) -> dict[str, int]:
    return {domain or "ai.onnx": version for domain, version in graph.opset_imports.items()}


def _num_parameters(weights: Weights) -> int:
    return sum(math.prod(tensor.shape) for tensor in weights.tensors.values())


def _version(program: Path) -> str:
    """Return the version of optimum-onnx beside a program."""
    script = "from importlib.metadata import version; print(version('optimum-onnx'))"
    found = subprocess.run([program.parent / "python", "-c", script], capture_output=True, text=True, check=False)
    if found.returncode:
        wanted = " ".join(f"'{requirement}'" for requirement in REQUIREMENTS)
        raise OptionInvalid(f"{program}: optimum-onnx is missing beside it. Install it there: pip install {wanted}.")
    return found.stdout.strip()


def _model_facts(
    resolved: ResolvedCheckpoint, config: dict[str, object], graph: ir.Model, num_parameters: int
) -> ModelFacts:
    """Read the sizes: of the cache and the vocabulary from the graph, the others from the configuration.

    Raises:
        ExportFailed: The graph's inputs and outputs are not those that the SDK feeds.
        CheckpointInvalid: The configuration lacks a size.
    """
    names = [str(value.name) for value in graph.graph.inputs]
    pasts = [value for value in graph.graph.inputs if _PAST.fullmatch(str(value.name))]
    unknown = sorted(set(names) - set(_INPUTS) - {str(value.name) for value in pasts})
    missing = [name for name in _INPUTS if name not in names]
    if unknown or missing or not pasts or len(pasts) % 2:
        raise ExportFailed(
            f"the graph that optimum made of {resolved.path} has the inputs {', '.join(names[:6])}, ..., expected "
            f"{', '.join(_INPUTS)} and keys and values of each layer. The SDK cannot run this architecture."
        )
    keys = ConfigKeys(config, str(resolved.path / CONFIG))
    names_of_classes = config.get("architectures")
    return ModelFacts(
        name=model_name(resolved),
        architecture=str(names_of_classes[0]) if isinstance(names_of_classes, list) and names_of_classes else "unknown",
        license=read_card_field(resolved.path, "license"),
        num_parameters=num_parameters,
        hidden_size=keys.positive_int("hidden_size"),
        intermediate_size=keys.positive_int("intermediate_size"),
        num_layers=len(pasts) // 2,
        num_heads=keys.positive_int("num_attention_heads"),
        num_kv_heads=_size(pasts[0], 1),
        head_dim=_size(pasts[0], 3),
        vocab_size=_size(graph.graph.outputs[0], 2),
        context_length=keys.positive_int("max_position_embeddings"),
    )


def _size(value: ir.Value, axis: int) -> int:
    shape = [] if value.shape is None else list(value.shape)
    found = shape[axis] if axis < len(shape) else None
    if not isinstance(found, int):
        raise ExportFailed(f"the graph that optimum made does not say how large axis {axis} of {value.name} is.")
    return found
