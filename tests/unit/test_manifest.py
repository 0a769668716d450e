"""The manifest: what is written can be read, and whatever is wrong is named."""

import copy
import functools
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import BundleInvalid, BundleVersionUnsupported, RubricrmError
from rubricrm.runtime.manifest import ACTIVATIONS, FORMAT_VERSION, METHODS, WEIGHTS, Manifest
from rubricrm.runtime.manifest_reader import read_manifest

Document = dict[str, Any]
Path_ = tuple[str | int, ...]

WHERE = "bundle/rubricrm.json"
# Objects whose keys are names, not part of the format.
MAPPINGS = {
    ("files",),
    ("graphs", 0, "requires", "domains"),
    ("prompts",),
    ("prompts", "rubric", "fields"),
    ("prompts", "rubric", "prefix", "files"),
    ("provenance", "source", "files"),
    ("provenance", "tools"),
}
# Objects that may hold anything.
OPEN = {("extensions",), ("graphs", 0, "extensions"), ("prompts", "rubric", "extensions")}
NULLABLE = {
    ("model", "license"): "text",
    ("chat", "system"): {},
    ("chat", "assistant"): {},
    ("graphs", 0, "data_file"): "text",
    ("graphs", 0, "requires", "library"): "text",
    ("prompts", "rubric", "grammar"): "text",
    ("prompts", "rubric", "phrases"): "text",
    ("provenance", "source", "repo"): "text",
    ("provenance", "source", "commit"): "text",
    ("quality",): {},
}
ANY_TYPE: tuple[object, ...] = (None, True, 3, 0.5, "text", [], {})


@pytest.fixture(scope="module")
def document(tiny_bundle: Path) -> Document:
    """The tiny bundle's manifest with model.onnx alone, parsed; for reading only."""
    parsed: Document = json.loads((tiny_bundle / "rubricrm.json").read_text("utf-8"))
    parsed["graphs"] = [graph for graph in parsed["graphs"] if graph["kv_update"] == "shared"]
    del parsed["files"]["model.step.onnx"]
    prefix = parsed["prompts"]["rubric"]["prefix"]
    prefix["files"] = {"float32": prefix["files"]["float16"]}
    return parsed


def read(document: object) -> Manifest:
    return read_manifest(json.dumps(document), WHERE)


def key_paths(node: object, path: Path_ = ()) -> Iterator[Path_]:
    members = node.items() if isinstance(node, dict) else enumerate(node) if is_list_of_objects(node) else ()
    for name, value in members:
        yield (*path, name)
        yield from key_paths(value, (*path, name))


def is_list_of_objects(node: object) -> TypeGuard[list[object]]:
    return isinstance(node, list) and all(isinstance(item, dict) for item in node)


