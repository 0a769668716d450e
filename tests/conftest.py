"""Tiny checkpoints in Hugging Face's layout, made here: seeded, numpy only, a few dozen kilobytes."""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import affinity  # before numpy
import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import settings
from rubricrm.runtime import cache_directory, graph
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.conversion import convert_bundle
from rubricrm.runtime.manifest import Manifest
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.onnx_bundle import bundle_files
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from safetensors.numpy import save_file
from short_texts import CALIBRATION

# How long an example takes is the machine's business: it must not decide a test.
settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")

Tensors = dict[str, np.ndarray]
MakeCheckpoint = Callable[..., Path]

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
NUMPY_TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}

QWEN3_CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "eos_token_id": 2,
    "head_dim": 32,  # not hidden_size / num_attention_heads, as in Qwen3-4B
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 80,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1e6,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 272,  # 261 tokens, the rest are padding rows
}
LLAMA_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "mlp_bias": False,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 1024,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 272,
}
CONFIGS = {"Qwen3ForCausalLM": QWEN3_CONFIG, "LlamaForCausalLM": LLAMA_CONFIG}

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{ '<think>\\n\\n</think>\\n\\n' }}
{%- endif -%}
{%- endif -%}"""

CARD = """\
---
license: apache-2.0
---
# A tiny checkpoint for tests

Its weights are random and its text means nothing.

```python
RUBRIC_PROMPT_TEMPLATE = (
    "Write the rubric of a good answer.\\n"
    "One criterion a line, each ending in [Hard Rule] or [Principle].\\n"
    "\\n"
    "Here is the request:\\n"
    "{prompt}\\n"
    "\\n"
    "The rubric:"
)
```
"""


def random_tensors(config: dict[str, Any], dtype: Any, seed: int = 0) -> Tensors:
    """The weights of a config with an explicit or derivable head_dim, written without the code under test."""
    rng = np.random.default_rng(seed)
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, key_value = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        shapes[layer + "input_layernorm.weight"] = (hidden,)
        shapes[layer + "self_attn.q_proj.weight"] = (query, hidden)
        shapes[layer + "self_attn.k_proj.weight"] = (key_value, hidden)
        shapes[layer + "self_attn.v_proj.weight"] = (key_value, hidden)
        shapes[layer + "self_attn.o_proj.weight"] = (hidden, query)
        if config["model_type"] == "qwen3":
            shapes[layer + "self_attn.q_norm.weight"] = (head_dim,)
            shapes[layer + "self_attn.k_norm.weight"] = (head_dim,)
        shapes[layer + "post_attention_layernorm.weight"] = (hidden,)
        shapes[layer + "mlp.gate_proj.weight"] = (inner, hidden)
        shapes[layer + "mlp.up_proj.weight"] = (inner, hidden)
        shapes[layer + "mlp.down_proj.weight"] = (hidden, inner)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, hidden)
    return {name: _random_tensor(rng, shape).astype(dtype) for name, shape in shapes.items()}


def _random_tensor(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    normal = rng.standard_normal(shape, dtype=np.float32)
    return 1 + 0.1 * normal if len(shape) == 1 else normal / np.sqrt(shape[-1], dtype=np.float32)


def byte_level_tokenizer() -> dict[str, Any]:
    """A byte-level BPE without merges: the special tokens, then one token a byte."""
    # Byte-level BPE spells a byte that prints as its own Latin-1 letter, any other as the next letter from U+0100.
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    letters = [chr(byte if byte in prints else next(spare)) for byte in range(256)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": "think" not in token,  # as in Qwen3
            }
            for token_id, token in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: token_id for token_id, token in enumerate([*SPECIAL_TOKENS, *letters])},
            "merges": [],
        },
    }


def write_weights(path: Path, tensors: Tensors, shards: int) -> None:
    if shards == 1:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for number in range(shards):
        shard = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, path / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def write_checkpoint(
    path: Path,
    architecture: str = "Qwen3ForCausalLM",
    *,
    dtype: str = "BF16",
    shards: int = 1,
    without: tuple[str, ...] = (),
    change: Callable[[Tensors], object] = lambda _: None,
    **config_keys: Any,
) -> Path:
    """Write a checkpoint and return its directory.

    Args:
        path: The directory to make.
        architecture: "Qwen3ForCausalLM" or "LlamaForCausalLM".
        dtype: "BF16", "F16", "F32" or "F64".
        shards: Number of weight files.
        without: Keys that the config lacks.
        change: Edits the dictionary of tensors before it is written.
        **config_keys: Any key of the config by name; the tensors follow.
    """
    path.mkdir()
    config = CONFIGS[architecture] | config_keys
    tensors = random_tensors(config, NUMPY_TYPES[dtype])
    change(tensors)
    write_weights(path, tensors, shards)
    config = {key: value for key, value in config.items() if key not in without}
    chat = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHAT_TEMPLATE}
    generation = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [2, 0]}
    for file, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer.json", byte_level_tokenizer()),
        ("tokenizer_config.json", chat),
    ):
        (path / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (path / "README.md").write_text(CARD, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def all_cores() -> Iterator[None]:
    """For tests of several threads: they run at once, as they do for a user, where workers have one core each."""
    if not affinity.ALL_CORES:
        yield
        return
    share = os.sched_getaffinity(0)
    os.sched_setaffinity(0, affinity.ALL_CORES)
    yield
    os.sched_setaffinity(0, share)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """Return `write_checkpoint`, with `name` for the directory's name in place of its path."""

    def make(architecture: str = "Qwen3ForCausalLM", *, name: str = "checkpoint", **options: Any) -> Path:
        return write_checkpoint(tmp_path / name, architecture, **options)

    return make


