"""What runs on the GPU machine: the commands for each reader, its pinned version, and a README that shows them.

Checked against the documents of the pinned versions. None of it was run on a GPU.
"""

from __future__ import annotations

import json
from typing import Any

from rubricrm.rubric.form import regex
from rubricrm.runtime.manifest import REQUEST_FIELD, RUBRIC, Manifest

from rubricrm_export.tensorrt.job import EngineLimits
from rubricrm_export.tensorrt.support import Choice

# Each the newest whose documents were read.
VERSIONS = {
    "tensorrt-llm": "tensorrt-llm==1.3.0rc27",
    # The last release with trtllm-build.
    "tensorrt-llm-1.2": "tensorrt-llm==1.2.1",
    "edge-llm": "tensorrt-edgellm[export]==0.11.0",
    "vllm": "vllm==0.33.0",
}
# NVIDIA's package index. Pip's own holds a placeholder of tensorrt-llm alone, which fails when it is installed.
_INDEX = "https://pypi.nvidia.com"

EXAMPLE = "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question."

_ADDRESS = ("--host", "127.0.0.1", "--port", "8000")
_MAX_DRAFT = 4
_NGRAM = 3


def files(choice: Choice, limits: EngineLimits, manifest: Manifest) -> dict[str, str]:
    """Return the texts of README.md, build.sh and what a reader is configured by."""
    reader = choice.format.reader
    texts = {"build.sh": build_script(reader, choice, limits)}
    if reader == "tensorrt-llm":
        texts["serve.yaml"] = serve_config(choice, limits)
    if manifest.prompt_name == RUBRIC:
        texts |= _request_files(reader, limits, manifest)
    texts["README.md"] = readme(choice, manifest, sorted([*texts, "README.md"]))
    return texts


def _request_files(reader: str, limits: EngineLimits, manifest: Manifest) -> dict[str, str]:
    """Return a request for a rubric, as the reader takes it."""
    max_new_tokens = min(manifest.generation.max_new_tokens, limits.max_seq_len - limits.max_input_len)
    request = manifest.prompt.template.replace(REQUEST_FIELD, EXAMPLE)
    if reader in ("tensorrt-llm", "vllm"):
        return {"request.json": _json(chat_request(reader, manifest.model.name, request, max_new_tokens))}
    return {"requests.json": _json(edge_requests([request], max_new_tokens))} if reader == "edge-llm" else {}


def reader_install_command(reader: str) -> str:
    """Return the command that installs a reader, from NVIDIA's package index where pip's own has a placeholder."""
    index = f"--extra-index-url {_INDEX} " if VERSIONS[reader].startswith("tensorrt-llm") else ""
    return f"pip install {index}'{VERSIONS[reader]}'"


def build_script(reader: str, choice: Choice, limits: EngineLimits) -> str:
    """Return build.sh: everything that is left to do on the GPU machine, in one command."""
    body = {
        "tensorrt-llm": _serve_tensorrt_llm,
        "tensorrt-llm-1.2": _build_tensorrt_llm,
        "edge-llm": _build_edge,
        "vllm": _serve_vllm,
    }[reader](choice, limits)
    return "\n".join(["#!/usr/bin/env bash", "set -euo pipefail", 'cd "$(dirname "$0")"', *body, ""])


def _serve_tensorrt_llm(_: Choice, __: EngineLimits) -> list[str]:
    return [
        f"# Needs: {reader_install_command('tensorrt-llm')}",
        "# or NVIDIA's container of that version. No engine is built.",
        "exec " + " ".join([*_trtllm_serve("."), *_ADDRESS]),
    ]


def _trtllm_serve(source: str) -> list[str]:
    return ["trtllm-serve", source, "--config", f"{source}/serve.yaml"]


