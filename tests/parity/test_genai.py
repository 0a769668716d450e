"""onnxruntime-genai opens the bundle as it is, and its greedy tokens are ours."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.conversion import convert_bundle
from rubricrm.runtime.manifest import STANDARD_LAYOUT
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

pytestmark = pytest.mark.reference

MakeCheckpoint = Callable[..., Path]

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle"
NEW_TOKENS = 64

# In a process of its own: the library brings a second ONNX Runtime, and reports home unless it is told not to.
TOKENIZER = """
import json, sys
import onnxruntime_genai as og

tokenizer = og.Tokenizer(og.Model(sys.argv[1]))
request = json.load(sys.stdin)
text = tokenizer.apply_chat_template(json.dumps(request["messages"]), add_generation_prompt=True)
print(json.dumps({"ids": [int(i) for i in tokenizer.encode(request["text"])], "chat": text}))
"""
GENAI = """
import json, sys
import onnxruntime_genai as og

directory, request = sys.argv[1], json.load(sys.stdin)
model = og.Model(directory)
answers = []
for ids in request["prompts"]:
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + request["new_tokens"])
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    answers.append([int(token) for token in generator.get_sequence(0)[len(ids):]])
    del generator
print(json.dumps(answers))
"""


def run_genai(script: str, bundle: Path, request: dict[str, Any]) -> Any:
    if importlib.util.find_spec("onnxruntime_genai") is None:
        pytest.skip("onnxruntime-genai is not installed")
    finished = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        input=json.dumps(request),
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def genai_tokens(bundle: Path, prompts: list[list[int]]) -> list[list[int]]:
    answers: list[list[int]] = run_genai(GENAI, bundle, {"prompts": prompts, "new_tokens": NEW_TOKENS})
    return answers


def our_tokens(bundle: Path, prompts: list[list[int]], num_candidates: int) -> list[list[int]]:
    """Greedy tokens of model.onnx among the first candidates, up to and with an end token, as the peer returns them."""
    opened = Bundle.open(bundle)
    graph = GraphVariant("model.onnx", (bundle / "model.onnx").read_bytes())
    session = Session(opened, variant=graph)
    answers = []
    for ids in prompts:
        slot = session.new_slot(len(ids) + NEW_TOKENS)
        tokens: list[int] = []
        chunk = list(ids)
        while chunk:
            row = session.run(slot, chunk[: session.max_rows])[0]
            chunk = chunk[session.max_rows :]
        while len(tokens) < NEW_TOKENS:
            tokens.append(int(row[:num_candidates].argmax()))
            if tokens[-1] in opened.manifest.prompt.stop_ids:
                break
            row = session.run(slot, tokens[-1:])[0]
        answers.append(tokens)
    session.close()
    return answers


def prompts_of(bundle: Path) -> list[list[int]]:
    facts = Bundle.open(bundle).manifest
    tokenizer = Tokenizer.from_file(bundle / "tokenizer.json")
    prompt = Prompt(facts.prompt, facts.chat, tokenizer)
    text = tokenizer.encode("Explain how a rainbow forms. " * 80)
    return [
        prompt.encode_request("Write a haiku about rain. Do not use the word water."),
        tokenizer.encode("An ordinary text, which is no prompt"),
        text[: min(700, facts.model.context_length - NEW_TOKENS)],
    ]


def assert_same(bundle: Path) -> None:
    facts, prompts = Bundle.open(bundle).manifest, prompts_of(bundle)
    theirs = genai_tokens(bundle, prompts)
    # The peer also takes padding rows of the vocabulary for tokens; among all rows the answers are the same.
    assert theirs == our_tokens(bundle, prompts, facts.model.vocab_size)
    if all(token < facts.tokenizer.num_tokens for answer in theirs for token in answer):
        assert theirs == our_tokens(bundle, prompts, facts.tokenizer.num_tokens)


@pytest.mark.parametrize("weights", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_tiny_bundle(make_checkpoint: MakeCheckpoint, tmp_path: Path, architecture: str, weights: str) -> None:
    job = OnnxExport(str(make_checkpoint(architecture)), tmp_path / "bundle", weights=weights)
    assert_same(export_onnx(job).path)


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_padding_rows_that_never_win(make_checkpoint: MakeCheckpoint, tmp_path: Path, architecture: str) -> None:
    def quiet(tensors: dict[str, np.ndarray]) -> None:
        for name in {"model.embed_tokens.weight", "lm_head.weight"} & tensors.keys():
            tensors[name][261:] = 0  # as trained models have them, whose padding rows were never learned

    bundle = export_onnx(OnnxExport(str(make_checkpoint(architecture, change=quiet)), tmp_path / "bundle")).path
    prompts = prompts_of(bundle)
    assert genai_tokens(bundle, prompts) == our_tokens(bundle, prompts, 261)


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_tokenizer_and_chat_template(make_checkpoint: MakeCheckpoint, tmp_path: Path, place: str) -> None:
    checkpoint = make_checkpoint()
    if place == "chat_template.jinja":
        config = json.loads((checkpoint / "tokenizer_config.json").read_text())
        (checkpoint / place).write_text(config.pop("chat_template"))
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    bundle = export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle")).path
    text = "Write a haiku.\n\n  Zwölf Boxkämpfer 🙂 über 中文"
    answer = run_genai(TOKENIZER, bundle, {"messages": [{"role": "user", "content": "Hello"}], "text": text})
    assert answer["ids"] == Tokenizer.from_file(bundle / "tokenizer.json").encode(text)
    # Its Python interface cannot switch thinking off: the empty block is missing there.
    chat = Bundle.open(bundle).manifest.chat
    assert f"{chat.user.before}Hello{chat.user.after}{chat.generation}".startswith(answer["chat"])


def test_demo_bundle(tmp_path: Path) -> None:
    if not DEMO.is_dir():
        pytest.skip("the package has no demo bundle yet")
    bundle = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    prompts, num_tokens = prompts_of(bundle), Bundle.open(bundle).manifest.tokenizer.num_tokens
    assert genai_tokens(bundle, prompts) == our_tokens(bundle, prompts, num_tokens)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "int4"},
        {"weights": "int8", "activations": "int8", "method": "rtn"},
        {"weights": "int4", "kv": "int8"},
    ],
    ids=["int4", "w8a8", "int8 keys and values"],
)
def test_quantized_bundles(tmp_path: Path, options: dict[str, Any]) -> None:
    text = ROOT / "README.md"
    job = OnnxExport(
        str(ROOT / "models" / "demo" / "checkpoint"),
        tmp_path / "bundle",
        calibration=str(text),
        rubrics=False,
        **options,
    )
    # It reads the standard layout.
    assert_same(convert_bundle(export_onnx(job), STANDARD_LAYOUT, tmp_path / "standard").path)