@pytest.fixture(scope="session")
def packed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in INT4, with two graphs and its data in the packed layout; for reading only."""
    directory = tmp_path_factory.mktemp("packed")
    checkpoint = write_checkpoint(directory / "checkpoint")
    job = OnnxExport(str(checkpoint), directory / "bundle", weights="int4", rubrics=False, max_kl="none")
    return export_onnx(job).path


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the tiny bundles; for reading only."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def llama_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the other architecture; for reading only."""
    return write_checkpoint(tmp_path_factory.mktemp("llama") / "checkpoint", "LlamaForCausalLM")


@pytest.fixture(scope="session")
def odd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose sizes are no powers of two, with an output matrix of its own; for reading only."""
    sizes = {"hidden_size": 96, "intermediate_size": 200, "vocab_size": 777, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 48}
    path = tmp_path_factory.mktemp("odd") / "checkpoint"
    return write_checkpoint(path, tie_word_embeddings=False, **sizes, **heads)


@pytest.fixture(scope="session")
def large_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding of 205 MB, which takes seconds to make; for reading only."""
    path = write_checkpoint(tmp_path_factory.mktemp("large") / "checkpoint", vocab_size=200_000, hidden_size=512)
    assert (path / "model.safetensors").stat().st_size > 200e6
    return path


@pytest.fixture(scope="session")
def standard_bundle(packed_bundle: Path) -> Path:
    """The same bundle with its data in the standard layout; for reading only."""
    output = packed_bundle.with_name("standard")
    return convert_bundle(Bundle.open(packed_bundle), "standard", output).path


@pytest.fixture(scope="session")
def narrow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in INT8 in blocks of 32, with a KV cache of INT8; for reading only."""
    directory = tmp_path_factory.mktemp("narrow")
    checkpoint = write_checkpoint(directory / "checkpoint")
    (directory / "calibration.txt").write_text(CALIBRATION)
    options: dict[str, Any] = {"weights": "int8", "block_size": "32", "kv": "int8", "max_kl": "none"}
    calibration = str(directory / "calibration.txt")
    job = OnnxExport(str(checkpoint), directory / "bundle", calibration=calibration, rubrics=False, **options)
    return export_onnx(job).path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights, for reading only: 2 layers, 261 tokens and 11 rows of padding, context 2048."""
    directory = tmp_path_factory.mktemp("tiny")
    checkpoint = write_checkpoint(directory / "checkpoint")
    return export_onnx(OnnxExport(str(checkpoint), directory / "bundle")).path


@pytest.fixture(scope="session")
def float32_cache_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, whose graphs both have a KV cache of float32; for reading only."""
    directory = tmp_path_factory.mktemp("float32")
    checkpoint = write_checkpoint(directory / "checkpoint")
    return export_onnx(OnnxExport(str(checkpoint), directory / "bundle", kv="model")).path


@pytest.fixture
def bundle_copy(float32_cache_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle with model.onnx alone, to damage."""
    path = Path(shutil.copytree(float32_cache_bundle, tmp_path / "bundle"))
    manifest = path / "rubricrm.json"
    document = json.loads(manifest.read_text("utf-8"))
    document["graphs"] = [graph for graph in document["graphs"] if graph["kv_update"] != "slots"]
    del document["files"]["model.step.onnx"]
    (path / "model.step.onnx").unlink()
    manifest.write_text(json.dumps(document), "utf-8")
    return path


