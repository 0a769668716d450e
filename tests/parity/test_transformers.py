"""The exported graph and our loop against transformers in float32: the same logits, tokens and prompts.

Each model is checked with a whole prompt, in chunks, with the fixed prefix restored, and with a long prompt. Logits
are compared over the real rows of the vocabulary, by max|difference| / max|logit|.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.prefix import Prefix, kept_prefix, open_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.checkpoint.chat_pieces import read_chat
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

pytestmark = [
    pytest.mark.reference,
    # Warnings of torch and transformers about their own insides are no finding about this project.
    pytest.mark.filterwarnings("ignore:::(torch|transformers|huggingface_hub)"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

Array = NDArray[np.float32]
WriteCheckpoint = Callable[..., Path]

ROOT = Path(__file__).parents[2]
TOOLS = ROOT.parent / "shared" / "tools"
DEMO = ROOT / "models" / "demo" / "checkpoint"

TOLERANCE = 1e-3
NEW_TOKENS = 64
# Two best logits closer than this, relative to the largest, would make equal tokens a matter of luck: sums in another
# order differ by a few 1e-6.
LEAST_MARGIN = 2e-5

TEXT = " ".join(
    f"{n}. Explain how {a} {b} {c}, in fewer than {n * 7 + 20} words; end with a question about {d}."
    for n, (a, b, c, d) in enumerate(
        [
            ("a rainbow", "forms", "after rain", "light"),
            ("a bridge", "carries", "its own weight", "steel"),
            ("bread", "rises", "in a warm kitchen", "yeast"),
            ("the moon", "pulls", "the sea twice a day", "tides"),
            ("a letter", "reached", "another town in 1800", "horses"),
            ("a compiler", "finds", "an unused variable", "scopes"),
            ("a bee", "tells", "the others where to fly", "dances"),
            ("ice", "keeps", "food for a summer", "salt"),
        ]
        * 5
    )
)
REQUESTS = (
    "Write a haiku about rain. Do not use the word water.",
    "Übersetze „Guten Morgen“ ins Französische — in höchstens drei Wörtern. 🙂",
    "Fix the bug:\n\n    def add(a, b):\n        return a - b\n",
)


@dataclass
class Subject:
    """A model on both sides.

    Attributes:
        ids: Tokens of a text, as many as the longest prompt has.
        reference: The model of transformers, in float32.
    """

    checkpoint: Path
    bundle: Bundle
    session: Session
    prompt: Prompt
    prefix: Prefix
    ids: list[int]
    reference: Any

    @property
    def num_tokens(self) -> int:
        return self.bundle.manifest.tokenizer.num_tokens

    def expected(self, ids: Sequence[int], rows: int) -> Array:
        """Logits [rows, num_tokens] after the last tokens of a prompt."""
        return reference_logits(self.reference, [list(ids)], rows)[0, :, : self.num_tokens]

    def computed(self, ids: Sequence[int], chunk: int, num_restored: int = 0) -> Array:
        """Ours, of every row behind the restored ones, chunk by chunk."""
        slot = self.session.new_slot(len(ids))
        slot.cache.restore(self.prefix.positions, num_restored)
        parts = [
            self.session.run(slot, ids[start : start + chunk], rows=len(ids[start : start + chunk]))
            for start in range(num_restored, len(ids), chunk)
        ]
        return np.concatenate(parts)[:, : self.num_tokens]

    def engine(self) -> Engine:
        """An engine that no end token stops."""
        manifest = self.bundle.manifest
        rubric = replace(manifest.prompt, stop_ids=())
        return Engine(self.session, replace(manifest, prompts={RUBRIC: rubric}), self.prefix)


def reference_logits(model: Any, ids: list[list[int]], rows: int, mask: list[list[int]] | None = None) -> Array:
    import torch

    with torch.no_grad():
        outputs = model(
            torch.tensor(ids),
            attention_mask=None if mask is None else torch.tensor(mask),
            logits_to_keep=rows,
            use_cache=False,
        )
    logits: Array = outputs.logits.numpy()
    return logits


def reference_tokens(model: Any, ids: Sequence[int], count: int, num_tokens: int) -> tuple[list[int], float]:
    """Return greedy tokens among the real ones, and the least margin between the two best of a step."""
    import torch

    tokens: list[int] = []
    margins: list[float] = []
    inputs, past = torch.tensor([list(ids)]), None
    with torch.no_grad():
        while len(tokens) < count:
            outputs = model(inputs, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, row = outputs.past_key_values, outputs.logits[0, -1, :num_tokens]
            best = row.topk(2).values
            margins.append(float((best[0] - best[1]) / row.abs().max()))
            tokens.append(int(row.argmax()))
            inputs = torch.tensor([tokens[-1:]])
    return tokens, min(margins)


def relative_error(got: Array, expected: Array) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def load_reference(checkpoint: Path) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def open_subject(checkpoint: Path, directory: Path, weights: str | None = None) -> Subject:
    template = None
    if not (checkpoint / "README.md").is_file():
        template = directory / "template.txt"
        template.write_text("Write the rubric of a good answer to this request.\n{prompt}\n\nThe rubric:\n")
    # As transformers keeps keys and values: what float16 does to them is another matter (docs/QUANTIZATION.md).
    job = OnnxExport(str(checkpoint), directory / "bundle", weights=weights, kv="model", prompt_template=template)
    bundle = export_onnx(job)
    session = Session(bundle)
    tokenizer = Tokenizer.from_file(bundle.file("tokenizer.json"))
    prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, tokenizer)
    prefix = open_prefix(bundle, session, prompt.fixed_prefix(), kept_prefix(bundle, session))
    length = min(2000, bundle.manifest.model.context_length - 148)
    ids = tokenizer.encode(TEXT)
    while len(ids) < length:
        ids += ids
    return Subject(checkpoint, bundle, session, prompt, prefix, ids[:length], load_reference(checkpoint))


# --- the models


@pytest.fixture(scope="session")
def write_checkpoint() -> WriteCheckpoint:
    """The function of the conftest, which a fixture of a longer life cannot reach otherwise."""
    spec = importlib.util.spec_from_file_location("tests_conftest", ROOT / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: WriteCheckpoint = module.write_checkpoint
    return function


def run_tool(name: str, *arguments: str) -> None:
    if not (TOOLS / name).is_file():
        pytest.skip(f"{name} is not beside the checkout")
    finished = subprocess.run([sys.executable, TOOLS / name, *arguments], capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.skip(f"{name} failed: {(finished.stderr.strip().splitlines() or ['no message'])[-1]}")


def smollm2() -> Path:
    """A real model, downloaded once for all runs on this machine."""
    pytest.importorskip("gguf", reason="SmolLM2 is unpacked with the module gguf")
    script = TOOLS / "get_smollm2.py"
    if not script.is_file():
        pytest.skip(f"{script.name} is not beside the checkout")
    digest = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    kept = Path(tempfile.gettempdir()) / f"rubricrm-tests-{os.getuid()}" / f"smollm2-{digest}"
    if not kept.is_dir():
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        try:
            run_tool(script.name, str(partial))
            partial.rename(kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return kept


MODELS = ("tests' Qwen3", "tests' Llama", "demo", "shape tiny", "shape odd", "SmolLM2")


@pytest.fixture(scope="session", params=MODELS)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_checkpoint: WriteCheckpoint
) -> Iterator[Subject]:
    directory = tmp_path_factory.mktemp("parity")
    checkpoint = directory / "checkpoint"
    name = request.param
    if name.startswith("tests"):
        write_checkpoint(checkpoint, "Qwen3ForCausalLM" if "Qwen3" in name else "LlamaForCausalLM")
    elif name == "demo":
        checkpoint = DEMO
        if not DEMO.is_dir():
            pytest.skip("models/demo/checkpoint does not exist")
    elif name == "SmolLM2":
        checkpoint = smollm2()
    else:
        run_tool("make_checkpoint.py", str(checkpoint), "--shape", name.removeprefix("shape "))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUBRICRM_CACHE", str(directory / "cache"))
        opened = open_subject(checkpoint, directory)
    yield opened
    opened.session.close()


# --- logits


@pytest.mark.parametrize("length", [1, 2, 40, 256])
def test_whole_prompt(subject: Subject, length: int) -> None:
    ids = subject.ids[:length]
    assert relative_error(subject.computed(ids, length), subject.expected(ids, length)) <= TOLERANCE


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_prefill_in_chunks(subject: Subject, chunk: int) -> None:
    ids = subject.ids[:300]
    assert relative_error(subject.computed(ids, chunk), subject.expected(ids, 300)) <= TOLERANCE


def test_prefill_in_one_chunk_and_in_many_give_the_same(subject: Subject) -> None:
    ids = subject.ids[:200]
    assert relative_error(subject.computed(ids, 13), subject.computed(ids, 200)) <= TOLERANCE / 20


@pytest.mark.parametrize("request_text", REQUESTS, ids=["plain", "Unicode", "code"])
def test_restored_prefix(subject: Subject, request_text: str) -> None:
    ids = subject.prompt.encode_request(request_text)
    num_restored = len(subject.prefix.token_ids)
    assert list(subject.prefix.token_ids) == ids[:num_restored]
    assert num_restored == subject.bundle.manifest.prompt.prefix.num_tokens > 10
    rows = len(ids) - num_restored
    assert relative_error(subject.computed(ids, 256, num_restored), subject.expected(ids, rows)) <= TOLERANCE


def test_long_prompt(subject: Subject) -> None:
    got = subject.computed(subject.ids, 256)[-300:]
    assert relative_error(got, subject.expected(subject.ids, 300)) <= TOLERANCE


# --- tokens


@pytest.mark.parametrize("kind", ["request", "text", "long"])
def test_greedy_tokens(subject: Subject, kind: str) -> None:
    ids = {
        "request": subject.prompt.encode_request(REQUESTS[0]),
        "text": subject.ids[:120],
        "long": subject.ids,
    }[kind]
    expected, margin = reference_tokens(subject.reference, ids, NEW_TOKENS, subject.num_tokens)
    assert margin > LEAST_MARGIN, "two tokens are equally good: choose another prompt"
    engine = subject.engine()
    sequence = engine.submit(ids, GenerationOptions(max_new_tokens=NEW_TOKENS))
    sequence.wait()
    sequence.raise_error()
    assert sequence.token_ids == expected
    if kind == "request":
        assert sequence.cached_tokens == len(subject.prefix.token_ids)


# --- weights stored in 16 bits


def round_weights(model: Any, weights: str) -> Any:
    import torch

    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[weights]
    for name, parameter in model.named_parameters():
        if "norm" in name:  # stored as they are computed with
            continue
        parameter.data = parameter.data.to(kind).to(torch.float32)
    return model


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
@pytest.mark.parametrize(
    ("weights", "tolerance"),
    # Three times what was measured; the weights are random and of float32, so that every one is rounded.
    [("fp32", TOLERANCE), ("fp16", 1.1e-2), ("bf16", 6.3e-2)],
)
def test_stored_type(
    write_checkpoint: WriteCheckpoint, tmp_path: Path, architecture: str, weights: str, tolerance: float
) -> None:
    opened = open_subject(write_checkpoint(tmp_path / "checkpoint", architecture, dtype="F32"), tmp_path, weights)
    got = opened.computed(opened.ids[:200], 200)
    error = relative_error(got, opened.expected(opened.ids[:200], 200))
    assert error <= tolerance
    if weights != "fp32":
        # The rounding is the only difference: with rounded weights transformers gives the same again.
        assert error > TOLERANCE / 10
        round_weights(opened.reference, weights)
        assert relative_error(got, opened.expected(opened.ids[:200], 200)) <= TOLERANCE
    opened.session.close()


@pytest.mark.parametrize(
    ("weights", "tolerance"),
    # BF16 weights lie in FP16 exactly, but for those below 6e-5, of which a small part is lost.
    [("bf16", TOLERANCE), ("fp16", TOLERANCE), ("fp32", TOLERANCE)],
)
def test_stored_type_of_real_weights(tmp_path: Path, weights: str, tolerance: float) -> None:
    opened = open_subject(smollm2(), tmp_path, weights)
    ids = opened.ids[:200]
    assert relative_error(opened.computed(ids, 200), opened.expected(ids, 200)) <= tolerance
    opened.session.close()


# --- batches


@pytest.mark.parametrize("lengths", [(20, 20, 20), (31, 7, 1)], ids=["equal", "padded on the right"])
def test_batch_of_prompts(subject: Subject, lengths: tuple[int, ...]) -> None:
    import onnxruntime

    if subject.bundle.num_bytes > 64 << 20:
        pytest.skip("opened a second time: small models only")
    longest = max(lengths)
    rows = [subject.ids[50 * n : 50 * n + length] for n, length in enumerate(lengths)]
    ids = [row + [0] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    graph = onnxruntime.InferenceSession(
        str(subject.bundle.file("model.onnx")), options, providers=["CPUExecutionProvider"]
    )
    model = subject.bundle.manifest.model
    past = np.zeros((len(rows), model.num_kv_heads, 0, model.head_dim), np.float32)
    feed = {value.name: past for value in graph.get_inputs() if value.name.startswith("past_key_values")}
    feed |= {"input_ids": np.array(ids, np.int64), "attention_mask": np.array(mask, np.int64)}
    got = graph.run(["logits"], feed)[0]
    expected = reference_logits(subject.reference, ids, longest, mask)
    for n, length in enumerate(lengths):
        real = slice(0, length), slice(0, subject.num_tokens)
        assert relative_error(got[n][real], expected[n][real]) <= TOLERANCE


# --- prompts

CONVERSATIONS = [
    ("u", "Write a haiku."),
    ("su", "Be brief."),
    ("uau", "First\n\nsecond, {{ braces }} and ünïcödé 🙂"),
    ("suauau", "x"),
]


def conversation(roles: str, content: str) -> list[dict[str, str]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[role], "content": f"{content} {n}"} for n, role in enumerate(roles)]


@pytest.mark.parametrize(("roles", "content"), CONVERSATIONS, ids=[roles for roles, _ in CONVERSATIONS])
def test_chat_template(subject: Subject, roles: str, content: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(subject.checkpoint)
    messages = conversation(roles, content)
    options = {"add_generation_prompt": True, "enable_thinking": False}
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    chat = subject.bundle.manifest.chat
    joined = "" if roles[0] == "s" else chat.opening
    for message in messages:
        role = {"system": chat.system, "user": chat.user, "assistant": chat.assistant}[message["role"]]
        assert role is not None
        joined += role.before + message["content"] + role.after
    assert joined + chat.generation == text
    assert subject.prompt.encode_messages(messages) == tokenizer.encode(text, add_special_tokens=False)


def test_request(subject: Subject) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(subject.checkpoint)
    for text in REQUESTS:
        message = subject.bundle.manifest.prompt.template.replace("{prompt}", text)
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], add_generation_prompt=True, enable_thinking=False
        )
        assert subject.prompt.encode_request(text) == list(expected)


# As published models have them: a default system message, a first token, tools, marks of training, a date.
FAMILIES = {
    "default system message": (
        "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{%- endif %}"
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    ),
    "tokens that end alike": (
        "{{ bos_token }}{% if tools is not none %}{{ tools | tojson }}{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "marks of training": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
        "{% endgeneration %}"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "reversed loop and namespace": (
        "{%- set ns = namespace(last=-1) %}{%- for m in messages[::-1] %}"
        "{%- if ns.last < 0 and m.role == 'user' and m.content is string %}"
        "{%- set ns.last = messages | length - 1 - loop.index0 %}{%- endif %}{%- endfor %}"
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
        "{%- if m.role == 'assistant' and loop.index0 > ns.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
        "{{- m.content.strip('\\n') + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}"
        "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
        "{%- endif %}"
    ),
}


@pytest.mark.parametrize(("roles", "content"), CONVERSATIONS, ids=[roles for roles, _ in CONVERSATIONS])
@pytest.mark.parametrize("family", FAMILIES)
def test_chat_templates_of_other_families(
    write_checkpoint: WriteCheckpoint, tmp_path: Path, family: str, roles: str, content: str
) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    config = {"bos_token": "<|bos|>", "eos_token": "<|im_end|>", "chat_template": FAMILIES[family]}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    chat = read_chat(checkpoint, None, ["<|bos|>", "<|end|>", "<|user|>", "<|system|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint)
    messages = conversation(roles, content)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    joined = "" if roles[0] == "s" else chat.opening
    for message in messages:
        role = {"system": chat.system, "user": chat.user, "assistant": chat.assistant}[message["role"]]
        assert role is not None
        joined += role.before + message["content"] + role.after
    assert joined + chat.generation == text