def serve(choice: Choice, limits: EngineLimits, source: str, engine: str, port: int) -> list[str]:
    """Return the words of the server of a directory's reader.

    Args:
        choice: What the directory holds.
        limits: What it is served for.
        source: The directory.
        engine: For TensorRT-LLM 1.2, the engine that was built of it.
        port: On this machine alone.
    """
    reader = choice.format.reader
    if reader == "edge-llm":
        words = ["tensorrt-edgellm-serve", source, "--max-input-len", str(limits.max_input_len)]
        words += ["--max-kv-cache-capacity", str(limits.max_seq_len), "--max-batch-size", str(limits.max_batch_size)]
        return [*words, "--enable-context-reuse", "--port", str(port)]
    words = {
        "tensorrt-llm": lambda: _trtllm_serve(source),
        "tensorrt-llm-1.2": lambda: ["trtllm-serve", engine, "--tokenizer", source],
        "vllm": lambda: _vllm_serve(choice, limits, source),
    }[reader]()
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


def trtllm_build(choice: Choice, limits: EngineLimits, source: str, target: str) -> list[str]:
    """Return the words of the build of TensorRT-LLM 1.2.

    The context attention is paged: without it the fixed beginning of every prompt is computed again for each request.
    """
    words = ["trtllm-build", "--checkpoint_dir", source, "--output_dir", target]
    words += ["--max_batch_size", str(limits.max_batch_size), "--max_input_len", str(limits.max_input_len)]
    words += ["--max_seq_len", str(limits.max_seq_len), "--max_beam_width", "1"]
    words += ["--kv_cache_type", "paged", "--use_paged_context_fmha", "enable"]
    plugin = "disable" if choice.format.weights == "fp8" else "auto"
    words += ["--gemm_plugin", plugin]
    if choice.format.weights == "fp8" and choice.kv == "fp8":
        words += ["--use_fp8_context_fmha", "enable"]  # it needs both in FP8
    return words


def _build_tensorrt_llm(choice: Choice, limits: EngineLimits) -> list[str]:
    return [
        f"# Needs: {reader_install_command('tensorrt-llm-1.2')}",
        "# An engine runs on the GPU and with the version that it was built with.",
        "exec " + " ".join(trtllm_build(choice, limits, ".", "${1:-engine}")),
    ]


def llm_build(limits: EngineLimits, onnx: str, engine: str) -> list[str]:
    """Return the words of Edge-LLM's build on the device."""
    words = ["llm_build", "--onnxDir", onnx, "--engineDir", engine, "--maxBatchSize", str(limits.max_batch_size)]
    return [
        *words,
        "--maxInputLen",
        str(limits.max_input_len),
        "--maxKVCacheCapacity",
        str(limits.max_seq_len),
    ]


def _build_edge(_: Choice, limits: EngineLimits) -> list[str]:
    return [
        f"# Needs: {VERSIONS['edge-llm']} for the export, on any machine; on the device llm_build and",
        "# llm_inference, built from the sources of the same version.",
        "[ -d onnx ] || tensorrt-edgellm-export . onnx",
        " ".join(llm_build(limits, "onnx/llm", "engine")),
        "llm_inference --engineDir engine --inputFile requests.json --outputFile answers.json",
        "# The rubrics in them, where rubricrm is installed: rubricrm parse answers.json --answers --json",
    ]


def _serve_vllm(choice: Choice, limits: EngineLimits) -> list[str]:
    return [
        f"# Needs: {reader_install_command('vllm')}",
        "exec " + " ".join([*_vllm_serve(choice, limits, "."), *_ADDRESS]),
    ]


def _vllm_serve(choice: Choice, limits: EngineLimits, source: str) -> list[str]:
    words = ["vllm", "serve", source, "--max-model-len", str(limits.max_seq_len), "--max-num-seqs"]
    words += [str(limits.max_batch_size), "--enable-prefix-caching"]
    words += ["--quantization", "modelopt"] if choice.format.algorithm else []
    words += ["--kv-cache-dtype", "fp8"] if choice.kv == "fp8" else []
    return words


