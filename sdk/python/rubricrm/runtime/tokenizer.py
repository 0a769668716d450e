"""Text to token ids and back. A control token comes from the trusted template only, never from a user's text.

The ids are those of the library `tokenizers` for the same `tokenizer.json`. What is added to it here: user text that
spells a control token stays text, one function gives the bytes of a token, and decoding streams whole characters.
"""

from __future__ import annotations

import codecs
import json
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rubricrm.errors import BundleInvalid, RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tokenizers import Tokenizer as LibraryTokenizer

    Fault = Callable[..., BundleInvalid]

_REMEDY = "Export the bundle from a checkpoint with a byte-level BPE tokenizer, as Qwen3 has."

# GPT-2's alphabet: a byte that prints is its own Latin-1 character, the other 68 are U+0100 and up, in order.
_PRINTABLE_BYTES = frozenset((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
_OTHER_BYTES = tuple(byte for byte in range(256) if byte not in _PRINTABLE_BYTES)
_BYTE_CHARACTERS = frozenset(map(chr, _PRINTABLE_BYTES)) | {chr(0x100 + n) for n in range(len(_OTHER_BYTES))}
# A character outside the alphabet becomes one that Latin-1 cannot hold: then the token is no sequence of bytes.
_TO_LATIN_1 = {0x100 + n: byte for n, byte in enumerate(_OTHER_BYTES)} | dict.fromkeys(_OTHER_BYTES, 0xFFFF)


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

    def __init__(
        self,
        plain: LibraryTokenizer,
        control: LibraryTokenizer,
        added: Iterable[Mapping[str, Any]],
        num_tokens: int,
        lacking_bytes: bytes,
    ) -> None:
        entries = list(added)
        self.num_tokens = num_tokens
        self.added_tokens = MappingProxyType({token["content"]: token["id"] for token in entries})
        self.special_ids = frozenset(token["id"] for token in entries if token.get("special"))
        self._plain = plain
        self._control = control
        self._lacking_bytes = lacking_bytes
        self._bytes: dict[int, bytes] = {token["id"]: token["content"].encode() for token in entries}

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Opens a `tokenizer.json`.

        Costs 0.5 s for Qwen3's (11 MB, 151,669 tokens), 70 MB that stay and 50 MB more while opening.

        Raises:
            BundleInvalid: The file is missing, no JSON, no byte-level BPE tokenizer, or has a token that would make
                an id depend on more than its own text.
        """
        fault = partial(_fault, path)
        document = _read_document(path, fault)
        _check_byte_level(document, fault)
        model = _checked_model(document, fault)
        vocab: dict[str, int] = model["vocab"]
        added = _checked_added_tokens(document, vocab, fault)
        num_tokens = 1 + max((*vocab.values(), *(token["id"] for token in added)), default=-1)
        _remove_added_tokens(model, {token["content"] for token in added})
        lacking = _lacking_bytes(vocab)
        try:
            plain, control = _plain_tokenizer(document), _control_tokenizer(document)
        # The library raises bare Exception for whatever it refuses.
        except Exception as error:
            raise fault("the tokenizer", f"refused: {error}", "one that the library tokenizers opens") from error
        return cls(plain, control, added, num_tokens, lacking)

    def encode(self, text: str) -> list[int]:
        """Encodes plain text: whatever it holds, no id of an added token comes out.

        Costs about 0.5 microseconds a character of prose, 2 of Chinese, and is linear in the length.

        Raises:
            RequestInvalid: The text holds a lone surrogate, or a character that the vocabulary cannot spell.
        """
        self._check_spelling(text)
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
        return self._bytes.setdefault(token_id, b"" if token is None else _bytes_of(token))

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


def _bytes_of(token: str) -> bytes:
    """The bytes of a vocabulary entry; one that is not all in the byte alphabet stands for itself."""
    try:
        return token.translate(_TO_LATIN_1).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


def _fault(path: Path, where: str, got: object, expected: str, do: str = _REMEDY) -> BundleInvalid:
    return BundleInvalid(f"{path}: {where} is {got}, expected {expected}. {do}")


def _read_document(path: Path, fault: Fault) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise fault("the file", f"unreadable ({error.strerror})", "a tokenizer.json") from error
    except (ValueError, RecursionError) as error:
        raise fault("the file", f"no JSON ({error})", "a tokenizer.json") from error
    if not isinstance(document, dict):
        raise fault("the file", f"a JSON {type(document).__name__}", "an object")
    return document


def _check_byte_level(document: Mapping[str, Any], fault: Fault) -> None:
    before = _component_types(document.get("pre_tokenizer"), "pretokenizers")
    if before.count("ByteLevel") != 1:
        raise fault('"pre_tokenizer"', before or None, "ByteLevel, or a Sequence with one")
    after = _component_types(document.get("decoder"), "decoders")
    if after != ["ByteLevel"]:
        raise fault('"decoder"', after or None, "ByteLevel alone")


def _component_types(component: Any, members: str) -> list[Any]:
    """The types of a component, with those inside a Sequence in its place."""
    if not isinstance(component, dict):
        return []
    if component.get("type") != "Sequence":
        return [component.get("type")]
    return [name for member in component.get(members) or () for name in _component_types(member, members)]


def _checked_model(document: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    model = document.get("model")
    if not isinstance(model, dict):
        raise fault('"model"', type(model).__name__, "an object")
    if model.get("type") != "BPE":
        raise fault('"model.type"', repr(model.get("type")), "'BPE'")
    for key, why in (
        ("dropout", "encoding would be random"),
        ("continuing_subword_prefix", "tokens would not be bytes"),
        ("end_of_word_suffix", "tokens would not be bytes"),
    ):
        if model.get(key):
            raise fault(f'"model.{key}"', repr(model[key]), f"null, or {why}")
    _check_vocab(model.get("vocab"), fault)
    model["merges"] = _merge_pairs(model.get("merges"), fault)
    return model


def _check_vocab(vocab: Any, fault: Fault) -> None:
    if not isinstance(vocab, dict):
        raise fault('"model.vocab"', type(vocab).__name__, "an object")
    if not all(type(token_id) is int and token_id >= 0 for token_id in vocab.values()):
        raise fault('"model.vocab"', "a map to something else", "a map from token to id, a number from 0")
    if len(set(vocab.values())) != len(vocab):
        raise fault('"model.vocab"', "ambiguous: two tokens share an id", "one token for an id")


def _merge_pairs(merges: Any, fault: Fault) -> list[tuple[str, str]]:
    """Either form in use: "a b", or ["a", "b"], which the library has written since its version 0.20."""
    try:
        pairs = [(left, right) for left, right in (m.split(" ") if isinstance(m, str) else m for m in merges)]
    except (TypeError, ValueError) as error:
        raise fault('"model.merges"', f"malformed ({error})", "a list of pairs") from error
    if not all(isinstance(left, str) and isinstance(right, str) for left, right in pairs):
        raise fault('"model.merges"', "made of something else", "a list of pairs of tokens")
    return pairs


def _checked_added_tokens(document: Mapping[str, Any], vocab: Mapping[str, int], fault: Fault) -> list[dict[str, Any]]:
    added = document.get("added_tokens") or []
    if not isinstance(added, list):
        raise fault('"added_tokens"', type(added).__name__, "a list")
    normalizer = document.get("normalizer")
    vocab_ids = set(vocab.values())
    next_id = len(vocab)
    seen: set[str] = set()
    for position, token in enumerate(added):
        where = f'"added_tokens[{position}]'
        _check_added_token(token, normalizer, where, fault)
        text, token_id = token["content"], token["id"]
        if text in seen:
            raise fault(f'{where}.content"', f"{text!r} again", "a text once")
        # The library ignores the id in the file and counts on from the vocabulary: both must mean the same token.
        expected = vocab.get(text, next_id)
        if token_id != expected or (text not in vocab and token_id in vocab_ids):
            raise fault(f'{where}.id"', token_id, f"{expected}, the id that tokenizers gives {text!r}, used once")
        next_id += text not in vocab
        seen.add(text)
    return added


def _check_added_token(token: Any, normalizer: Any, where: str, fault: Fault) -> None:
    if not (isinstance(token, dict) and isinstance(token.get("content"), str) and type(token.get("id")) is int):
        raise fault(f'{where}"', json.dumps(token), 'an object with "id" and "content"')
    if not token["content"]:
        raise fault(f'{where}.content"', "empty", "a text")
    for flag in ("lstrip", "rstrip", "single_word"):
        if token.get(flag):
            do = (
                f'Set "{flag}" to false, which changes nothing where the template has no white space or word beside it.'
            )
            raise fault(f'{where}.{flag}"', "true", "false: a control token is exactly its text", do)
    # Only then is the text beside such a token the same before normalizing and after.
    is_kept_by_normalizer = normalizer is None or (normalizer == {"type": "NFC"} and token["content"].isascii())
    if token.get("normalized") and not is_kept_by_normalizer:
        do = 'Set "normalized" to false: the token is then looked for in the text as it is.'
        raise fault(f'{where}.normalized"', "true", "false, or an ASCII token and the normalizer NFC", do)


def _remove_added_tokens(model: dict[str, Any], texts: set[str]) -> None:
    """Takes added tokens out of the vocabulary, and the merges through them: plain text cannot reach their ids."""
    present = texts & model["vocab"].keys()
    for text in present:
        del model["vocab"][text]
    if present:
        pairs = model["merges"]
        model["merges"] = [pair for pair in pairs if present.isdisjoint((*pair, "".join(pair)))]


def _lacking_bytes(vocab: Mapping[str, int]) -> bytes:
    """The bytes without an entry. Some vocabularies have none for control characters; Qwen3's has all 256."""
    return bytes(map(ord, (c.translate(_TO_LATIN_1) for c in sorted(_BYTE_CHARACTERS - vocab.keys()))))


def _plain_tokenizer(document: Mapping[str, Any]) -> LibraryTokenizer:
    """Encodes text as the file says, but knows no added token."""
    from tokenizers.models import BPE

    model = document["model"]
    plain = _library_tokenizer(document, "normalizer", "pre_tokenizer")
    # Given as objects: writing 11 MB of JSON for the library to parse again costs 0.2 s and 90 MB more.
    plain.model = BPE(model["vocab"], model["merges"], ignore_merges=bool(model.get("ignore_merges")))
    return plain


def _control_tokenizer(document: Mapping[str, Any]) -> LibraryTokenizer:
    """Finds added tokens by the library's own rules, and nothing else: its model is empty."""
    return _library_tokenizer(document, "normalizer", "added_tokens")


def _library_tokenizer(document: Mapping[str, Any], *sections: str) -> LibraryTokenizer:
    from tokenizers import Tokenizer as LibraryTokenizer

    empty: dict[str, Any] = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    given = {section: document[section] for section in sections if document.get(section) is not None}
    return LibraryTokenizer.from_str(json.dumps(empty | given))
