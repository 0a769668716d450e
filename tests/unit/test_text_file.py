"""Bytes of a file to text, whatever wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.text_file import decode_text, without_file_ends

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@given(text=texts, encoding=st.sampled_from(ENCODINGS))
def test_a_byte_order_mark_says_what_follows_and_is_no_part_of_it(text: str, encoding: str) -> None:
    assert decode_text(f"\ufeff{text}".encode(encoding), errors="strict") == text


@given(text=texts)
def test_without_a_mark_it_is_utf_8(text: str) -> None:
    assert decode_text(text.encode(), errors="strict") == text


@given(
    text=st.text(st.characters(min_codepoint=1, max_codepoint=0x7F), min_size=1),
    encoding=st.sampled_from(ENCODINGS[1:3]),
)
def test_utf_16_of_ascii_is_known_without_a_mark(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding), errors="strict") == text


@given(contents=st.binary())
def test_any_bytes_are_a_text_with_marks_for_what_is_none(contents: bytes) -> None:
    decode_text(contents).encode()


@pytest.mark.parametrize(
    ("contents", "encoding", "start"),
    [
        (b"caf\xe9 au lait", "UTF-8", 3),
        (b"\xef\xbb\xbfcaf\xe9 au lait", "UTF-8", 6),
        (b"\xff\xfea\0b", "UTF-16-LE", 4),
        (b"\xff\xfe\x00\xd8a\0", "UTF-16-LE", 2),
        (b"\xff\xfe\0\0a\0\0", "UTF-32-LE", 4),
    ],
)
def test_what_is_no_text_is_told_with_its_place_and_encoding(contents: bytes, encoding: str, start: int) -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        decode_text(contents, errors="strict")
    assert (caught.value.encoding, caught.value.start) == (encoding, start)
    assert "\ufffd" in decode_text(contents)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n\r\n", "a"),
        ("a\r", "a"),
        ("a\r\n\r\nb\n", "a\n\nb"),
        (" a \n", " a "),
        ("\na", "\na"),
        ("\n", ""),
        ("a\t\u2028", "a\t\u2028"),
    ],
)
def test_the_ends_of_a_file_are_taken_off(text: str, expected: str) -> None:
    assert without_file_ends(text) == expected
