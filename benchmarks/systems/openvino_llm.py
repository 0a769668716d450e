"""OpenVINO GenAI's LLMPipeline on the CPU, with its defaults: prefix caching, keys and values in INT8, latency hint.

`int4-128` are converted by optimum-intel, as its documentation recommends: INT4 in groups of 128, embedding and head
too; `-sym` stores no zero points. `q4_0` and `q4_k_m` are the GGUF files that llama.cpp runs. `-dq128` quantizes
activations in groups of 128 instead of 32 (DYNAMIC_QUANTIZATION_GROUP_SIZE). Where products run in BF16 on AMX they are
not quantized at all, whatever the groups are; `-f32` asks for float32, with which they are (INFERENCE_PRECISION_HINT).
`-lookup` verifies drafts of two tokens by its prompt lookup.
There the graph is changed, so that it can be made to write a text: the embedding of the text's next token, times a
large number, is added to what the head multiplies.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = (
    "openvino-genai==2026.4.1.0",
    "openvino-tokenizers==2026.4.1.0",
    "numpy>=2",
    # They convert: torch and transformers come with them.
    "optimum-intel==2.2.0",
    "nncf==3.4.0",
    "torch==2.13.0",
)
_GROUPS_OF_128 = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
VARIANTS: dict[str, dict[str, Any]] = {
    "int4-128": {},
    "int4-128-dq128": _GROUPS_OF_128,
    "int4-128-f32-dq128": _GROUPS_OF_128 | {"INFERENCE_PRECISION_HINT": "f32"},
    "int4-128-sym-dq128": _GROUPS_OF_128,
    "q4_0": {},
    "q4_0-dq128": _GROUPS_OF_128,
    "q4_k_m": {},
    "int4-128-lookup": {},
    "int4-128-f32-dq128-lookup": _GROUPS_OF_128 | {"INFERENCE_PRECISION_HINT": "f32"},
}
# What its generation is asked for. Its sample drafts 5 tokens, but it always computes as many rows, drafted or not, and
# with what rows take here 2 are the best for published rubrics.
DRAFTING = {
    variant: {"num_assistant_tokens": 2, "max_ngram_size": 3} for variant in VARIANTS if variant.endswith("-lookup")
}
MODEL_OF = {
    "int4-128-dq128": "openvino_llm:int4-128",
    "int4-128-f32-dq128": "openvino_llm:int4-128",
    "int4-128-lookup": "openvino_llm:int4-128",
    "int4-128-f32-dq128-lookup": "openvino_llm:int4-128",
    "q4_0": "llama_cpp_python:q4_0",
    "q4_0-dq128": "llama_cpp_python:q4_0",
    "q4_k_m": "llama_cpp_python:q4_k_m",
}
_LONGEST = 1024  # positions of a text that is written
_FORCE = 1000.0
_PAGE = 4096
# Matrices whose inputs 128 does not divide get the largest group that does.
_EXPORT = (
    *("--task", "text-generation-with-past", "--disable-convert-tokenizer"),
    *("--weight-format", "int4", "--group-size", "128", "--group-size-fallback", "adjust", "--all-layers"),
)


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Convert by its documented command, in this process."""
    # It asks for torchvision, which a text model does not need and which may be of another build than torch.
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    from optimum.commands.optimum_cli import main as optimum_cli

    symmetric = ["--sym"] if "-sym" in variant else []
    sys.argv = ["optimum-cli", "export", "openvino", "-m", str(checkpoint), *_EXPORT, *symmetric, str(directory)]
    optimum_cli()


def _scripted(directory: Path) -> Path:
    """Return a copy whose head multiplies more of what the token at each row's position is to be."""
    target = directory.with_name(f"{directory.name}-scripted")
    if (target / "done").exists():
        return target
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    shutil.copytree(directory, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("openvino_model.*"))
    model = ov.Core().read_model(directory / "openvino_model.xml")
    embedding = next(node for node in model.get_ops() if node.get_type_name() == "Gather" and _is_of_ids(node))
    head = model.output("logits").get_node().input_value(0).get_node()
    while head.get_type_name() != "MatMul":
        head = head.input_value(0).get_node()
    table = ops.constant(np.arange(_LONGEST, dtype=np.int32), name="script")
    following = ops.gather(table, model.input("position_ids"), ops.constant(0))
    embedded = ops.gather(embedding.input_value(0), following, embedding.input_value(2))
    forced = ops.multiply(embedded, ops.constant(np.float32(_FORCE)))
    head.input(0).replace_source_output(ops.add(head.input_value(0), forced).output(0))
    ov.serialize(model, target / "openvino_model.xml")
    _move_script(target)
    (target / "done").touch()
    return target


