"""The bundle's manifest: what a bundle says of itself, as types. The contract is docs/BUNDLE.md.

Reading checks every key that the runtime uses: what is missing, of the wrong type or out of range is a
`BundleInvalid` that names the key. Keys that this version does not know are an error too: a bundle of the same
format version holds none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, get_args, get_origin, get_type_hints

from rubricrm.errors import BundleInvalid, BundleVersionUnsupported

FORMAT = "rubricrm-bundle"
FORMAT_VERSION = 1
REQUEST_FIELD = "{prompt}"

FLOAT_TYPES = ("float32", "float16", "bfloat16")
TARGETS = ("cpu", "cuda", "tensorrt")
# Where bundles run, and those of which targets. What is exported for TensorRT is standard ONNX: a CPU runs it too, for
# checking.
DEVICES = {
    "cpu": ("cpu", "tensorrt"),
    "cuda": ("cuda",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt",),
}
# How new keys and values join the past ones: appended by the attention kernel in a buffer that both share, written into
# a buffer of fixed length, or joined into a new tensor.
KV_UPDATES = ("shared", "scatter", "concatenate")
# How weights are stored, and in which type a checkpoint's matrices are when nothing is quantized.
WEIGHTS = ("fp32", "fp16", "bf16", "int8", "int4", "fp8")
FLOAT_WEIGHTS = WEIGHTS[:3]
ACTIVATIONS = ("none", "int8", "fp8")
METHODS = ("none", "rtn", "gptq", "awq", "smoothquant")
# What a KV cache may hold, by target: bfloat16 and FP8 have no kernel on the CPU, TensorRT's has floats alone.
KV_TYPES = {
    "cpu": ("float32", "float16", "int8"),
    "cuda": (*FLOAT_TYPES, "int8", "float8e4m3fn"),
    "tensorrt": FLOAT_TYPES,
}
# Ways to append to it, by target.
_KV_UPDATES = {"cpu": ("shared", "concatenate"), "cuda": ("shared",), "tensorrt": ("scatter",)}
# File names are plain: no separator, no leading dot, nothing that a file system reads in its own way.
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
SHA256 = re.compile(r"[0-9a-f]{64}")


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
class GraphFacts:
    """Which file to run, on which device, its element types (of activations, of the KV cache), and how that grows.

    Logits are float32 whatever these are. `kv_update` is one of `KV_UPDATES`.
    """

    file: str
    target: str
    kv_update: str
    compute_type: str
    kv_type: str


@dataclass(frozen=True)
class QuantizationFacts:
    """What was stored in fewer bits, and by which method. `kv_cache` repeats `graph.kv_type`."""

    weights: str
    activations: str
    kv_cache: str
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
    `generation`. The control tokens of these pieces are ids; those inside a message are text.
    """

    opening: str
    system: RoleFacts | None
    user: RoleFacts
    assistant: RoleFacts | None
    generation: str


@dataclass(frozen=True)
class PromptFacts:
    """How a request becomes a prompt: the template holds `{prompt}` once, `stop_ids` end a completion."""

    template: str
    template_sha256: str
    template_source: str
    chat: ChatFacts
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class PrefixFacts:
    """The tokens that begin every prompt, and the file of their keys and values (None: computed at first open)."""

    num_tokens: int
    file: str | None


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
    """All of rubricrm.json. `quality` is what the export measured, None where nothing was quantized."""

    model: ModelFacts
    graph: GraphFacts
    quantization: QuantizationFacts
    tokenizer: TokenizerFacts
    prompt: PromptFacts
    prefix: PrefixFacts
    generation: GenerationFacts
    files: Mapping[str, FileFacts]
    provenance: ProvenanceFacts
    quality: Mapping[str, float] | None = None
    format: str = field(default=FORMAT)
    format_version: int = field(default=FORMAT_VERSION)

    def to_json(self) -> str:
        """Return the manifest's text: UTF-8, sorted keys, so that equal manifests are equal bytes."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read and check a manifest.

        Args:
            text: Contents of rubricrm.json.
            where: The file's path, for messages.

        Raises:
            BundleInvalid: Not JSON, a key missing, unknown, of the wrong type, out of range or in contradiction.
            BundleVersionUnsupported: Another format version.
        """
        try:
            document = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleInvalid(f"{where}: not JSON ({error}). Export the bundle again.") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise BundleInvalid(f'{where}: "format" is not "{FORMAT}": this is no manifest of a rubricrm bundle.')
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            remedy = "Upgrade rubricrm." if newer else "Export the bundle again with this version."
            raise BundleVersionUnsupported(
                f'{where}: "format_version" is {version!r}, this rubricrm reads {FORMAT_VERSION}. {remedy}'
            )
        manifest: Self = _read(document, cls, where, "")
        _check(manifest, where)
        return manifest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _read(value: Any, kind: Any, where: str, key: str) -> Any:
    """Turn parsed JSON into `kind`, one of the types that the dataclasses of this module use."""
    if dataclasses.is_dataclass(kind):
        return _read_object(value, kind, where, key)
    if get_origin(kind) is tuple:
        items = _expect(value, list, where, key)
        return tuple(_read(item, get_args(kind)[0], where, f"{key}[{n}]") for n, item in enumerate(items))
    if get_origin(kind) is Mapping:
        items = _expect(value, dict, where, key)
        return {name: _read(item, get_args(kind)[1], where, f"{key}.{name}") for name, item in items.items()}
    if type(None) in get_args(kind):
        return None if value is None else _read(value, get_args(kind)[0], where, key)
    if kind is float and type(value) is int and abs(value) <= 2**53:  # beyond, a float is another number
        return float(value)
    return _expect(value, kind, where, key)


