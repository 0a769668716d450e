"""The tokenizer of librubricrm beside the library `tokenizers`: the same ids for the same bytes.

Needs encode_stream of a native build: `RUBRICRM_NATIVE_BUILD`, else build/native/release. With `RUBRICRM_ALL_TEXTS` it
compares 100,000 hostile strings for each tokenizer, and every code point alone, between letters and between digits.
SmolLM2's tokenizer.json is read from the checkpoint that `RUBRICRM_SMOLLM2` names.
"""

import array
import os
import random
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hostile_texts import hostile_text
from rubricrm.errors import RequestInvalid
from rubricrm.runtime.tokenizer import Tokenizer
from tokenizers import Tokenizer as LibraryTokenizer

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
ENCODE_STREAM = BUILD / "tests" / "cpp" / "encode_stream"
ALL_TEXTS = "RUBRICRM_ALL_TEXTS" in os.environ
FILES = {
    "demo": ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle" / "tokenizer.json",
    "qwen3": ROOT.parent / "shared" / "qwen3-tokenizer" / "tokenizer.json",
    "smollm2": Path(os.environ.get("RUBRICRM_SMOLLM2", "not-given")) / "tokenizer.json",
}
CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not ENCODE_STREAM.exists(), reason=f"no {ENCODE_STREAM}: build the preset release"),
]


@pytest.fixture(scope="module", params=FILES)
def path(request: pytest.FixtureRequest) -> Path:
    path = FILES[request.param]
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(path)


def native_ids(path: Path, texts: Iterable[bytes]) -> list[list[int] | None]:
    """What librubricrm makes of each text; None: it refuses it."""
    given = b"".join(struct.pack("=I", len(text)) + text for text in texts)
    answer = array.array("i", subprocess.run([ENCODE_STREAM, path], input=given, stdout=-1, check=True).stdout)
    ids: list[list[int] | None] = []
    at = 0
    while at < len(answer):
        count = answer[at]
        ids.append(answer[at + 1 : at + 1 + count].tolist() if count >= 0 else None)
        at += 1 + max(count, 0)
    return ids


def python_ids(tokenizer: Tokenizer, text: str) -> list[int] | None:
    try:
        return tokenizer.encode(text)
    except RequestInvalid:
        return None


def check(path: Path, tokenizer: Tokenizer, texts: list[str]) -> None:
    found = native_ids(path, (text.encode() for text in texts))
    expected = [python_ids(tokenizer, text) for text in texts]
    different = [text for text, native, python in zip(texts, found, expected, strict=True) if native != python]
    assert different == []


def test_hostile_texts_have_the_same_ids(path: Path, tokenizer: Tokenizer) -> None:
    added = list(tokenizer.added_tokens)
    rng = random.Random(20_264)
    check(path, tokenizer, [hostile_text(rng, added) for _ in range(100_000 if ALL_TEXTS else 1_500)])


@pytest.mark.parametrize("form", ["{}", "a{}b", "1{}2", " {}"])
def test_code_points_have_the_same_ids(path: Path, tokenizer: Tokenizer, form: str) -> None:
    step = 1 if ALL_TEXTS else 997
    check(path, tokenizer, [form.format(character) for character in CHARACTERS[::step]])


def test_long_texts_have_the_same_ids(path: Path, tokenizer: Tokenizer) -> None:
    words = ["a" * 50_000, " " * 50_000 + "x", "\n \t" * 20_000, "e\u0301\u0323" * 20_000, "'s" * 20_000, "7" * 20_000]
    check(path, tokenizer, [*words, "".join(words)])


def test_ids_without_added_tokens_are_those_of_the_whole_library(path: Path) -> None:
    library = LibraryTokenizer.from_file(str(path))
    texts = [text for text in (hostile_text(random.Random(seed), ["-"]) for seed in range(500)) if "<" not in text]
    found = native_ids(path, (text.encode() for text in texts))
    for text, ids in zip(texts, found, strict=True):
        assert ids is None or ids == library.encode(text, add_special_tokens=False).ids, text
    assert sum(ids is not None for ids in found) > 200


@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"a\xff", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"], ids=repr)
def test_what_is_no_utf8_is_refused(path: Path, text: bytes) -> None:
    assert native_ids(path, [b"x", text])[1] is None
