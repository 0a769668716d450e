"""A checkpoint becomes an ONNX bundle: the job behind `rubricrm export onnx`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx
import onnx_ir as ir
from rubricrm._version import __version__
from rubricrm.bundle import Bundle, describe_file
from rubricrm.errors import CheckpointInvalid, ExportFailed, OptionInvalid, PromptTemplateInvalid
from rubricrm.manifest import (
    REQUEST_FIELD,
    TARGETS,
    GenerationFacts,
    GraphFacts,
    Manifest,
    ModelFacts,
    PrefixFacts,
    PromptFacts,
    ProvenanceFacts,
    QuantizationFacts,
    SourceFacts,
    TokenizerFacts,
)
from rubricrm.prefix import FILE_NAME as PREFIX_FILE
from rubricrm.prefix import compute_prefix
from rubricrm.prompt import Prompt
from rubricrm.session import Session
from rubricrm.tokenizer import Tokenizer

from rubricrm_export.architecture import EMBEDDING
from rubricrm_export.bundle_writer import (
    bundle_directory,
    check_space,
    check_target,
    describe_files,
    write_files,
    write_manifest,
)
from rubricrm_export.checkpoint import Checkpoint, checkpoint_digests
from rubricrm_export.checkpoint_files import TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.genai_config import genai_config
from rubricrm_export.graph.builder import StreamedTensor
from rubricrm_export.graph.decoder import build_decoder
from rubricrm_export.hub import ResolvedCheckpoint, resolve_checkpoint
from rubricrm_export.prompt_source import (
    CHAT_TEMPLATE_FILE,
    read_card_field,
    read_chat,
    read_prompt_template,
    template_sha256,
)
from rubricrm_export.stop_ids import read_stop_ids

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
TOKENIZER_FILE = "tokenizer.json"
GENAI_CONFIG_FILE = "genai_config.json"
MAX_NEW_TOKENS = 1024  # what the papers of this model family use (OpenRubrics v3, table 8)

# Weights up to this size count as a small model: its prefix is computed at export and shipped.
_SMALL_MODEL_BYTES = 64 << 20
# Smaller tensors stay inside model.onnx: shapes and axes must, or no runtime can infer shapes.
_EXTERNAL_BYTES = 1024
_PAGE_BYTES = 4096

WEIGHT_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_CHECKPOINT_WEIGHTS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_TYPE_NAMES = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OnnxExport:
    """What to export and how; the options of `rubricrm export onnx`.

    Attributes:
        source: A checkpoint's directory, or the name of a repository on the Hugging Face hub.
        target: The bundle to write.
        weights: "fp32", "fp16", "bf16", or None for the type that the checkpoint stores.
        device: "cpu" or "cuda".
    """

    source: str
    target: Path
    weights: str | None = None
    device: str = "cpu"
    prompt_template: Path | None = None
    chat_template: Path | None = None
    revision: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Check the options that have few values."""
        if self.weights is not None and self.weights not in WEIGHT_TYPES:
            raise OptionInvalid(f"weights must be one of {', '.join(WEIGHT_TYPES)}, got {self.weights!r}.")
        if self.device not in TARGETS:
            raise OptionInvalid(f"target must be one of {', '.join(TARGETS)}, got {self.device!r}.")

    @property
    def command(self) -> str:
        """The command line without its paths, for the provenance."""
        words = ["rubricrm export onnx", Path(self.source).name, f"--target {self.device}"]
        words += [f"--weights {self.weights}"] if self.weights else []
        words += [f"--prompt-template {self.prompt_template.name}"] if self.prompt_template else []
        words += [f"--chat-template {self.chat_template.name}"] if self.chat_template else []
        words += [f"--revision {self.revision}"] if self.revision else []
        return " ".join(words)


@dataclass(frozen=True)
class ExportPlan:
    """What an export will write, known before any weight is read."""

    manifest: Manifest
    weight_bytes: int

    @property
    def is_small(self) -> bool:
        """Whether the prefix is computed at export and shipped inside the bundle."""
        return self.weight_bytes <= _SMALL_MODEL_BYTES and self.manifest.graph.target == "cpu"