def serve_config(choice: Choice, limits: EngineLimits) -> str:
    """Return serve.yaml: the cache of the fixed beginning, the rubric's grammar, and drafts from the text so far."""
    kv = "\n  dtype: fp8" if choice.kv == "fp8" else ""
    return f"""\
# Of trtllm-serve, {VERSIONS["tensorrt-llm"]}. Not run on a GPU.
max_batch_size: {limits.max_batch_size}
max_input_len: {limits.max_input_len}
max_seq_len: {limits.max_seq_len}
kv_cache_config:
  # Every prompt begins with the same tokens: they are computed once.
  enable_block_reuse: true
  free_gpu_memory_fraction: 0.9{kv}
# For requests with a regex or a grammar, such as the form of rubrics.
guided_decoding_backend: xgrammar
# Rubrics repeat words of the request: drafts are looked up in the text so far.
speculative_config:
  decoding_type: NGram
  max_draft_len: {_MAX_DRAFT}
  max_matching_ngram_size: {_NGRAM}
disable_overlap_scheduler: true
"""


def chat_request(reader: str, model: str, text: str, max_new_tokens: int) -> dict[str, Any]:
    """Return the body of POST /v1/chat/completions for one request: greedy, without thinking, held to the format."""
    guided: dict[str, Any] = (
        {"response_format": {"type": "regex", "regex": regex()}}
        if reader == "tensorrt-llm"
        else {"structured_outputs": {"regex": regex()}}
    )
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_new_tokens,
        "temperature": 0,
        "chat_template_kwargs": {"enable_thinking": False},
        **guided,
    }


def edge_requests(texts: list[str], max_new_tokens: int) -> dict[str, Any]:
    """Return the input file of llm_inference: greedy, one request at a time."""
    return {
        "batch_size": 1,
        "temperature": 1.0,
        "top_k": 1,
        "top_p": 1.0,
        "max_generate_length": max_new_tokens,
        "requests": [{"messages": [{"role": "user", "content": text}]} for text in texts],
    }


_CERTIFY = (
    "Then let it answer beside a CPU bundle of the same checkpoint; this starts the server and ends it:\n\n"
    "    rubricrm certify . --reference BUNDLE -o report\n\n"
)
_JUDGE = (
    "It is a judge. Once it is served, the folder `prompt` is what its clients need:\n\n"
    "    rubricrm judge REQUEST --a TEXT --b TEXT --rubric FILE --server http://127.0.0.1:8000 --prompt prompt\n\n"
)
_NEEDS = {
    "tensorrt-llm": "`trtllm-serve` reads this directory as it is; no engine is built.",
    "tensorrt-llm-1.2": "`trtllm-build` makes an engine, which runs on the GPU and with the version it was built by.",
    "edge-llm": "`tensorrt-edgellm-export` makes an ONNX graph (no GPU needed); `llm_build` an engine on the device.",
    "vllm": "`vllm serve` reads this directory as it is.",
}


def readme(choice: Choice, manifest: Manifest, written: list[str]) -> str:
    """Return README.md."""
    row = choice.format
    facts = [
        ("for", f"{row.reader} (`{VERSIONS[row.reader]}`)"),
        ("weights", f"{row.weights} ({row.algorithm or 'floats'}), rounded by {choice.method}"),
        ("KV cache", choice.kv),
        ("output head", choice.head),
        ("GPU", choice.device or "any that runs this type: `rubricrm export tensorrt --list`"),
        ("license", manifest.model.license or "not declared"),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in facts)
    listed = ", ".join(f"`{name}`" for name in written)
    use = _CERTIFY if manifest.prompt_name == RUBRIC else _JUDGE
    return f"""\
# {manifest.model.name}

Written by `rubricrm export tensorrt`. **Not run on a GPU.**

| | |
| --- | --- |
{table}

{_NEEDS[row.reader]} On the GPU machine:

    {reader_install_command(row.reader)}
    ./build.sh

{use}Beside the weights and the tokenizer: {listed}. `rubricrm-tensorrt.json` holds the size and
hash of every file.
"""


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