def named(path: Path_) -> str:
    """A key's path as messages write it: "graphs[0].file"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def object_paths(document: Document) -> list[Path_]:
    paths = [path for path in key_paths(document) if isinstance(at(document, path), dict)]
    return [(), *(path for path in paths if path not in MAPPINGS | OPEN)]


def at(document: Document, path: Path_) -> Any:
    node: Any = document
    for name in path:
        node = node[name]
    return node


def changed(document: Document, path: Path_, value: object) -> Document:
    document = copy.deepcopy(document)
    at(document, path[:-1])[path[-1]] = value
    return document


def without(document: Document, path: Path_) -> Document:
    document = copy.deepcopy(document)
    del at(document, path[:-1])[path[-1]]
    return document


def failure(document: object) -> str:
    with pytest.raises((BundleInvalid, BundleVersionUnsupported)) as caught:
        read(document)
    return str(caught.value)


def test_what_was_written_is_read_back_byte_for_byte(tiny_bundle: Path) -> None:
    text = (tiny_bundle / "rubricrm.json").read_text("utf-8")
    manifest = read_manifest(text, WHERE)
    assert manifest.to_json() == text
    assert read_manifest(manifest.to_json(), WHERE) == manifest


def test_every_key_is_required_and_named_when_missing(document: Document) -> None:
    for path in key_paths(document):
        if path[:-1] not in MAPPINGS and not isinstance(path[-1], int):
            message = failure(without(document, path))
            assert f'"{named(path)}"' in message, path
            assert WHERE in message, path


def test_every_key_of_a_wrong_type_is_named(document: Document) -> None:
    for path in key_paths(document):
        right = at(document, path)
        allowed = [right if right is not None else NULLABLE[path], *([None] if path in NULLABLE else [])]
        for wrong in ANY_TYPE:
            if type(wrong) not in map(type, allowed):
                assert f'"{named(path)}' in failure(changed(document, path, wrong)), (path, wrong)


def test_every_unknown_key_is_named(document: Document) -> None:
    for path in object_paths(document):
        message = failure(changed(document, (*path, "colour"), 1))
        assert f'"{named((*path, "colour"))}" is not a key' in message, path


def test_keys_that_may_be_null_may_be_null(document: Document) -> None:
    for path in NULLABLE:
        # A name that is not listed is another matter.
        changed_document = changed(document, path, None)
        assert json.loads(read(changed_document).to_json()) == changed_document, path


def test_a_whole_number_is_read_where_quality_has_a_fraction(document: Document) -> None:
    assert read(changed(document, ("quality",), {"top1_agreement": 1})).quality == {"top1_agreement": 1.0}


def test_a_newer_format_asks_for_an_upgrade(document: Document) -> None:
    with pytest.raises(BundleVersionUnsupported, match=f'"format_version" is 99.*reads {FORMAT_VERSION}.*Upgrade'):
        read(changed(document, ("format_version",), 99) | {"a_new_key": 1})


@pytest.mark.parametrize("version", [0, 1, -1, None, True, "2", 2.5], ids=repr)
def test_an_older_or_odd_format_asks_for_another_export(document: Document, version: object) -> None:
    with pytest.raises(BundleVersionUnsupported, match="Export the bundle again"):
        read(changed(document, ("format_version",), version))


def test_a_format_version_that_only_equals_the_number_is_refused(document: Document) -> None:
    with pytest.raises(BundleInvalid, match='"format_version"'):
        read(changed(document, ("format_version",), float(FORMAT_VERSION)))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '"text"', "1", "\ufeff{}", "[" * 100_000, "9" * 5_000, '{"format": NaN}', "{} {}"],
    ids=["empty", "cut", "null", "list", "string", "number", "bom", "deep", "long-number", "nan", "two"],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(BundleInvalid, match=WHERE):
        read_manifest(text, WHERE)


def test_a_key_that_stands_twice_is_refused(document: Document) -> None:
    """Readers would differ in which of the two they take."""
    text = json.dumps(document)
    with pytest.raises(BundleInvalid, match='not JSON .*the key "format" stands twice'):
        read_manifest('{"format": "rubricrm-bundle", ' + text[1:], WHERE)
    with pytest.raises(BundleInvalid, match='the key "size" stands twice'):
        read_manifest(text.replace('"size":', '"size": 1, "size":', 1), WHERE)


def test_the_json_of_another_program_is_refused() -> None:
    with pytest.raises(BundleInvalid, match='"format" is not "rubricrm-bundle"'):
        read({"format": "something-else", "format_version": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.num_parameters", 0),
        ("model.hidden_size", -1),
        ("model.intermediate_size", 0),
        ("model.num_layers", 0),
        ("model.num_heads", 0),
        ("model.num_kv_heads", -2),
        ("model.head_dim", 0),
        ("model.vocab_size", 0),
        ("model.context_length", 0),
        ("quantization.weights", "int3"),
        ("quantization.activations", "int4"),
        ("quantization.method", "magic"),
        ("tokenizer.file", "other.json"),
        ("tokenizer.num_tokens", 0),
        ("tokenizer.num_tokens", 10**9),
        ("prompts.rubric.template", "no field"),
        ("prompts.rubric.template", "{prompt} {prompt}"),
        ("prompts.rubric.template_sha256", "0" * 64),
        ("prompts.rubric.stop_ids", []),
        ("prompts.rubric.stop_ids", [-1]),
        ("prompts.rubric.stop_ids", [10**9]),
        ("prompts.rubric.prefix.num_tokens", -1),
        ("prompts.rubric.prefix.num_tokens", 2048),
        ("prompts.rubric.grammar", "other.npz"),
        ("prompts.rubric.phrases", "other.npz"),
        ("generation.max_new_tokens", 0),
        ("generation.max_new_tokens", -7),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_out_of_range_are_named_and_quoted(document: Document, key: str, value: object) -> None:
    message = failure(changed(document, tuple(key.split(".")), value))
    assert f'"{key}" is ' in message
    assert str(value).strip("[]") in message


def quantized(document: Document, **facts: str) -> Document:
    """The document with other facts of quantization."""
    document = copy.deepcopy(document)
    document["quantization"] |= facts
    return document


POSSIBLE = [
    {"weights": "fp32"},
    {"weights": "fp16"},
    {"weights": "int8", "method": "rtn"},
    {"weights": "int8", "activations": "int8", "method": "smoothquant"},
    {"weights": "int4", "method": "gptq"},
    {"weights": "int4", "method": "awq"},
    {"weights": "fp8", "method": "rtn"},
    {"weights": "fp8", "activations": "fp8", "method": "rtn"},
    {"weights": "bf16"},
]
IMPOSSIBLE = {
    "no-method": ({"weights": "int4"}, "method", "one of rtn, gptq, awq, smoothquant for int4"),
    "method-of-floats": ({"weights": "fp16", "method": "gptq"}, "method", "none where weights are fp16"),
    "activations-of-floats": ({"weights": "bf16", "activations": "int8"}, "activations", "none where weights are bf16"),
    "w4a8": ({"weights": "int4", "activations": "int8", "method": "rtn"}, "activations", "none or int4"),
    "mixed": ({"weights": "int8", "activations": "fp8", "method": "rtn"}, "activations", "none or int8"),
}


@pytest.mark.parametrize("facts", POSSIBLE, ids=lambda facts: "-".join(facts.values()))
def test_what_can_be_quantized_together_is_read(document: Document, facts: dict[str, str]) -> None:
    possible = quantized(document, **facts)
    assert json.loads(read(possible).to_json()) == possible
    schema().validate(possible)


@pytest.mark.parametrize(("facts", "key", "expected"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_quantized_together_is_named(
    document: Document, facts: dict[str, str], key: str, expected: str
) -> None:
    impossible = quantized(document, **facts)
    message = failure(impossible)
    assert f'"quantization.{key}" is ' in message
    assert expected in message
    assert not schema().is_valid(impossible)


def test_schema_and_reader_know_the_same_quantization(document: Document) -> None:
    """Every combination of the words, and one unknown word in each place: refused by both or by none."""
    for weights in (*WEIGHTS, "int2"):
        for activations in (*ACTIVATIONS, "int16"):
            for method in (*METHODS, "magic"):
                facts = quantized(document, weights=weights, activations=activations, method=method)
                try:
                    read(facts)
                except BundleInvalid:
                    assert not schema().is_valid(facts), (weights, activations, method)
                else:
                    assert schema().is_valid(facts), (weights, activations, method)


@functools.cache
def schema() -> jsonschema.Draft202012Validator:
    path = Path(__file__).resolve().parents[2] / "docs/bundle.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text("utf-8")))


def test_a_stop_id_of_a_wrong_type_is_named_by_its_place(document: Document) -> None:
    assert '"prompts.rubric.stop_ids[1]"' in failure(changed(document, ("prompts", "rubric", "stop_ids"), [0, "2"]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_quality_is_a_finite_number(document: Document, value: float) -> None:
    failure(changed(document, ("quality",), {"kl": value}))


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400], ids=["fraction", "whole"])
def test_quality_too_large_for_a_float_is_refused(document: Document, number: str) -> None:
    text = json.dumps(changed(document, ("quality",), {"kl": 12345})).replace("12345", number)
    with pytest.raises(BundleInvalid, match='"quality.kl"'):
        read_manifest(text, WHERE)


def test_a_changed_template_does_not_fit_its_hash(document: Document) -> None:
    template = document["prompts"]["rubric"]["template"] + " Be strict."
    message = failure(changed(document, ("prompts", "rubric", "template"), template))
    assert '"prompts.rubric.template_sha256"' in message


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "", "/etc/passwd", "a/b", ".hidden", "a\\b", "C:x", "a\0b", "a\n", "-o", "é.onnx", "a b"],
    ids=repr,
)
def test_a_file_name_is_plain(document: Document, name: str) -> None:
    facts = {"size": 1, "sha256": "0" * 64}
    assert '"files"' in failure(changed(document, ("files", name), facts))


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"size": -1, "sha256": "0" * 64}, "size"),
        ({"size": 1, "sha256": "0" * 63}, "sha256"),
        ({"size": 1, "sha256": "G" * 64}, "sha256"),
        ({"size": 1, "sha256": "A" * 64}, "sha256"),
    ],
    ids=["negative", "short", "no-hex", "upper-case"],
)
def test_size_and_hash_of_a_file_are_checked(document: Document, facts: Document, key: str) -> None:
    assert f'"files.more.bin.{key}"' in failure(changed(document, ("files", "more.bin"), facts))


def test_a_manifest_holds_no_absolute_path(document: Document, tiny_bundle: Path) -> None:
    manifests = [document]
    demo = Path(__file__).resolve().parents[2] / "sdk/python/rubricrm/demo_bundle/rubricrm.json"
    if demo.exists():
        manifests.append(json.loads(demo.read_text("utf-8")))
    for manifest in manifests:
        for word in (word for text in strings(manifest) for word in text.split()):
            assert not word.startswith(("/", "~", "file:")), word
            assert not word[1:].startswith(":\\"), word
    assert str(tiny_bundle.parent) not in json.dumps(document)


def strings(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield name
            yield from strings(value)
    elif isinstance(node, list):
        for item in node:
            yield from strings(item)
    elif isinstance(node, str):
        yield node


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
surrogates = st.text(st.characters(categories=["Cs", "L"]), max_size=3)
json_values = st.recursive(
    scalars | surrogates,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(choices=st.data(), num_changes=st.integers(1, 3))
def test_any_mutation_gives_a_manifest_or_a_typed_error(
    document: Document, choices: st.DataObject, num_changes: int
) -> None:
    mutated = copy.deepcopy(document)
    for _ in range(num_changes):
        paths = list(key_paths(mutated))
        if not paths:
            break
        path = choices.draw(st.sampled_from(paths))
        if choices.draw(st.booleans()):
            mutated = changed(mutated, path, choices.draw(json_values))
        else:
            mutated = without(mutated, path)
    text = json.dumps(mutated)
    with suppress(RubricrmError):
        manifest = read_manifest(text, WHERE)
        assert read_manifest(manifest.to_json(), WHERE) == manifest


@settings(max_examples=200)
@given(st.text(max_size=50) | st.from_regex(r'\{"format": "rubricrm-bundle", ?"format_version": ?[\d.e+-]{1,6}.{0,9}'))
def test_any_text_gives_a_typed_error(text: str) -> None:
    with pytest.raises(RubricrmError):
        read_manifest(text, WHERE)
