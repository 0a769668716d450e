"""The bundle's manifest: what a bundle says of itself, as types. The contract is docs/BUNDLE.md.

`manifest_reader` checks every key: what is missing, unknown, of the wrong type or out of range is a `BundleInvalid`
that names the key. Two places are open: keys under `extensions` mean what others agree on, and a graph whose words this
version does not know is left to readers that do (`graph_choice`).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rubricrm.errors import BundleInvalid

FORMAT = "rubricrm-bundle"
FORMAT_VERSION = 2
# The prompt that turns a request into a rubric, and the field that the request takes.
RUBRIC = "rubric"
REQUEST = "request"
# What stands for the request in a checkpoint's own rubric template.
REQUEST_FIELD = "{prompt}"
# The prompt that has two answers compared by a rubric.
JUDGE_PAIRWISE = "judge-pairwise"
# The fields of each prompt that this version knows, with what stands for them in a checkpoint's own template.
PROMPT_FIELDS: Mapping[str, Mapping[str, str]] = {
    RUBRIC: {REQUEST: REQUEST_FIELD},
    JUDGE_PAIRWISE: {name: f"{{{name}}}" for name in ("instruction", "rubric", "response_a", "response_b")},
}

FLOAT_TYPES = ("float32", "float16", "bfloat16")
TARGETS = ("cpu", "cuda", "tensorrt")
# Where bundles run, and graphs of which targets. What is exported for TensorRT is standard ONNX: a CPU runs it too, for
# checking.
DEVICES = {
    "cpu": ("cpu", "tensorrt"),
    "cuda": ("cuda",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt",),
}
# How new keys and values join the past ones: written in place by this project's kernels, or into blocks by the
# runtime's, appended in a buffer that past and present share, written into a buffer of fixed length, or joined into a
# new tensor.
KV_UPDATES = ("slots", "paged", "shared", "scatter", "concatenate")
# How the bytes of a graph's data file are arranged: as ONNX Runtime's operators read them, or as this project's do.
STANDARD_LAYOUT, PACKED_LAYOUT = "standard", "packed"
LAYOUTS = (STANDARD_LAYOUT, PACKED_LAYOUT)
# How weights are stored, and in which type a checkpoint's matrices are when nothing is quantized.
WEIGHTS = ("fp32", "fp16", "bf16", "int8", "int4", "fp8")
FLOAT_WEIGHTS = WEIGHTS[:3]
NO_WEIGHTS = "none"
ACTIVATIONS = ("none", "int8", "fp8")
METHODS = ("none", "rtn", "gptq", "awq", "smoothquant")
# What a KV cache may hold, by target: bfloat16 and FP8 have no kernel on the CPU, TensorRT's has floats alone.
KV_TYPES = {
    "cpu": ("float32", "float16", "int8"),
    "cuda": (*FLOAT_TYPES, "int8", "float8e4m3fn"),
    "tensorrt": FLOAT_TYPES,
}
# File names are plain: no separator, no leading dot, nothing that a file system reads in its own way.
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
SHA256 = re.compile(r"[0-9a-f]{64}")

Extensions = Mapping[str, Any]


@dataclass(frozen=True)
class ModelFacts:
    """The model's shape, names as in docs/BUNDLE.md. `license` is None where the checkpoint declares none."""

    name: str
    architecture: str
    license: str | None
    num_parameters: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int


@dataclass(frozen=True)
class RequiredFacts:
    """What a graph needs of a runtime: operator domains with their versions, and of our own kernels' library a version.

    `domains` has "ai.onnx" for the standard operators. `library` is None where no library of ours is needed.
    """

    domains: Mapping[str, int]
    library: str | None


@dataclass(frozen=True)
class GraphFacts:
    """One graph file, where it runs, its element types (of activations, of the KV cache), and how that cache grows.

    Logits are float32 whatever these are. Words are those of `TARGETS`, `KV_UPDATES`, `FLOAT_TYPES` and `KV_TYPES`, or
    of a later version: `graph_choice` says whether this one knows them.
    """

    file: str
    data_file: str | None
    layout: str
    target: str
    kv_update: str
    kv_type: str
    compute_type: str
    requires: RequiredFacts
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizationFacts:
    """What was stored in fewer bits, and by which method. The KV cache's type is each graph's own."""

    weights: str
    activations: str
    method: str


@dataclass(frozen=True)
class TokenizerFacts:
    """`num_tokens` is one more than the largest id; rows of the vocabulary beyond it are padding and never chosen."""

    file: str
    num_tokens: int


