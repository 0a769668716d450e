"""What an export will write, known before any weight is read."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from rubricrm._version import __version__
from rubricrm.errors import OptionInvalid
from rubricrm.judge.judge_model import SAMPLING
from rubricrm.rubric.thought import closing_mark
from rubricrm.runtime.manifest import (
    JUDGE_PAIRWISE,
    PACKED_LAYOUT,
    PROMPT_FIELDS,
    RUBRIC,
    STANDARD_LAYOUT,
    ChatFacts,
    GenerationFacts,
    GraphFacts,
    Manifest,
    ModelFacts,
    PrefixFacts,
    PromptFacts,
    ProvenanceFacts,
    QuantizationFacts,
    RequiredFacts,
    SourceFacts,
    TokenizerFacts,
)
from rubricrm.runtime.path_text import printable_path
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.checkpoint.architecture import EMBEDDING, LM_HEAD
from rubricrm_export.checkpoint.chat_pieces import pieces
from rubricrm_export.checkpoint.chat_template import QWEN3_TEMPLATE, QWEN3_TOKENS, ChatTemplate, has_chat_template
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.files import TOKENIZER, read_json_object
from rubricrm_export.checkpoint.hub import ResolvedCheckpoint
from rubricrm_export.checkpoint.prompt_source import read_card_field, read_prompt_template, template_sha256
from rubricrm_export.checkpoint.stop_ids import read_stop_ids
from rubricrm_export.errors import CheckpointInvalid, PromptTemplateInvalid
from rubricrm_export.graph.builder import KERNELS
from rubricrm_export.graph.writer import (
    DATA_FILE,
    DOMAINS,
    FLOAT_TYPES,
    GRAPH_FILE,
    STEP_DATA_FILE,
    STEP_GRAPH_FILE,
    TYPE_NAMES,
    computed_type,
    is_packed,
    kv_type,
    step_kv_type,
    step_update,
)
from rubricrm_export.onnx_bundle.options import JUDGE_TEMPERATURE, OnnxExport
from rubricrm_export.quantize.grid import Grid
from rubricrm_export.quantize.scheme import Scheme
from rubricrm_export.quantize.vocabulary import BLOCK_SIZES

logger = logging.getLogger(__name__)

# What the papers of this model family use (OpenRubrics v3, table 8).
MAX_NEW_TOKENS = 1024
JUDGE_MAX_NEW_TOKENS = 4096

GRAMMAR_FILE = "grammar.npz"

# Weights up to this size count as a small model: its prefix is computed at export and shipped.
_SMALL_MODEL_BYTES = 64 << 20
_CHECKPOINT_WEIGHTS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


class Templates(Protocol):
    """What a model is for, and files that replace a checkpoint's own templates; None: they do not."""

    @property
    def prompt(self) -> str:
        """Name of the prompt."""
        ...

    @property
    def temperature(self) -> float | None:
        """What a judge samples with; None: as the papers do."""
        ...

    @property
    def prompt_template(self) -> Path | None:
        """Text with the prompt's placeholders in it."""
        ...

    @property
    def chat_template(self) -> Path | None:
        """Jinja."""
        ...


@dataclass(frozen=True)
class ExportPlan:
    """What an export will write.

    Attributes:
        manifest: All but the files, their hashes and the measured quality.
        scheme: What is stored in how many bits.
        weight_bytes: Size of the weights on disk.
    """

    manifest: Manifest
    scheme: Scheme
    weight_bytes: int

    @property
    def is_small(self) -> bool:
        """Whether the prefix is computed at export and shipped inside the bundle."""
        return self.weight_bytes <= _SMALL_MODEL_BYTES and self.manifest.graph.target == "cpu"


def make_plan(job: OnnxExport, resolved: ResolvedCheckpoint, checkpoint: Checkpoint) -> ExportPlan:
    """Check everything that can be checked without reading weights.

    Raises:
        RubricrmError: The checkpoint or an option is not sound.
    """
    architecture = checkpoint.architecture
    tokenizer = Tokenizer.from_file(checkpoint.path / TOKENIZER)
    if tokenizer.num_tokens > architecture.vocab_size:
        raise CheckpointInvalid(
            f"{checkpoint.path / TOKENIZER}: has {tokenizer.num_tokens} ids, vocab_size in config.json is "
            f"{architecture.vocab_size}. Tokenizer and config are of different models."
        )
    scheme = job.scheme(_CHECKPOINT_WEIGHTS[checkpoint.tensor(EMBEDDING).dtype])
    _require_divisible(scheme, checkpoint)
    chat, prompt = read_prompts(checkpoint.path, checkpoint.config, checkpoint.generation_config, job, tokenizer)
    graphs = _graphs(scheme)
    model = ModelFacts(
        name=model_name(resolved),
        architecture=architecture.name,
        license=read_card_field(checkpoint.path, "license"),
        num_parameters=architecture.num_parameters(checkpoint.tied),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_layers=architecture.num_layers,
        num_heads=architecture.num_heads,
        num_kv_heads=architecture.num_kv_heads,
        head_dim=architecture.head_dim,
        vocab_size=architecture.vocab_size,
        context_length=architecture.context_length,
    )
    quantization = QuantizationFacts(scheme.weights, scheme.activations, scheme.method)
    provenance = ProvenanceFacts(SourceFacts(resolved.repo, resolved.commit, {}), tool_versions(), job.command)
    manifest = make_manifest(model, graphs, quantization, tokenizer, chat, job.prompt, prompt, provenance)
    return ExportPlan(manifest, scheme, _weight_bytes(checkpoint, scheme))