def plan_onnx(job: OnnxExport) -> ExportPlan:
    """Check everything that can be checked without writing: the whole of `--dry-run`.

    Raises:
        RubricrmError: As `export_onnx`.
    """
    check_target(job.target, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    with Checkpoint.open(resolved.path) as checkpoint:
        return _plan(job, resolved, checkpoint)


def export_onnx(job: OnnxExport, on_progress: Progress | None = None) -> Bundle:
    """Write a bundle.

    Memory: one block of one tensor, whatever the model's size; time: reading, writing and hashing the weights.

    Args:
        job: What to export.
        on_progress: Gets the weights' bytes written so far, and all of them.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound; nothing was left at the target.
    """
    check_target(job.target, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    with Checkpoint.open(resolved.path) as checkpoint:
        plan = _plan(job, resolved, checkpoint)
        check_space(job.target, plan.weight_bytes)
        with bundle_directory(job.target, force=job.force) as directory:
            _write_graph(checkpoint, plan, directory, on_progress)
            _write_companions(checkpoint, job, plan, directory)
            _write_prefix_and_manifest(checkpoint, plan, directory)
    return Bundle.open(job.target)


def _plan(job: OnnxExport, resolved: ResolvedCheckpoint, checkpoint: Checkpoint) -> ExportPlan:
    architecture = checkpoint.architecture
    tokenizer = Tokenizer.from_file(checkpoint.path / TOKENIZER_FILE)
    if tokenizer.num_tokens > architecture.vocab_size:
        raise CheckpointInvalid(
            f"{checkpoint.path / TOKENIZER_FILE}: has {tokenizer.num_tokens} ids, vocab_size in config.json is "
            f"{architecture.vocab_size}. Tokenizer and config are of different models."
        )
    prompt = _prompt_facts(job, checkpoint, tokenizer)
    num_fixed = len(Prompt(prompt, tokenizer).fixed_prefix())
    if num_fixed >= architecture.context_length:
        raise PromptTemplateInvalid(
            f"{prompt.template_source}: {num_fixed} tokens stand before {REQUEST_FIELD}, the model's context holds "
            f"{architecture.context_length}: no request fits. Pass another template: --prompt-template FILE."
        )
    weights = job.weights or _CHECKPOINT_WEIGHTS[checkpoint.tensor(EMBEDDING).dtype]
    computed = _computed_type(weights, job.device)
    num_parameters = architecture.num_parameters(checkpoint.tied)
    kv_type = _TYPE_NAMES[computed]
    manifest = Manifest(
        model=ModelFacts(
            name=resolved.repo or read_card_field(checkpoint.path, "model_name") or resolved.path.resolve().name,
            architecture=architecture.name,
            license=read_card_field(checkpoint.path, "license"),
            num_parameters=num_parameters,
            hidden_size=architecture.hidden_size,
            intermediate_size=architecture.intermediate_size,
            num_layers=architecture.num_layers,
            num_heads=architecture.num_heads,
            num_kv_heads=architecture.num_kv_heads,
            head_dim=architecture.head_dim,
            vocab_size=architecture.vocab_size,
            context_length=architecture.context_length,
        ),
        graph=GraphFacts(GRAPH_FILE, job.device, compute_type=_TYPE_NAMES[computed], kv_type=kv_type),
        quantization=QuantizationFacts(weights, activations="none", kv_cache=kv_type, method="none"),
        tokenizer=TokenizerFacts(TOKENIZER_FILE, tokenizer.num_tokens),
        prompt=prompt,
        prefix=PrefixFacts(num_fixed, file=None),
        generation=GenerationFacts(min(MAX_NEW_TOKENS, architecture.context_length)),
        files={},
        provenance=ProvenanceFacts(SourceFacts(resolved.repo, resolved.commit, {}), _tools(), job.command),
    )
    return ExportPlan(manifest, int(num_parameters * WEIGHT_TYPES[weights].itemsize))


def _prompt_facts(job: OnnxExport, checkpoint: Checkpoint, tokenizer: Tokenizer) -> PromptFacts:
    template, source = read_prompt_template(checkpoint.path, job.prompt_template)
    return PromptFacts(
        template=template,
        template_sha256=template_sha256(template),
        template_source=source,
        chat=read_chat(checkpoint.path, job.chat_template, tokenizer.added_tokens),
        stop_ids=read_stop_ids(checkpoint.path, checkpoint.config, checkpoint.generation_config, tokenizer),
    )


def _computed_type(weights: str, device: str) -> ir.DataType:
    """Return the type of the activations: the CPU provider has no 16-bit kernels for this graph."""
    return ir.DataType.FLOAT if device == "cpu" else WEIGHT_TYPES[weights]


def _tools() -> dict[str, str]:
    return {"rubricrm": __version__, **{name: version(name) for name in ("onnx", "onnx-ir", "numpy", "safetensors")}}


def _write_graph(checkpoint: Checkpoint, plan: ExportPlan, directory: Path, on_progress: Progress | None) -> None:
    graph = plan.manifest.graph
    types = {name: dtype for dtype, name in _TYPE_NAMES.items()}
    stored = WEIGHT_TYPES[plan.manifest.quantization.weights]
    model = build_decoder(checkpoint, stored, types[graph.compute_type], types[graph.kv_type])
    try:
        ir.save(
            model,
            directory / GRAPH_FILE,
            external_data=DATA_FILE,
            size_threshold_bytes=_EXTERNAL_BYTES,
            alignment=_PAGE_BYTES,
            align_threshold=_PAGE_BYTES,
            callback=_written(plan.weight_bytes, on_progress) if on_progress else None,
        )
    except ir.serde.SerdeError as error:  # around whatever a small weight's conversion raised
        raise _root_cause(error) from error
    if on_progress:
        on_progress(plan.weight_bytes, plan.weight_bytes)
    try:
        onnx.checker.check_model(directory / GRAPH_FILE)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"the graph does not pass the ONNX checker: {error}. Please report this.") from error


def _root_cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _root_cause(error.__cause__)


def _written(total: int, on_progress: Progress) -> Callable[[ir.TensorProtocol, object], None]:
    """Return a callback for the writer, which calls it before each tensor."""
    done = 0

    def report(tensor: ir.TensorProtocol, _: object) -> None:
        nonlocal done
        on_progress(min(done, total), total)
        done += tensor.nbytes if isinstance(tensor, StreamedTensor) else 0

    return report


def _write_companions(checkpoint: Checkpoint, job: OnnxExport, plan: ExportPlan, directory: Path) -> None:
    tokenizer_config = _tokenizer_config(checkpoint.path, job.chat_template)
    write_files(
        directory,
        {
            TOKENIZER_FILE: (checkpoint.path / TOKENIZER_FILE).read_bytes(),
            TOKENIZER_CONFIG: (json.dumps(tokenizer_config, ensure_ascii=False, indent=2) + "\n").encode(),
            GENAI_CONFIG_FILE: genai_config(plan.manifest).encode(),
        },
    )


def _tokenizer_config(path: Path, chat_template: Path | None) -> Mapping[str, object]:
    """Return tokenizer_config.json with the chat template inside, where other runtimes look for it."""
    template = chat_template or path / CHAT_TEMPLATE_FILE
    # onnxruntime-genai reads no chat template where no class is named; this is the one of a bare tokenizer.json.
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= read_tokenizer_config(path)
    if template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    return config


def _write_prefix_and_manifest(checkpoint: Checkpoint, plan: ExportPlan, directory: Path) -> None:
    digests = checkpoint_digests(checkpoint.path, checkpoint.files)
    source = replace(plan.manifest.provenance.source, files=digests)
    manifest = replace(
        plan.manifest,
        provenance=replace(plan.manifest.provenance, source=source),
        files=describe_files(directory),
    )
    bundle = write_manifest(directory, manifest)
    if not plan.is_small or manifest.prefix.num_tokens == 0:
        return
    prompt = Prompt(manifest.prompt, Tokenizer.from_file(bundle.file(TOKENIZER_FILE)))
    session = Session(bundle)
    compute_prefix(session, prompt.fixed_prefix()).save(directory / PREFIX_FILE)
    session.close()
    # It was written as a temporary file, which only its owner may read; a bundle is for everybody that the rest is for.
    shutil.copymode(directory / GRAPH_FILE, directory / PREFIX_FILE)
    prefix = replace(manifest.prefix, file=PREFIX_FILE)
    files = {**manifest.files, PREFIX_FILE: describe_file(directory / PREFIX_FILE)}
    write_manifest(directory, replace(manifest, prefix=prefix, files=files))
