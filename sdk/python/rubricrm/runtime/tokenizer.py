"""Text to token ids and back. A control token comes from the trusted template only, never from a user's text.

The ids are those of the library `tokenizers` for the same `tokenizer.json`. What is added to it here: user text that
spells a control token stays text, one function gives the bytes of a token, and decoding streams whole characters.
"""

from __future__ import annotations

import codecs
from types import MappingProxyType
from typing import TYPE_CHECKING

from rubricrm.errors import RequestInvalid
from rubricrm.runtime.byte_alphabet import bytes_of, spelling_of
from rubricrm.runtime.own_thread import OwnThread
from rubricrm.runtime.tokenizer_file import TokenizerFile, read_tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


# Characters from which a text is encoded in a thread of its own: the library takes some 100 bytes for each meanwhile.
_LARGE = 4096


class Tokenizer:
    r"""A byte-level BPE tokenizer, opened with `Tokenizer.from_file`.

    It may be shared by threads: nothing in it changes after opening but caches that never change an answer.

    Attributes:
        num_tokens: One more than the largest id; rows of the model's vocabulary beyond it are padding.
        added_tokens: Every added token, special or not: its text -> its id.
        special_ids: The ids that are marked special and so never part of a completion's text.

    Example:
        tokenizer = Tokenizer.from_file(Path("bundle/tokenizer.json"))
        before, after = map(tokenizer.split_control, ("<|im_start|>user\n", "<|im_end|>\n"))
        ids = tokenizer.encode_segments([*before, request, *after])
    """

    num_tokens: int
    added_tokens: Mapping[str, int]
    special_ids: frozenset[int]

    def __init__(self, file: TokenizerFile) -> None:
        self.num_tokens = file.num_tokens
        self.added_tokens = MappingProxyType({token["content"]: token["id"] for token in file.added})
        self.special_ids = frozenset(token["id"] for token in file.added if token.get("special"))
        self._plain = file.plain
        self._control = file.control
        self._lacking_bytes = file.lacking_bytes
        self._thread = OwnThread("rubricrm-tokenizer")
        self._bytes: dict[int, bytes] = {token["id"]: token["content"].encode() for token in file.added}

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Opens a `tokenizer.json`.

        Costs 0.3 s for Qwen3's (11 MB, 151,669 tokens), 65 MB that stay and 50 MB more while opening.

        Raises:
            BundleInvalid: The file is missing, no JSON, no byte-level BPE tokenizer, or has a token that would make
                an id depend on more than its own text.
        """
        return cls(read_tokenizer_file(path))

    def encode(self, text: str) -> list[int]:
        """Encodes plain text: whatever it holds, no id of an added token comes out.

        Costs about 0.5 microseconds a character of prose, 2 of Chinese, and is linear in the length.

        Raises:
            RequestInvalid: The text holds a lone surrogate, or a character that the vocabulary cannot spell.
        """
        self._check_spelling(text)
        return self._ids(text) if len(text) < _LARGE else self._thread.call(self._ids, text)

    def _ids(self, text: str) -> list[int]:
        return list(self._plain.encode(_storable(text), add_special_tokens=False).ids)

    def split_control(self, text: str) -> list[int | str]:
        """Splits TRUSTED template text: added tokens become ids, the longest first at a position; the rest stays text.

        `encode_segments` of the result gives what the library gives for the whole text.

        Raises:
            RequestInvalid: The text holds a lone surrogate.
        """
        encoding = self._control.encode(_storable(text), add_special_tokens=False)
        segments: list[int | str] = []
        end = 0
        for token, (start, stop) in zip(encoding.tokens, encoding.offsets, strict=True):
            segments += [text[end:start], self.added_tokens[token]]
            end = stop
        return [segment for segment in (*segments, text[end:]) if segment != ""]

    def encode_segments(self, segments: Iterable[int | str]) -> list[int]:
        """Encodes plain text between given ids; the ids are kept as they are.

        Adjacent texts are joined first, since BPE merges across the joint: the halves of a control token stay text.

        Raises:
            RequestInvalid: A text holds a lone surrogate; the position named is the one in its own segment.
        """
        ids: list[int] = []
        texts: list[str] = []
        for segment in segments:
            if isinstance(segment, str):
                texts.append(_storable(segment))
            else:
                ids += self.encode("".join(texts))
                ids.append(segment)
                texts.clear()
        return ids + self.encode("".join(texts))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: an added token's text in UTF-8, nothing for an id that does not exist.

        A token may hold a part of a character. Costs 1 microsecond the first time, then a look-up.
        """
        known = self._bytes.get(token_id)
        if known is not None:
            return known
        # The library takes unsigned numbers only; and ids that do not exist must not fill the cache.
        if not 0 <= token_id < self.num_tokens:
            return b""
        token = self._plain.id_to_token(token_id)
        return self._bytes.setdefault(token_id, b"" if token is None else bytes_of(token))

    def spellings(self) -> list[bytes]:
        """What `token_bytes` gives for each id below `num_tokens`. Costs 0.5 s for Qwen3's, and keeps nothing."""
        spelled = [b""] * self.num_tokens
        for token, token_id in self._plain.get_vocab(with_added_tokens=False).items():
            spelled[token_id] = bytes_of(token)
        for token, token_id in self.added_tokens.items():
            spelled[token_id] = token.encode()
        return spelled

    def byte_ids(self, text: str) -> list[int] | None:
        """One token per byte of a text in UTF-8, as it is: not normalized. None: a byte has no token of its own.

        Raises:
            RequestInvalid: The text holds a lone surrogate.
        """
        stored = _storable(text).encode()
        found = {byte: self._plain.token_to_id(spelling_of(byte)) for byte in {*stored}}
        ids = {byte: token_id for byte, token_id in found.items() if token_id is not None}
        return [ids[byte] for byte in stored] if len(ids) == len(found) else None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, without special tokens; added tokens that are not special are text.

        Bytes that are no UTF-8 become U+FFFD, as in the library.
        """
        return b"".join(map(self._text_bytes, ids)).decode("utf-8", errors="replace")

    def text_decoder(self) -> TextDecoder:
        """A decoder for one completion, token by token."""
        return TextDecoder(self._text_bytes)

    def _check_spelling(self, text: str) -> None:
        """Refuses what the library would drop without a word."""
        if not self._lacking_bytes:
            return
        stored = text.encode(errors="surrogatepass")
        position = next((at for at, byte in enumerate(stored) if byte in self._lacking_bytes), None)
        if position is not None:
            character = stored[:position].decode(errors="ignore")
            raise RequestInvalid(
                f"the text holds {text[len(character)]!r} at character {len(character)}, for which this model's "
                "vocabulary has no token. Remove the character."
            )

    def _text_bytes(self, token_id: int) -> bytes:
        return b"" if token_id in self.special_ids else self.token_bytes(token_id)


class TextDecoder:
    """Decodes one completion as it grows; made by `Tokenizer.text_decoder`, for one thread.

    The pieces, joined, equal `Tokenizer.decode` of all ids. No piece holds a part of a character: its bytes wait for
    the rest. What a reader sees as one sign may still come in pieces, since an emoji can be several characters.
    """

    def __init__(self, text_bytes: Callable[[int], bytes]) -> None:
        self._text_bytes = text_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; often none."""
        return self._utf8.decode(self._text_bytes(token_id))

    def finish(self) -> str:
        """U+FFFD if the last character never became whole, else nothing. The decoder then begins afresh."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


def _storable(text: str) -> str:
    """The text itself, once it is known that UTF-8 can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid(
            f"the text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, expected "
            "characters that UTF-8 can hold. Decode the text as UTF-8 again, or remove the character."
        ) from None
    return text
