"""Stop strings: the text ends at the first one, in whatever pieces it was written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.generation.stop_strings import StopStrings


def run(strings: list[str], pieces: list[str]) -> tuple[list[str], str, str | None]:
    """Return what came out for each piece, what came out at the end, and the string that was found."""
    stops = StopStrings(strings)
    out = [stops.push(piece) for piece in pieces]
    return out, stops.finish(), stops.found


def reference(strings: list[str], text: str) -> tuple[str, str | None]:
    """The text before the earliest occurrence, and the longest string that occurs there."""
    for at in range(len(text)):
        there = [string for string in strings if text.startswith(string, at)]
        if there:
            return text[:at], max(there, key=len)
    return text, None


texts = st.text("abc", max_size=12)
stop_lists = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4)


@settings(max_examples=1_000)
@given(strings=stop_lists, pieces=st.lists(texts, max_size=8))
def test_the_text_ends_at_the_earliest_stop_string_however_it_is_cut(strings: list[str], pieces: list[str]) -> None:
    out, rest, found = run(strings, pieces)
    expected, expected_found = reference(strings, "".join(pieces))
    assert "".join(out) + rest == expected
    assert (found is None) == (expected_found is None)


@settings(max_examples=500)
@given(strings=stop_lists, text=st.text("abc", max_size=30))
def test_in_one_piece_the_longest_of_those_that_begin_first_is_found(strings: list[str], text: str) -> None:
    out, rest, found = run(strings, [text])
    assert ("".join(out) + rest, found) == reference(strings, text)


@settings(max_examples=500)
@given(strings=stop_lists, text=st.text("abc", max_size=20))
def test_no_more_is_held_back_than_could_begin_a_stop_string(strings: list[str], text: str) -> None:
    stops = StopStrings(strings)
    out = "".join(stops.push(character) for character in text)
    if stops.found is None:
        held = text.removeprefix(out)
        assert not held or any(string.startswith(held[: len(string)]) for string in strings)


def test_text_without_stop_strings_passes() -> None:
    assert run([], ["a", "", "b"]) == (["a", "", "b"], "", None)


def test_what_is_held_back_comes_at_the_end() -> None:
    assert run(["END"], ["the E", "N"]) == (["the ", ""], "EN", None)


def test_what_is_held_back_comes_when_the_text_goes_another_way() -> None:
    assert run(["END"], ["the E", "N", "T"]) == (["the ", "", "ENT"], "", None)


def test_a_stop_string_across_pieces_is_found() -> None:
    assert run(["END"], ["the E", "N", "D of it"]) == (["the ", "", ""], "", "END")


def test_nothing_follows_a_stop_string() -> None:
    assert run(["\n"], ["one\ntwo", "three"]) == (["one", ""], "", "\n")


def test_a_complete_string_does_not_wait_for_a_longer_one_that_ends_at_the_same_place() -> None:
    assert run(["\n\n", "\n"], ["one\n", "\ntwo"]) == (["one", ""], "", "\n")


def test_a_complete_string_waits_for_one_that_began_earlier() -> None:
    assert run(["bc", "abcd"], ["xabc", "d"]) == (["x", ""], "", "abcd")
    assert run(["bc", "abcd"], ["xabc", "e"]) == (["x", "a"], "", "bc")
    assert run(["bc", "abcd"], ["xabc"]) == (["x"], "a", "bc")


@pytest.mark.parametrize("stop", ["🙂", "é", "\u0301"], ids=ascii)
def test_any_character_can_stop(stop: str) -> None:
    assert run([stop], ["a", stop, "b"]) == (["a", "", ""], "", stop)
