"""llama.cpp through llama-cpp-python, built for this processor (GGML_NATIVE), weights repacked as it does by itself.

The GGUF is written here and quantized by its own code; the prompt is one batch, keys and values are FP16, flash
attention is on, which is the faster way here. `-lookup` verifies drafts of llama-cpp-python's prompt lookup, two tokens
at most, as its README advises for CPUs. `-ngrams` verifies those of llama.cpp's statistics of n-grams (`ngram-cache`),
which are written again in `NgramStatistics`, since no wheel has them as a function.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from protocol import main

# Built with CMAKE_ARGS=-DGGML_NATIVE=ON, which is its default.
REQUIREMENTS = ("llama-cpp-python==0.3.34", "gguf>=0.10", "numpy>=2")
# GCC 12 says of AMX's ldtilecfg that it reads 8 of 64 bytes. It then drops the stores to the others, and the first
# product crashes (ggml-org/llama.cpp#20824 looks like it).
# pip must not take a wheel that it once built without them.
BUILD = {"CXXFLAGS": "-fno-tree-dse -fno-dse", "PIP_NO_CACHE_DIR": "1"}
Drafter = Callable[[list[int]], list[int]]
VARIANTS = {"q4_0": 2, "q4_k_m": 15, "q4_0-lookup": 2, "q4_0-ngrams": 2}  # llama_ftype
MODEL_OF = {"q4_0-lookup": "llama_cpp_python:q4_0", "q4_0-ngrams": "llama_cpp_python:q4_0"}
DRAFTING: dict[str, Callable[[], Drafter]] = {
    "q4_0-lookup": lambda: _prompt_lookup(2),
    # Its default is 16. For published rubrics 4 are the best, whatever rows take.
    "q4_0-ngrams": lambda: NgramStatistics(4),
}
_CONTEXT = 1024
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Write the checkpoint as GGUF in its own type, and quantize that."""
    import llama_cpp

    directory.mkdir(parents=True)
    whole, small = directory / "whole.gguf", directory / "model.gguf"
    _write_gguf(checkpoint, whole)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = VARIANTS[variant]
    if llama_cpp.llama_model_quantize(str(whole).encode(), str(small).encode(), ctypes.byref(parameters)):
        raise SystemExit("llama_model_quantize failed")
    whole.unlink()