def model_name(resolved: ResolvedCheckpoint) -> str:
    """Return the name of a checkpoint's model: its repository's, its card's or its directory's."""
    return resolved.repo or read_card_field(resolved.path, "model_name") or printable_path(resolved.path.resolve().name)


def make_manifest(
    model: ModelFacts,
    graphs: tuple[GraphFacts, ...],
    quantization: QuantizationFacts,
    tokenizer: Tokenizer,
    chat: ChatFacts,
    name: str,
    prompt: PromptFacts,
    provenance: ProvenanceFacts,
) -> Manifest:
    """Return a manifest without files, quality and the checkpoint's hashes.

    Raises:
        PromptTemplateInvalid: The template leaves no room for a request.
    """
    num_fixed = _num_fixed(name, prompt, chat, tokenizer, model.context_length)
    most = JUDGE_MAX_NEW_TOKENS if name == JUDGE_PAIRWISE else MAX_NEW_TOKENS
    return Manifest(
        model=model,
        graphs=graphs,
        quantization=quantization,
        tokenizer=TokenizerFacts(TOKENIZER, tokenizer.num_tokens),
        chat=chat,
        prompts={name: replace(prompt, prefix=PrefixFacts(num_fixed, {}))},
        generation=GenerationFacts(min(most, model.context_length)),
        files={},
        provenance=provenance,
    )


def make_twin(plan: ExportPlan) -> ExportPlan:
    """Return the plan of a bundle for the CPU with the same matrices as one for a GPU, to measure these by.

    Keys and values in FP8 stay floats: the CPU has no kernel for them.
    """
    scheme = plan.scheme.on_cpu()
    graph = _graph_facts(scheme)
    return replace(plan, manifest=replace(plan.manifest, graphs=(graph,)), scheme=scheme)


def _require_divisible(scheme: Scheme, checkpoint: Checkpoint) -> None:
    """Check that blocks fill the rows of every matrix, where the operators want that."""
    size = scheme.block_size
    if scheme.target != "tensorrt" or size is None:
        return
    for name, shape in checkpoint.architecture.tensor_shapes(checkpoint.tied).items():
        if len(shape) == 2 and name not in (EMBEDDING, LM_HEAD) and shape[1] % size:
            fitting = [other for other in BLOCK_SIZES if other.isdigit() and shape[1] % int(other) == 0]
            remedy = f"Pass --block-size {fitting[-1]}" if fitting else "Pass --weights fp8 --activations fp8"
            raise OptionInvalid(
                f"{name}: has {shape[1]} inputs, which blocks of {size} do not divide; TensorRT wants whole blocks. "
                f"{remedy}, or another --target."
            )


def _graph_facts(scheme: Scheme) -> GraphFacts:
    kv_update = "scatter" if scheme.target == "tensorrt" else "shared"
    compute_type, kv = TYPE_NAMES[computed_type(scheme)], TYPE_NAMES[kv_type(scheme)]
    return graph_facts(scheme.target, kv_update, compute_type, kv, DOMAINS[kv_update])


def _graphs(scheme: Scheme) -> tuple[GraphFacts, ...]:
    """Return what a manifest says of the graphs, the best one first; the last one is what an export measures."""
    last, update = _graph_facts(scheme), step_update(scheme)
    if update is None:
        return (last,)
    data_file, layout = (STEP_DATA_FILE, PACKED_LAYOUT) if is_packed(scheme) else (DATA_FILE, STANDARD_LAYOUT)
    library = DOMAINS[update].get(KERNELS)
    step = replace(
        last,
        file=STEP_GRAPH_FILE,
        data_file=data_file,
        layout=layout,
        kv_update=update,
        kv_type=TYPE_NAMES[step_kv_type(scheme)],
        requires=RequiredFacts(DOMAINS[update], library=None if library is None else str(library)),
    )
    return step, last


