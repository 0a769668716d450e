"""onnxruntime-genai with its own builder: INT4, INT8 activations in the products, past and present in one buffer.

Blocks of 32 are its default. `-pruned` computes the logits of a prompt's last token only (prune_lm_head). `-ngrams`
verifies drafts of its n-gram decoding. There its graph is changed, so that it can be made to write a text: the
embedding of the text's next token, times a large number, is added to what the head multiplies.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

# Its builder wants torch and transformers.
REQUIREMENTS = ("torch==2.13.0", "onnxruntime-genai==0.18.0", "transformers==5.14.1", "onnx-ir")
VARIANTS = {
    "int4-32": ["block_size=32"],
    "int4-128": ["block_size=128"],
    "int4-128-pruned": ["block_size=128", "prune_lm_head=true"],
    "int4-128-ngrams": ["block_size=128"],
}
MODEL_OF = {"int4-128-ngrams": "ort_genai:int4-128"}
# Four tokens are its default; for published rubrics n-grams of three are better than those of two or four.
DRAFTING: dict[str, dict[str, Any]] = {"int4-128-ngrams": {"ngram_size": 3, "max_draft_tokens": 4}}
_LENGTH = 1024  # of a generator that outlives a request
_SCRIPTED, _SCRIPT = "scripted.onnx", "script.data"
_FORCE = 1000.0


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Build for the CPU with activations of INT8 in the products (accuracy level 4), as it recommends."""
    with tempfile.TemporaryDirectory() as cache:
        options = [*VARIANTS[variant], "accuracy_level=4"]
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(checkpoint),
            "-o",
            str(directory),
        ]
        subprocess.run([*command, "-p", "int4", "-e", "cpu", "-c", cache, "--extra_options", *options], check=True)
    _require_block_size(directory / "model.onnx", 32 if variant == "int4-32" else 128)


def _require_block_size(path: Path, expected: int) -> None:
    """Look at what was built: the builder says nothing about options that it does not know."""
    import onnx_ir

    graph = onnx_ir.load(path).graph
    found = {node.attributes["block_size"].as_int() for node in graph if node.op_type == "MatMulNBits"}
    if found != {expected}:
        raise SystemExit(f"{path}: has blocks of {sorted(found)}, expected {expected}")


def _write_scripted(directory: Path) -> None:
    """Write the graph again: the head multiplies more of what the token at each row's position is to be.

    Those tokens lie in a file that the runtime maps, so that what is written there counts from then on.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(directory / "model.onnx", load_external_data=False)
    graph = model.graph
    embedding = next(node for node in graph.node if "input_ids" in node.input and "Gather" in node.op_type)
    head = next(node for node in graph.node if "logits" in node.output)
    embedded = onnx.NodeProto()
    embedded.CopyFrom(embedding)
    embedded.name, embedded.output[0] = "script/embedding", "script/embedded"
    embedded.input[list(embedding.input).index("input_ids")] = "script/next"
    table = onnx.TensorProto(name="script/table", data_type=TensorProto.INT64, dims=[_LENGTH])
    table.data_location = TensorProto.EXTERNAL
    for key, value in {"location": _SCRIPT, "offset": "0", "length": str(8 * _LENGTH)}.items():
        table.external_data.add(key=key, value=value)
    (directory / _SCRIPT).write_bytes(bytes(8 * _LENGTH))
    graph.initializer.append(table)
    graph.initializer.append(helper.make_tensor("script/one", TensorProto.INT64, [], [1]))
    graph.initializer.append(helper.make_tensor("script/force", TensorProto.FLOAT, [], [_FORCE]))
    nodes = [
        helper.make_node("ReduceSum", ["attention_mask"], ["script/end"], keepdims=0),
        helper.make_node("Shape", ["input_ids"], ["script/shape"], start=1, end=2),
        helper.make_node("Squeeze", ["script/shape"], ["script/rows"]),
        helper.make_node("Sub", ["script/end", "script/rows"], ["script/start"]),
        helper.make_node("Range", ["script/start", "script/end", "script/one"], ["script/positions"]),
        helper.make_node("Gather", ["script/table", "script/positions"], ["script/flat"]),
        helper.make_node("Reshape", ["script/flat", "script/input_shape"], ["script/next"]),
        embedded,
        helper.make_node("Mul", ["script/embedded", "script/force"], ["script/forced"]),
        helper.make_node("Add", [head.input[0], "script/forced"], ["script/hidden"]),
    ]
    nodes.insert(6, helper.make_node("Shape", ["input_ids"], ["script/input_shape"]))
    head.input[0] = "script/hidden"
    index = list(graph.node).index(head)
    for node in reversed(nodes):
        graph.node.insert(index, node)
    onnx.save(model, directory / _SCRIPTED)


class GenaiModel:
    """A model and the length that its buffers are made for.

    Attributes:
        drafts: Tokens that the last run drafted, and those of them that were accepted; None: nothing is drafted.
    """

    def __init__(self, directory: Path, threads: int, drafting: dict[str, Any] | None) -> None:
        import onnxruntime_genai as og

        path = directory / "genai_config.json"
        config = json.loads(path.read_text())
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
        path.write_text(json.dumps(config, indent=2))
        self._og, self._drafting, self._directory = og, drafting, directory
        config = og.Config(str(directory))
        if drafting:
            _write_scripted(directory)
            config.overlay(json.dumps({"model": {"decoder": {"filename": _SCRIPTED}}}))
        self._model = og.Model(config)
        self._kept: list[int] = []
        self._generator: Any = None
        self._text: list[int] = []
        self.drafts: list[int] | None = [0, 0] if drafting else None

    def follow(self, text: Sequence[int]) -> None:
        """See `protocol`."""
        self._text = list(text)

    def _set_script(self, start: int) -> None:
        """Let the text begin after so many positions."""
        import numpy as np

        table = np.memmap(self._directory / _SCRIPT, np.int64, "r+")
        table[start - 1 : start - 1 + len(self._text)] = self._text

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: a generator that is rewound to the end of these ids."""
        if self._kept == list(ids):
            return
        self._kept, self._generator = list(ids), None
        if ids:
            self._generator = self._new_generator(_LENGTH)
            self._generator.append_tokens(self._kept)

    def _new_generator(self, length: int) -> Any:
        parameters = self._og.GeneratorParams(self._model)
        # Drafts are taken only where an end needs no length.
        shortest = 0 if self._drafting else length
        parameters.set_search_options(do_sample=False, min_length=shortest, max_length=length)
        if self._drafting:
            parameters.set_speculative_options(**self._drafting)
        return self._og.Generator(self._model, parameters)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        generator = self._generator or self._new_generator(len(ids) + new_tokens)
        if self._kept:
            generator.rewind_to(len(self._kept))
        if self._text:
            self._set_script(len(ids))
        before = self._counts(generator)
        moments: list[float] = []
        tokens: list[int] = []
        generator.append_tokens(list(ids[len(self._kept) :]))
        while len(tokens) < new_tokens:
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            moments.append(time.perf_counter())
        self._text = []
        if self._drafting:
            self.drafts = [now - then for now, then in zip(self._counts(generator), before, strict=True)]
        return moments, tokens

    def _counts(self, generator: Any) -> list[int]:
        found = generator.get_speculative_stats() if self._drafting else {}
        return [found.get("draft_tokens_proposed", 0), found.get("draft_tokens_accepted", 0)]


def open_model(directory: Path, variant: str, threads: int) -> GenaiModel:
    """See `protocol`."""
    return GenaiModel(directory, threads, DRAFTING.get(variant))


if __name__ == "__main__":
    main(prepare, open_model)