def _write_gguf(checkpoint: Path, target: Path) -> None:
    import gguf

    config = json.loads((checkpoint / "config.json").read_text())
    if config["architectures"] != ["Qwen3ForCausalLM"]:
        # A Llama's queries and keys would have to be permuted for its other form of rotation.
        raise SystemExit(f"this converter takes Qwen3ForCausalLM, got {config['architectures']}")
    architecture = gguf.MODEL_ARCH.QWEN3
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[architecture])
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_eos_token_id(config["eos_token_id"])  # OpenVINO refuses a file without one
    _add_tokenizer(writer, checkpoint, config["vocab_size"])
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for name, array in _tensors(checkpoint):
        stored = names.get_name(name, try_suffixes=(".weight",))
        if stored is None:
            raise SystemExit(f"{name}: GGUF has no name for it")
        if array.ndim == 1:
            writer.add_tensor(stored, _floats(array))
        else:
            writer.add_tensor(stored, array.view("u1"), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, checkpoint: Path, vocab_size: int) -> None:
    """Add the tokens: ids are fed as they are, but a file without a vocabulary does not load."""
    document = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    tokens = {token_id: (text, _NORMAL) for text, token_id in document["model"]["vocab"].items()}
    tokens |= {entry["id"]: (entry["content"], _CONTROL) for entry in document["added_tokens"]}
    listed = [tokens.get(token_id, (f"[unused{token_id}]", _UNUSED)) for token_id in range(vocab_size)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([text for text, _ in listed])
    writer.add_token_types([kind for _, kind in listed])
    if merges:
        writer.add_token_merges(merges)


def _tensors(checkpoint: Path) -> Iterator[tuple[str, Any]]:
    """Yield names and arrays, 16 bits each as uint16, mapped from the files."""
    import numpy as np

    for path in sorted(checkpoint.glob("*.safetensors")):
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(data[:8], "little")
        for name, facts in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            if facts["dtype"] != "BF16":
                raise SystemExit(f"{name}: is {facts['dtype']}, this converter takes BF16")
            start, stop = facts["data_offsets"]
            array = np.frombuffer(data, np.uint16, (stop - start) // 2, 8 + length + start)
            yield name, array.reshape(facts["shape"])


def _floats(array: Any) -> Any:
    import numpy as np

    return (array.astype(np.uint32) << 16).view(np.float32)


def _prompt_lookup(num_tokens: int) -> Drafter:
    import numpy as np
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    lookup = LlamaPromptLookupDecoding(num_pred_tokens=num_tokens)
    return lambda ids: lookup(np.array(ids, np.intc)).tolist()


class NgramStatistics:
    """What followed the last 1 to 4 tokens before: the longest n-gram decides whose tokens are clear enough.

    Clear enough are, by length of the n-gram, so many occurrences and so large a part of them in percent.
    """

    _LEAST = ((2, 66), (2, 50), (1, 50), (1, 50))

    def __init__(self, num_tokens: int) -> None:
        self._num_tokens = num_tokens
        self._counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self._known: list[int] = []

    def __call__(self, ids: list[int]) -> list[int]:
        """Return the draft that follows; ids continue those of the call before, or are another text's."""
        if ids[: len(self._known)] != self._known:
            self._counts.clear()
            self._known = []
        for end in range(max(1, len(self._known)), len(ids)):
            for size in range(1, min(end, len(self._LEAST)) + 1):
                self._counts[tuple(ids[end - size : end])][ids[end]] += 1
        self._known = list(ids)
        draft: list[int] = []
        while len(draft) < self._num_tokens and (token := self._next([*ids[-len(self._LEAST) :], *draft])) is not None:
            draft.append(token)
        return draft

    def _next(self, ids: list[int]) -> int | None:
        for size in range(min(len(ids), len(self._LEAST)), 0, -1):
            if (followers := self._counts.get(tuple(ids[-size:]))) is None:
                continue
            (token, count), total = followers.most_common(1)[0], followers.total()
            least, percent = self._LEAST[size - 1]
            if total >= least and 100 * count >= percent * total:
                return token
        return None


class LlamaModel:
    """A context, emptied before each run; the state of a prompt is saved and restored whole, as its server does.

    Attributes:
        runs: The instructions and features that it was built with.
        drafts: Tokens that the last run drafted, and those of them that were accepted.
    """

    def __init__(self, path: Path, threads: int, drafter: Drafter | None) -> None:
        import llama_cpp
        import numpy as np

        self._lib, self._numpy = llama_cpp, np
        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=_CONTEXT,
            n_batch=512,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=True,
            verbose=False,
        )
        self.runs = ", ".join(re.findall(r"(\w+) = 1", llama_cpp.llama_print_system_info().decode()))
        self._kept: list[int] = []
        self._state: Any = None
        self._drafter = drafter
        self._text: list[int] = []
        self.drafts = [0, 0]

    def follow(self, text: Sequence[int]) -> None:
        """See `protocol`."""
        self._text = list(text)

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`."""
        if self._kept == list(ids):
            return
        self._kept, self._state = list(ids), None
        if ids:
            context = self._llama.ctx
            self._llama.reset()
            self._llama.eval(self._kept)
            self._state = (ctypes.c_uint8 * self._lib.llama_state_seq_get_size(context, 0))()
            self._lib.llama_state_seq_get_data(context, self._state, len(self._state), 0)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        self._llama.reset()
        if self._state is not None:
            self._lib.llama_state_seq_set_data(self._llama.ctx, self._state, len(self._state), 0)
            self._llama.n_tokens = len(self._kept)
        text, self._text, self.drafts = self._text, [], [0, 0]
        self._llama.eval(ids[len(self._kept) :])
        best = self._best_tokens(1)
        tokens = text[:1] or best
        moments = [time.perf_counter()]
        while len(tokens) < new_tokens:
            draft = self._drafter([*ids, *tokens])[: new_tokens - len(tokens) - 1] if self._drafter else []
            best = self._verify([tokens[-1], *draft])
            decided = text[len(tokens) :] or best
            right = next((index for index, token in enumerate(draft) if token != decided[index]), len(draft))
            self._llama.n_tokens -= len(draft) - right
            self.drafts = [self.drafts[0] + len(draft), self.drafts[1] + right]
            tokens += decided[: right + 1]
            moments += [time.perf_counter()] * (right + 1)
        return moments, tokens

    def _verify(self, step: list[int]) -> list[int]:
        """Return the best token after each of these: what `eval` does, but with logits of all rows."""
        llama = self._llama
        llama._ctx.kv_cache_seq_rm(-1, llama.n_tokens, -1)
        llama._batch.set_batch(step, llama.n_tokens, logits_all=True)
        llama._ctx.decode(llama._batch)
        llama.n_tokens += len(step)
        return self._best_tokens(len(step))

    def _best_tokens(self, count: int) -> list[int]:
        rows = (self._lib.llama_get_logits_ith(self._llama.ctx, index) for index in range(-count, 0))
        width = (self._llama.n_vocab(),)
        return [int(self._numpy.ctypeslib.as_array(row, width).argmax()) for row in rows]


def open_model(directory: Path, variant: str, threads: int) -> LlamaModel:
    """See `protocol`."""
    drafter = DRAFTING[variant]() if variant in DRAFTING else None
    return LlamaModel(directory / "model.gguf", threads, drafter)


if __name__ == "__main__":
    main(prepare, open_model)