@pytest.fixture
def poison() -> Callable[[Path, str], None]:
    """Return a function that writes NaN over one weight of a bundle's matrix, as a damaged checkpoint has it."""

    def write_nan(path: Path, name: str) -> None:
        model = onnx.load(path / "model.onnx", load_external_data=False)
        (tensor,) = (value for value in model.graph.initializer if value.name == name)
        facts = {entry.key: entry.value for entry in tensor.external_data}
        data = bytearray((path / facts["location"]).read_bytes())
        size = int(facts["length"]) // int(np.prod(tensor.dims))
        start = int(facts.get("offset", 0))
        data[start : start + size] = b"\xff" * size  # in every float type
        (path / facts["location"]).write_bytes(data)

    return write_nan


@pytest.fixture
def block() -> Callable[[str], str]:
    """A function that returns the beginning of a script in which a module cannot be imported."""

    def make(module: str) -> str:
        return (
            "import sys\n"
            "class Blocker:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name.split('.')[0] == {module!r}:\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
            "sys.meta_path.insert(0, Blocker())\n"
        )

    return make


@pytest.fixture(autouse=True, scope="session")
def _each_grammar_is_compiled_once() -> Iterator[None]:
    """Nearly all exports here are of one tokenizer, and its grammar takes longer than the rest of them together."""
    written: dict[tuple[object, ...], bytes] = {}
    compile_and_write = bundle_files.write_grammar

    def write_grammar(manifest: Manifest, tokenizer: Tokenizer, path: Path) -> None:
        chat = manifest.chat
        told = (manifest.prompt.stop_ids, chat.generation, chat.starts_in_thought)
        key = (*told, path.with_name("tokenizer.json").read_bytes())
        if key in written:
            path.write_bytes(written[key])
        else:
            compile_and_write(manifest, tokenizer, path)
            written[key] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bundle_files, "write_grammar", write_grammar)
        yield


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's cache, and let it see warnings that a process gives once."""
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    cache_directory._warn_once.cache_clear()
    graph._warn_of_conflict.cache_clear()


@dataclass
class LocalHub:
    """The few endpoints of the Hugging Face hub that a snapshot needs, over a directory, with one repository."""

    folder: Path
    repo: str
    commit: str
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        if path.startswith("/api/models/"):
            return self._answer_api(path.removeprefix("/api/models/"))
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        commit, _, name = rest.partition("/")
        if repo != self.repo or commit != self.commit:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = (self.folder / name).read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": self.commit}, content

    def _answer_api(self, path: str) -> tuple[int, dict[str, str], bytes]:
        # Since its version 1 the client asks for the revision first, then for the files.
        repo, endpoint, revision = re.fullmatch(r"(.*?)(?:/(revision|tree)/([^?]*)(?:\?.*)?)?", path).groups()  # type: ignore[union-attr]
        if repo == "some-org/gated":
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repo == "some-org/broken":
            return 500, {}, b""
        if repo != self.repo:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", "v1", self.commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        names = [file.relative_to(self.folder).as_posix() for file in files]
        if endpoint == "tree":
            entries = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                for name, file in zip(names, files, strict=True)
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()
        described = {"id": self.repo, "sha": self.commit, "siblings": [{"rfilename": name} for name in names]}
        return 200, {"Content-Type": "application/json"}, json.dumps(described).encode()


@pytest.fixture
def serve_hub() -> Iterator[Callable[[Path, str, str], LocalHub]]:
    """A function that serves a directory as a repository of a hub on this machine, until the test ends."""
    with ExitStack() as servers:

        def serve(folder: Path, repo: str, commit: str) -> LocalHub:
            hub = LocalHub(folder, repo, commit)

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, headers, content = hub.answer(self.path)
                    self.send_response(status)
                    for key, value in headers.items():
                        self.send_header(key, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command == "GET":
                        self.wfile.write(content)

                do_HEAD = do_GET  # noqa: N815 - the name is http.server's

                def log_message(self, *_: object) -> None:
                    """Keep the test's output clean."""

            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            hub.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            servers.callback(thread.join)
            servers.callback(server.shutdown)
            return hub

        yield serve