def graph_facts(target: str, kv_update: str, compute_type: str, kv: str, domains: Mapping[str, int]) -> GraphFacts:
    """Return what a manifest says of a graph whose weights lie in the bundle's data file as its operators read them."""
    required = RequiredFacts(domains, library=None)
    return GraphFacts(GRAPH_FILE, DATA_FILE, STANDARD_LAYOUT, target, kv_update, kv, compute_type, required)


def _num_fixed(name: str, prompt: PromptFacts, chat: ChatFacts, tokenizer: Tokenizer, context_length: int) -> int:
    num_fixed = len(Prompt(prompt, chat, tokenizer, name).fixed_prefix())
    if num_fixed >= context_length:
        first = min(prompt.fields.values(), key=prompt.template.index)
        raise PromptTemplateInvalid(
            f"{prompt.template_source}: {num_fixed} tokens stand before {first}, the model's context holds "
            f"{context_length}: no request fits. Pass another template: --prompt-template FILE."
        )
    return num_fixed


def read_prompts(
    path: Path,
    config: Mapping[str, object],
    generation_config: Mapping[str, object] | None,
    templates: Templates,
    tokenizer: Tokenizer,
) -> tuple[ChatFacts, PromptFacts]:
    """Read the templates and the stop ids of a checkpoint's directory.

    Raises:
        PromptTemplateInvalid: A template is not usable.
        CheckpointInvalid: No stop id.
    """
    name = templates.prompt
    template, source = read_prompt_template(path, templates.prompt_template, name)
    chat_template = ChatTemplate.read(path, templates.chat_template)
    chat = pieces(chat_template, tokenizer.added_tokens)
    if chat.starts_in_thought:
        logger.warning(
            "%s: the model's turn begins with %r although thinking is switched off: what it writes starts inside a "
            "thought, and only what follows the thought is read as a rubric. Pass --chat-template FILE with a template "
            "that can switch thinking off",
            chat_template.where,
            chat.generation[-40:],
        )
    opens_unknown_thought = chat.starts_in_thought and closing_mark(chat.generation) is None
    prompt = PromptFacts(
        fields=dict(PROMPT_FIELDS[name]),
        template=template,
        template_sha256=template_sha256(template),
        template_source=source,
        stop_ids=read_stop_ids(path, config, generation_config, tokenizer, chat_template),
        # A grammar of what follows a thought needs to know how the thought ends.
        grammar=GRAMMAR_FILE if name == RUBRIC and not opens_unknown_thought else None,
        prefix=PrefixFacts(0, {}),  # known when the sizes of the model are
        extensions=_sampling(templates) if name == JUDGE_PAIRWISE else {},
    )
    return chat, prompt


def _sampling(templates: Templates) -> Mapping[str, object]:
    temperature = JUDGE_TEMPERATURE if templates.temperature is None else templates.temperature
    return {SAMPLING: {"temperature": temperature}}


def chat_template_of(templates: Templates, checkpoint: Path) -> Path | None:
    """Return the file that replaces a checkpoint's chat template: the one given, or for a judge without any Qwen3's.

    Some judges of the family bring the tokens of that template, and not the template.
    """
    if templates.chat_template is not None or templates.prompt == RUBRIC or has_chat_template(checkpoint):
        return templates.chat_template
    listed = read_json_object(checkpoint / TOKENIZER).get("added_tokens")
    tokens = [token for token in listed if isinstance(token, dict)] if isinstance(listed, list) else []
    if not {token.get("content") for token in tokens}.issuperset(QWEN3_TOKENS):
        return None
    logger.warning(
        "%s: no chat template: that of Qwen3 is used, whose tokens the tokenizer has. Pass --chat-template FILE if the "
        "judge was trained with another",
        checkpoint,
    )
    return QWEN3_TEMPLATE


def _weight_bytes(checkpoint: Checkpoint, scheme: Scheme) -> int:
    total = 0
    for name, shape in checkpoint.architecture.tensor_shapes(checkpoint.tied).items():
        grid: Grid | None = None
        if name in (EMBEDDING, LM_HEAD):
            grid = scheme.head_grid
        elif len(shape) == 2 and scheme.weights not in FLOAT_TYPES:
            grid = scheme.grid
        if grid is not None:
            total += grid.num_bytes(shape[0], shape[1])
        else:
            total += int(FLOAT_TYPES[scheme.float_weights].itemsize) * math.prod(shape)
    return total


def tool_versions() -> dict[str, str]:
    """Return the versions that a bundle's bytes depend on."""
    return {
        "rubricrm": __version__,
        **{name: version(name) for name in ("onnx", "onnx-ir", "outlines-core", "numpy", "safetensors")},
    }