def _read_object(value: Any, kind: Any, where: str, key: str) -> Any:
    members = _expect(value, dict, where, key)
    types = get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in types:
        if name not in members:
            raise BundleInvalid(f'{where}: "{prefix}{name}" is missing. Export the bundle again.')
    for name in members:
        if name not in types:
            raise BundleInvalid(f'{where}: "{prefix}{name}" is not a key of format {FORMAT_VERSION}. Remove it.')
    return kind(**{name: _read(members[name], types[name], where, prefix + name) for name in types})


def _expect(value: Any, kind: type, where: str, key: str) -> Any:
    # type() and not isinstance(): JSON's true is not the number 1.
    if type(value) is not kind:
        raise BundleInvalid(f'{where}: "{key}" is {value!r:.60}, expected {kind.__name__}. Export the bundle again.')
    return value


def _check(manifest: Manifest, where: str) -> None:
    """Check what types do not say: ranges, names, and that the parts agree."""

    def require(condition: bool, key: str, got: object, expected: str) -> None:
        if not condition:
            raise BundleInvalid(f'{where}: "{key}" is {got!r:.80}, expected {expected}. Export the bundle again.')

    for name, value in vars(manifest.model).items():
        if isinstance(value, int):
            require(value > 0, f"model.{name}", value, "a positive number")
    graph, prompt, files = manifest.graph, manifest.prompt, manifest.files
    require(graph.target in TARGETS, "graph.target", graph.target, f"one of {', '.join(TARGETS)}")
    floats = f"one of {', '.join(FLOAT_TYPES)}"
    require(graph.compute_type in FLOAT_TYPES, "graph.compute_type", graph.compute_type, floats)
    kv_types = KV_TYPES[graph.target]
    expected = f"one of {', '.join(kv_types)} for the target {graph.target}"
    require(graph.kv_type in kv_types, "graph.kv_type", graph.kv_type, expected)
    updates = _KV_UPDATES[graph.target]
    expected = f"one of {', '.join(updates)} for the target {graph.target}"
    require(graph.kv_update in updates, "graph.kv_update", graph.kv_update, expected)
    _check_quantization(manifest.quantization, graph, require)
    for name, entry in files.items():
        require(FILE_NAME.fullmatch(name) is not None, "files", name, "plain file names inside the bundle")
        require(entry.size >= 0, f"files.{name}.size", entry.size, "at least 0")
        require(SHA256.fullmatch(entry.sha256) is not None, f"files.{name}.sha256", entry.sha256, "64 hex digits")
    for key, name in _named_files(manifest):
        require(name in files, key, name, 'a name listed in "files"')
    num_tokens = manifest.tokenizer.num_tokens
    limit = manifest.model.vocab_size
    require(0 < num_tokens <= limit, "tokenizer.num_tokens", num_tokens, f"1 to model.vocab_size {limit}")
    require(prompt.template.count(REQUEST_FIELD) == 1, "prompt.template", prompt.template, f"{REQUEST_FIELD} once")
    digest = hashlib.sha256(prompt.template.encode("utf-8", "surrogatepass")).hexdigest()
    require(prompt.template_sha256 == digest, "prompt.template_sha256", prompt.template_sha256, digest)
    require(len(prompt.stop_ids) > 0, "prompt.stop_ids", prompt.stop_ids, "at least one id")
    require(all(0 <= i < limit for i in prompt.stop_ids), "prompt.stop_ids", prompt.stop_ids, f"ids below {limit}")
    length, context = manifest.prefix.num_tokens, manifest.model.context_length
    require(0 <= length < context, "prefix.num_tokens", length, f"0 to below model.context_length {context}")
    most = manifest.generation.max_new_tokens
    require(most > 0, "generation.max_new_tokens", most, "a positive number")
    for name, figure in (manifest.quality or {}).items():
        require(math.isfinite(figure), f"quality.{name}", figure, "a finite number")


def _check_quantization(
    facts: QuantizationFacts, graph: GraphFacts, require: Callable[[bool, str, object, str], None]
) -> None:
    for name, allowed in (("weights", WEIGHTS), ("activations", ACTIVATIONS), ("method", METHODS)):
        value = getattr(facts, name)
        require(value in allowed, f"quantization.{name}", value, f"one of {', '.join(allowed)}")
    kv = facts.kv_cache
    require(kv == graph.kv_type, "quantization.kv_cache", kv, f"graph.kv_type, which is {graph.kv_type}")
    if facts.weights in FLOAT_WEIGHTS:
        reason = f"none where weights are {facts.weights}"
        require(facts.method == "none", "quantization.method", facts.method, reason)
        require(facts.activations == "none", "quantization.activations", facts.activations, reason)
    else:
        methods = ", ".join(METHODS[1:])
        require(facts.method != "none", "quantization.method", facts.method, f"one of {methods} for {facts.weights}")
        # Products are of two operands of one type: W8A8 in integers, or in FP8.
        same = facts.activations in ("none", facts.weights)
        require(same, "quantization.activations", facts.activations, f"none or {facts.weights}, as the weights")


def _named_files(manifest: Manifest) -> list[tuple[str, str]]:
    named = [("graph.file", manifest.graph.file), ("tokenizer.file", manifest.tokenizer.file)]
    if manifest.prefix.file is not None:
        named.append(("prefix.file", manifest.prefix.file))
    return named