def _is_of_ids(gather: Any) -> bool:
    """Whether a Gather's indices are the input, converted or not."""
    source = gather.input_value(1).get_node()
    if source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    return "input_ids" in source.output(0).get_names() if source.get_type_name() == "Parameter" else False


def _move_script(directory: Path) -> None:
    """Give the table pages of its own at the end of the data: one that is not aligned would be copied when opened."""
    graph, data = directory / "openvino_model.xml", directory / "openvino_model.bin"
    offset = -(-data.stat().st_size // _PAGE) * _PAGE
    with data.open("r+b") as file:
        file.truncate(offset + _PAGE)
    text, count = re.subn(
        r'(<layer [^>]*name="script"[^>]*>\s*<data [^>]*offset=")\d+"', rf'\g<1>{offset}"', graph.read_text("utf-8")
    )
    assert count == 1
    graph.write_text(text, "utf-8")


class OpenVinoModel:
    """A pipeline; tokens are counted as they come.

    Attributes:
        runs: The numbers that products run in, which depend on the processor.
        drafts: Tokens that the last run drafted, and those of them that were accepted; None: nothing is drafted.
    """

    def __init__(self, path: Path, threads: int, properties: dict[str, Any], drafting: dict[str, int] | None) -> None:
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        self._numpy, self._ov, self._genai, self._drafting = np, ov, genai, drafting or {}
        self._text: list[int] = []
        self.drafts: list[int] | None = None
        lookup = {}
        if drafting:
            path, lookup = _scripted(path), {"prompt_lookup": True}
            self._script = np.memmap(path / "openvino_model.bin", np.int32, "r+")[-_LONGEST:]
        self._pipeline = genai.LLMPipeline(str(path), "CPU", INFERENCE_NUM_THREADS=threads, **lookup, **properties)
        self.runs = _what_runs(ov.Core(), properties)

    def follow(self, text: Sequence[int]) -> None:
        """See `protocol`. The pipeline maps the file in which the text is put."""
        self._text = list(text)

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: it finds what it has seen by itself, and cannot be told to forget it."""
        if ids:
            self.run(ids, 1)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        genai = self._genai
        if self._text:
            self._script[len(ids) - 1 : len(ids) - 1 + len(self._text)] = self._text
            self._text = []
        moments: list[float] = []
        tokens: list[int] = []

        class Counter(genai.StreamerBase):  # type: ignore[misc]  # the module has no types here
            def write(self, token: Any) -> Any:
                now = time.perf_counter()
                for one in token if isinstance(token, list) else [token]:
                    moments.append(now)
                    tokens.append(int(one))
                return genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = new_tokens, True, False
        for key, value in self._drafting.items():
            setattr(config, key, value)
        given = self._numpy.array([list(ids)], self._numpy.int64)
        inputs = genai.TokenizedInputs(self._ov.Tensor(given), self._ov.Tensor(self._numpy.ones_like(given)))
        self._pipeline.generate(inputs, config, Counter())
        if self._drafting:
            steps = len(set(moments)) - 1  # the first token is the prompt's
            self.drafts = [steps * config.num_assistant_tokens, len(tokens) - 1 - steps]
        return moments, tokens


def _what_runs(core: Any, properties: dict[str, Any]) -> str:
    """Tell the pipeline's properties: it has no function that does."""
    core.set_property("CPU", properties)
    precision = core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
    return f"in {precision}, groups of {core.get_property('CPU', 'DYNAMIC_QUANTIZATION_GROUP_SIZE')}"


def open_model(directory: Path, variant: str, threads: int) -> OpenVinoModel:
    """See `protocol`."""
    gguf = directory / "model.gguf"
    path = gguf if gguf.is_file() else directory
    return OpenVinoModel(path, threads, VARIANTS[variant], DRAFTING.get(variant))


if __name__ == "__main__":
    main(prepare, open_model)
