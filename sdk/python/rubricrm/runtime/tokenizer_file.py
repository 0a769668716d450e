"""A file tokenizer.json: read, checked to be byte-level BPE, and opened twice by the library `tokenizers`."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rubricrm.errors import BundleInvalid
from rubricrm.runtime.byte_alphabet import lacking_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer as LibraryTokenizer

Fault = Callable[..., BundleInvalid]

_REMEDY = "Export the bundle from a checkpoint with a byte-level BPE tokenizer, as Qwen3 has."


@dataclass(frozen=True)
class TokenizerFile:
    """What a file holds.

    Attributes:
        plain: Encodes text as the file says, but knows no added token.
        control: Finds added tokens by the library's own rules, and nothing else.
        added: Every added token, as the file describes it.
        num_tokens: One more than the largest id.
        lacking_bytes: The bytes that the vocabulary cannot spell.
    """

    plain: LibraryTokenizer
    control: LibraryTokenizer
    added: list[dict[str, Any]]
    num_tokens: int
    lacking_bytes: bytes


def read_tokenizer_file(path: Path) -> TokenizerFile:
    """Read and check a file; cost and errors as `Tokenizer.from_file`."""
    with _collection_paused():
        return _read(path)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Keep the garbage collector from a block that makes much and drops nothing.

    A vocabulary and its merges are half a million objects, which it would look at again and again (0.1 s of 0.35).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read(path: Path) -> TokenizerFile:
    fault = partial(_fault, path)
    document = _read_document(path, fault)
    _check_byte_level(document, fault)
    model = _checked_model(document, fault)
    vocab: dict[str, int] = model["vocab"]
    added = _checked_added_tokens(document, vocab, fault)
    num_tokens = 1 + max((*vocab.values(), *(token["id"] for token in added)), default=-1)
    _remove_added_tokens(model, {token["content"] for token in added})
    lacking = lacking_bytes(vocab)
    try:
        plain, control = _plain_tokenizer(document), _control_tokenizer(document)
    # The library raises bare Exception for whatever it refuses.
    except Exception as error:
        raise fault("the tokenizer", f"refused: {error}", "one that the library tokenizers opens") from error
    return TokenizerFile(plain, control, added, num_tokens, lacking)


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
