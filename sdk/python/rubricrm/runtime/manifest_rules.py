"""What the types of a manifest do not say: ranges, names, and that its parts agree. The rules of docs/BUNDLE.md."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from itertools import pairwise

from rubricrm.errors import BundleInvalid
from rubricrm.runtime.manifest import (
    ACTIVATIONS,
    FILE_NAME,
    FLOAT_WEIGHTS,
    METHODS,
    NO_WEIGHTS,
    SHA256,
    WEIGHTS,
    GraphFacts,
    Manifest,
    PromptFacts,
    QuantizationFacts,
)


class _Rules:
    """One manifest's path, for messages."""

    def __init__(self, where: str) -> None:
        self._where = where

    def require(self, condition: bool, key: str, got: object, expected: str) -> None:
        if not condition:
            raise BundleInvalid(f'{self._where}: "{key}" is {got!r:.80}, expected {expected}. Export the bundle again.')


def check(manifest: Manifest, where: str) -> None:
    """Check a manifest whose types are right; `where` is the file's path, for messages.

    Raises:
        BundleInvalid: A value is out of range, or contradicts another. The key is named.
    """
    rules = _Rules(where)
    for name, value in vars(manifest.model).items():
        if isinstance(value, int):
            rules.require(value > 0, f"model.{name}", value, "a positive number")
    _check_quantization(rules, manifest.quantization, manifest.graphs)
    for name, entry in manifest.files.items():
        rules.require(FILE_NAME.fullmatch(name) is not None, "files", name, "plain file names inside the bundle")
        rules.require(entry.size >= 0, f"files.{name}.size", entry.size, "at least 0")
        rules.require(SHA256.fullmatch(entry.sha256) is not None, f"files.{name}.sha256", entry.sha256, "64 hex digits")
    for key, name in _named_files(manifest):
        rules.require(name in manifest.files, key, name, 'a name listed in "files"')
    _check_data_files(rules, manifest)
    for index, graph in enumerate(manifest.graphs):
        _check_required(rules, f"graphs[{index}].requires", graph)
    num_tokens, limit = manifest.tokenizer.num_tokens, manifest.model.vocab_size
    rules.require(0 < num_tokens <= limit, "tokenizer.num_tokens", num_tokens, f"1 to model.vocab_size {limit}")
    for name, prompt in manifest.prompts.items():
        _check_prompt(rules, f"prompts.{name}", prompt, manifest)
    most = manifest.generation.max_new_tokens
    rules.require(most > 0, "generation.max_new_tokens", most, "a positive number")
    for name, figure in (manifest.quality or {}).items():
        rules.require(math.isfinite(figure), f"quality.{name}", figure, "a finite number")


def _check_quantization(rules: _Rules, facts: QuantizationFacts, graphs: tuple[GraphFacts, ...]) -> None:
    stored = WEIGHTS if graphs else (NO_WEIGHTS,)
    for name, allowed in (("weights", stored), ("activations", ACTIVATIONS), ("method", METHODS)):
        value = getattr(facts, name)
        rules.require(value in allowed, f"quantization.{name}", value, f"one of {', '.join(allowed)}")
    if facts.weights in (*FLOAT_WEIGHTS, NO_WEIGHTS):
        reason = f"none where weights are {facts.weights}"
        rules.require(facts.method == "none", "quantization.method", facts.method, reason)
        rules.require(facts.activations == "none", "quantization.activations", facts.activations, reason)
    else:
        methods = f"one of {', '.join(METHODS[1:])} for {facts.weights}"
        rules.require(facts.method != "none", "quantization.method", facts.method, methods)
        # Products are of two operands of one type: W8A8 in integers, or in FP8.
        same = facts.activations in ("none", facts.weights)
        expected = f"none or {facts.weights}, as the weights"
        rules.require(same, "quantization.activations", facts.activations, expected)


def _check_required(rules: _Rules, key: str, graph: GraphFacts) -> None:
    domains = graph.requires.domains
    rules.require(bool(domains), f"{key}.domains", dict(domains), "at least one operator domain")
    for domain, version in domains.items():
        rules.require(version > 0, f"{key}.domains.{domain}", version, "a positive number")


def _check_data_files(rules: _Rules, manifest: Manifest) -> None:
    """The data of one graph at least are there: those of others are derived from them."""
    named = [graph.data_file for graph in manifest.graphs if graph.data_file is not None]
    are_there = not named or any(name in manifest.files for name in named)
    rules.require(are_there, "graphs[].data_file", named, 'the data file of at least one graph listed in "files"')


def _check_prompt(rules: _Rules, key: str, prompt: PromptFacts, manifest: Manifest) -> None:
    rules.require(bool(prompt.fields), f"{key}.fields", dict(prompt.fields), "at least one field")
    for name, placeholder in prompt.fields.items():
        once = bool(placeholder) and prompt.template.count(placeholder) == 1
        rules.require(once, f"{key}.template", prompt.template, f"{placeholder or name!r} once")
    rules.require(_are_apart(prompt), f"{key}.fields", dict(prompt.fields), "placeholders that do not overlap")
    digest = hashlib.sha256(prompt.template.encode("utf-8", "surrogatepass")).hexdigest()
    rules.require(prompt.template_sha256 == digest, f"{key}.template_sha256", prompt.template_sha256, digest)
    limit, ids = manifest.model.vocab_size, prompt.stop_ids
    rules.require(len(ids) > 0, f"{key}.stop_ids", ids, "at least one id")
    rules.require(all(0 <= i < limit for i in ids), f"{key}.stop_ids", ids, f"ids below {limit}")
    length, context = prompt.prefix.num_tokens, manifest.model.context_length
    expected = f"0 to below model.context_length {context}"
    rules.require(0 <= length < context, f"{key}.prefix.num_tokens", length, expected)
    used = sorted({graph.kv_type for graph in manifest.graphs})
    for kv_type in prompt.prefix.files:
        rules.require(kv_type in used, f"{key}.prefix.files", kv_type, f"KV types of the graphs ({', '.join(used)})")


def _are_apart(prompt: PromptFacts) -> bool:
    spans = sorted((prompt.template.index(p), prompt.template.index(p) + len(p)) for p in prompt.fields.values())
    return all(end <= start for (_, end), (start, _) in pairwise(spans))


def _named_files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield each key that names a file of the bundle, and the name."""
    named: list[tuple[str, str | None]] = [("tokenizer.file", manifest.tokenizer.file)]
    for index, graph in enumerate(manifest.graphs):
        named.append((f"graphs[{index}].file", graph.file))
    for name, prompt in manifest.prompts.items():
        named += [(f"prompts.{name}.prefix.files.{kv}", file) for kv, file in prompt.prefix.files.items()]
        named += [(f"prompts.{name}.grammar", prompt.grammar), (f"prompts.{name}.phrases", prompt.phrases)]
    for key, file in named:
        if file is not None:
            yield key, file
