"""Tokens to text: whole characters, stop strings, circles."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.generation.completion import Completion
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.tokenizer import Tokenizer

START_TURN, THINK = 1, 3
CIRCLE = "1. The response is exactly" + " exactly" * 60
# 4 rounds, and 96 tokens, which are bytes here.
LENGTH_OF_CIRCLE = len("1. The response is") + 96

Write = Callable[..., tuple[list[str], str | None, int]]


def byte_ids(text: str | bytes) -> list[int]:
    """The tokens of a text: the tiny tokenizer has one a byte, after 5 control tokens."""
    return [5 + byte for byte in (text.encode() if isinstance(text, str) else text)]


@pytest.fixture(scope="session")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(tiny_bundle / "tokenizer.json")


@pytest.fixture(scope="session")
def write(tokenizer: Tokenizer) -> Write:
    """Return a function that gives the pieces of tokens, why they ended, and how many were taken."""

    def complete(
        script: str | bytes | Sequence[int], *, is_whole: bool = True, **options: Any
    ) -> tuple[list[str], str | None, int]:
        completion = Completion(tokenizer, GenerationOptions(**options))
        pieces = []
        for token_id in byte_ids(script) if isinstance(script, str | bytes) else script:
            piece, reason = completion.push(token_id)
            pieces.append(piece)
            if reason is not None:
                break
        else:
            reason = None
        taken = len(pieces)
        piece, is_stopped = completion.finish(is_whole=is_whole or reason == "stop")
        return [piece for piece in [*pieces, piece] if piece], "stop" if is_stopped else reason, taken

    return complete


@settings(max_examples=200)
@given(text=st.text(max_size=20))
def test_pieces_are_whole_characters_and_join_to_the_text(write: Write, text: str) -> None:
    pieces, reason, count = write(text)
    assert "".join(pieces) == text
    assert (reason, count) == (None, len(text.encode()))
    for piece in pieces:
        piece.encode()


@pytest.mark.parametrize("count", range(1, 11))
def test_a_character_that_a_cut_left_incomplete_is_dropped(write: Write, count: int) -> None:
    contents = "aé中🙂".encode()[:count]
    assert "".join(write(contents, is_whole=False)[0]) == contents.decode(errors="ignore")


def test_a_character_that_the_model_itself_left_incomplete_is_marked(write: Write) -> None:
    assert "".join(write("a🙂".encode()[:-1])[0]) == "a\ufffd"


def test_bytes_that_are_no_utf8_are_marked_where_they_stand(write: Write) -> None:
    assert "".join(write(b"a\xffb\x80")[0]) == "a\ufffdb\ufffd"


def test_special_tokens_are_no_text_and_other_added_tokens_are(write: Write) -> None:
    pieces, _, count = write([*byte_ids("a"), START_TURN, THINK, *byte_ids("b")])
    assert ("".join(pieces), count) == ("a<think>b", 4)


@pytest.mark.parametrize(
    ("stop", "text", "count"),
    [
        (["END"], "one ", 7),
        (["\n", "END"], "one ", 7),
        (["one"], "", 3),
        (["two", "ne"], "o", 3),
        (["ne END", "END"], "o", 7),
        (["absent"], "one END two", 11),
        (["o\n"], "one END two", 11),
        ([], "one END two", 11),
    ],
    ids=str,
)
def test_a_stop_string_ends_the_text_before_it(write: Write, stop: list[str], text: str, count: int) -> None:
    pieces, reason, taken = write("one END two", stop=stop)
    assert ("".join(pieces), taken) == (text, count)
    assert reason == (None if count == 11 else "stop")


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_what_a_stop_string_held_back_comes_at_a_cut(write: Write, count: int) -> None:
    pieces, reason, _ = write("one END"[:count], stop=["ENDS"], is_whole=False)
    assert ("".join(pieces), reason) == ("one END"[:count], None)


def test_a_stop_string_that_waited_for_an_earlier_one_counts_at_a_cut(write: Write) -> None:
    pieces, reason, _ = write("xabc", stop=["bc", "abcdef"], is_whole=False)
    assert ("".join(pieces), reason) == ("xa", "stop")


def test_a_text_that_goes_in_circles_is_ended_and_kept_whole(write: Write) -> None:
    pieces, reason, count = write(CIRCLE)
    assert (reason, count) == ("repetition", LENGTH_OF_CIRCLE)
    assert "".join(pieces) == CIRCLE[:count]


def test_circles_can_be_allowed(write: Write) -> None:
    pieces, reason, _ = write(CIRCLE, stop_on_repetition=False)
    assert ("".join(pieces), reason) == (CIRCLE, None)


def test_a_stop_string_counts_more_than_a_circle(write: Write) -> None:
    stop = CIRCLE[LENGTH_OF_CIRCLE - 9 : LENGTH_OF_CIRCLE]
    assert write(CIRCLE[:LENGTH_OF_CIRCLE] + "END", stop=[stop])[1] == "stop"
