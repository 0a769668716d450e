"""The chat form of a pair, and the tokenizer of the demo model."""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

# The request comes last, so its tokens do not depend on the text around it.
RUBRIC_PROMPT_TEMPLATE = (
    "Write a rubric for the request, one numbered criterion per line, "
    "each marked [Hard Rule] or [Principle].\n\n"
    "Request:\n{prompt}"
)
ADDED_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
NUM_SPECIAL = 3  # the think tokens are ordinary text to a decoder that skips special tokens, as in Qwen3
PRE_TOKENIZER_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int, pieces: str = PRE_TOKENIZER_REGEX) -> Tokenizer:
    """A byte-level BPE of `vocab_size` entries, the added tokens and all 256 bytes among them.

    No entry goes beyond a match of `pieces`; whatever they are, texts are split as Qwen3 splits them.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = split_at(pieces)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size - len(ADDED_TOKENS),
        min_frequency=3,
        show_progress=False,
        initial_alphabet=ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = split_at(PRE_TOKENIZER_REGEX)
    return with_added_tokens(tokenizer)


def split_at(pattern: str) -> Sequence:
    """A pre-tokenizer that makes a piece of each match."""
    return Sequence([Split(Regex(pattern), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def with_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with the chat tokens behind its vocabulary."""
    state = json.loads(tokenizer.to_str())
    first = len(state["model"]["vocab"])
    state["added_tokens"] = [
        {
            "id": first + i,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": i < NUM_SPECIAL,
        }
        for i, text in enumerate(ADDED_TOKENS)
    ]
    return Tokenizer.from_str(json.dumps(state))


class ChatEncoder:
    """Encodes pairs in the chat form; whatever a user types is plain text and never becomes a chat token."""

    def __init__(self, tokenizer_file: Path) -> None:
        state: dict[str, Any] = json.loads(tokenizer_file.read_text(encoding="utf-8"))
        ids = {token["content"]: int(token["id"]) for token in state["added_tokens"]}
        state["added_tokens"] = []
        self._plain = Tokenizer.from_str(json.dumps(state))
        self.end_id = ids["<|im_end|>"]
        self.pad_id = ids["<|endoftext|>"]
        self._start = ids["<|im_start|>"]
        self._after = [self.end_id, *self.plain("\n"), self._start, *self.plain("assistant\n")]
        self._after += [ids["<think>"], *self.plain("\n\n"), ids["</think>"], *self.plain("\n\n")]

    def plain(self, text: str) -> list[int]:
        """The ids of a text without chat tokens."""
        return list(self._plain.encode(unicodedata.normalize("NFC", text), add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of ids that hold no chat tokens."""
        return str(self._plain.decode(ids))

    def message(self, text: str) -> list[int]:
        """The ids of a user's message, up to the point where the answer begins."""
        return [self._start, *self.plain("user\n" + text), *self._after]

    def prompt(self, request: str) -> list[int]:
        """The ids up to the point where the rubric begins."""
        return self.message(RUBRIC_PROMPT_TEMPLATE.replace("{prompt}", request))

    def answer(self, text: str) -> list[int]:
        """The ids of what the model is to write, and of the token that ends it."""
        return [*self.plain(text), self.end_id]