@dataclass(frozen=True)
class RoleFacts:
    """What the chat template puts before and after a message of one role."""

    before: str
    after: str


@dataclass(frozen=True)
class ChatFacts:
    """The chat template, rendered into pieces at export. A role that the template cannot place is None.

    A conversation is `opening` (only where no system message is given), each message between its role's pieces, and
    `generation`. The control tokens of these pieces are ids; those inside a message are text. `starts_in_thought`:
    `generation` opens a thought, although thinking was switched off when it was rendered.
    """

    opening: str
    system: RoleFacts | None
    user: RoleFacts
    assistant: RoleFacts | None
    generation: str
    starts_in_thought: bool = False


@dataclass(frozen=True)
class PrefixFacts:
    """The tokens that begin every prompt, and by KV type the files of their keys and values.

    A KV type without a file: computed at first opening.
    """

    num_tokens: int
    files: Mapping[str, str]


@dataclass(frozen=True)
class PromptFacts:
    """How values become a user's message: `template` holds each placeholder of `fields` once; other braces are text.

    `stop_ids` end a completion. `grammar` and `phrases` name files: what an answer may look like, and phrases that
    often occur in it.
    """

    fields: Mapping[str, str]
    template: str
    template_sha256: str
    template_source: str
    stop_ids: tuple[int, ...]
    prefix: PrefixFacts
    grammar: str | None = None
    phrases: str | None = None
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True)
class GenerationFacts:
    """Defaults of generation. Decoding is greedy unless the caller asks otherwise."""

    max_new_tokens: int


@dataclass(frozen=True)
class FileFacts:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class SourceFacts:
    """Where the checkpoint came from: a hub's repository and commit where known, and its files."""

    repo: str | None
    commit: str | None
    files: Mapping[str, FileFacts]


@dataclass(frozen=True)
class ProvenanceFacts:
    """Source, versions of the tools, and the command without its paths."""

    source: SourceFacts
    tools: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class Manifest:
    """What rubricrm.json says. `quality` is what the export measured, None where nothing was quantized.

    Without graphs it describes a prompt directory, for use with a server: it stores no weights then (`NO_WEIGHTS`).
    """

    model: ModelFacts
    graphs: tuple[GraphFacts, ...]
    quantization: QuantizationFacts
    tokenizer: TokenizerFacts
    chat: ChatFacts
    prompts: Mapping[str, PromptFacts]
    generation: GenerationFacts
    files: Mapping[str, FileFacts]
    provenance: ProvenanceFacts
    quality: Mapping[str, float] | None = None
    extensions: Extensions = field(default_factory=dict)
    format: str = field(default=FORMAT)
    format_version: int = field(default=FORMAT_VERSION)

    def to_json(self) -> str:
        """Return the manifest's text: UTF-8, sorted keys, so that equal manifests are equal bytes."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2, sort_keys=True) + "\n"

    @property
    def graph(self) -> GraphFacts:
        """The best graph: the first one.

        Raises:
            BundleInvalid: There is none.
        """
        if not self.graphs:
            raise BundleInvalid(
                f"{self.model.name}: this bundle has no graph: it is a prompt directory, for use with a server. Export "
                "the checkpoint with `rubricrm export onnx` to run it here."
            )
        return self.graphs[0]

    def has_data(self, graph: GraphFacts) -> bool:
        """Whether the bundle itself holds a graph's data."""
        return graph.data_file is None or graph.data_file in self.files

    def prompt_of(self, name: str) -> PromptFacts:
        """Return a prompt by its name: `RUBRIC` turns a request into a rubric, `JUDGE_PAIRWISE` compares two answers.

        Raises:
            BundleInvalid: There is none of this name.
        """
        if name not in self.prompts:
            has = ", ".join(self.prompts) or "nothing"
            remedy = (
                "Open it as what it is: RubricModel for rubric, JudgeModel for judge-pairwise."
                if PROMPT_FIELDS.keys() & self.prompts
                else "Export the bundle again."
            )
            raise BundleInvalid(f'{self.model.name}: "prompts" has {has}, expected {name} among them. {remedy}')
        return self.prompts[name]

    @property
    def prompt_name(self) -> str:
        """What the model is for: `RUBRIC` if it has that prompt, else the first other one that this version knows."""
        return next((name for name in PROMPT_FIELDS if name in self.prompts), RUBRIC)

    @property
    def prompt(self) -> PromptFacts:
        """The prompt of `prompt_name`.

        Raises:
            BundleInvalid: There is none.
        """
        return self.prompt_of(self.prompt_name)
