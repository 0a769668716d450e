"""A table of phrases: bounded, shared by threads, saved whole, ignored where it is no use."""

import logging
import threading
from pathlib import Path

import pytest
from byte_tokenizer import NUMBERS, ByteTokenizer
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation.item_number import NUMBER
from rubricrm.generation.next_token import EMPTY, extended, foreseen
from rubricrm.generation.phrase_table import PhraseTable, is_table, saved_table

SHA256 = "a" * 64
RUBRIC = "1. The response rhymes. [Hard Rule]\n2. The response is short. [Principle]\n"


def table_of(*texts: str, most_entries: int = 1000) -> PhraseTable:
    table = PhraseTable(NUMBERS, most_entries)
    for text in texts:
        table.learn(text.encode())
    return table


def next_after(table: PhraseTable, text: str) -> int:
    context = EMPTY
    for byte in text.encode():
        context = extended(context, byte)
    return foreseen(context, [(0, table.entries)])[0]


def odd(number: int) -> list[int]:
    """Return six tokens of which no two texts have three alike."""
    return [1000 + number, 5000 + number * 7 % 4001, 1000 + number * 3 % 3001, 9000 - number, 1000 + number, 2000]


@given(st.lists(st.text("ab1. ", max_size=40), max_size=12), st.integers(4, 60))
def test_it_never_exceeds_its_bound(texts: list[str], most_entries: int) -> None:
    table = PhraseTable(NUMBERS, most_entries)
    for text in texts:
        table.learn(text.encode())
        assert len(table.entries) <= most_entries
    assert all(0 < entry >> 4 & 15 <= entry & 15 for entry in table.entries.values())


def test_what_is_common_outlives_what_is_not() -> None:
    table = PhraseTable(NUMBERS, 400)
    for number in range(300):
        table.learn(RUBRIC.encode())
        table.learn(
            f"{number:03}xyz{number * 7919 % 1000:03}".translate(str.maketrans("0123456789", "qwertzuiop")).encode()
        )
    assert next_after(table, "The resp") == ord("o")


def test_what_was_common_long_ago_leaves() -> None:
    table = PhraseTable(NUMBERS, 300)
    for _ in range(50):
        table.learn(b"The old phrase.")
    for number in range(3000):
        table.learn(
            bytes(65 + (number >> shift) % 58 for shift in (0, 3, 6)) + b"zebra crossing %c" % (65 + number % 58)
        )
    assert next_after(table, "e old phr") != ord("a")


def test_the_oldest_of_what_was_seen_once_leaves_first() -> None:
    table = PhraseTable(NUMBERS, 100)
    for number in range(200):
        table.learn(odd(number))
    left = {phrase.symbols[0] for phrase in table.phrases(1000)}
    assert {1199, 1198, 1197} <= left
    assert not left & set(range(1000, 1150))


def test_numbers_are_one_symbol() -> None:
    assert next_after(table_of("1. a\n2. b\n"), "b\n") == NUMBER


def test_clear() -> None:
    table = table_of(RUBRIC)
    table.clear()
    assert (len(table.entries), table.num_bytes, table.phrases()) == (0, 0, [])


def test_phrases_are_readable_and_the_surest_first() -> None:
    phrases = table_of(RUBRIC, RUBRIC, RUBRIC).phrases(most=1000)
    hits = [phrase.hits for phrase in phrases]
    assert hits == sorted(hits, reverse=True)
    texts = {phrase.text(ByteTokenizer().decode) for phrase in phrases}
    assert {"respo"[:4], "Rule", "\n#. "} <= texts
    assert all(len(text) == 4 for text in texts)
    assert len(table_of(RUBRIC).phrases(most=3)) == 3


@given(st.lists(st.text("ab1. ", max_size=40), max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("table") / "phrases.safetensors"
    table = table_of(*texts)
    table.save(path, SHA256)
    assert dict(PhraseTable.load(path, NUMBERS, SHA256).entries) == dict(table.entries)
    assert is_table(path)


def test_a_loaded_table_forgets_in_the_same_order(tmp_path: Path) -> None:
    table = table_of(RUBRIC, "abc", most_entries=150)
    table.save(tmp_path / "table", SHA256)
    loaded = PhraseTable.load(tmp_path / "table", NUMBERS, SHA256, most_entries=150)
    for number in range(40):
        table.learn(odd(number))
        loaded.learn(odd(number))
        assert dict(loaded.entries) == dict(table.entries)


def test_a_smaller_bound_than_the_file_has_holds(tmp_path: Path) -> None:
    table_of(RUBRIC, RUBRIC).save(tmp_path / "table", SHA256)
    assert len(PhraseTable.load(tmp_path / "table", NUMBERS, SHA256, most_entries=40).entries) <= 40


def test_there_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not PhraseTable.load(tmp_path / "none", NUMBERS, SHA256).entries
    assert not caplog.records
    assert not is_table(tmp_path / "none")


@given(st.data())
def test_a_damaged_file_is_never_used(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("table") / "phrases.safetensors"
    table_of(RUBRIC).save(path, SHA256)
    contents = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        del contents[data.draw(st.integers(0, len(contents) - 1), "at") :]
    else:
        contents[data.draw(st.integers(0, len(contents) - 1), "position")] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(contents)
    loaded = PhraseTable.load(path, NUMBERS, SHA256)
    assert dict(loaded.entries) in ({}, dict(table_of(RUBRIC).entries))


@pytest.mark.parametrize(
    ("contents", "sha256", "reason"),
    [
        (b"", SHA256, "it is damaged"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", SHA256, "it is damaged"),
        (None, "b" * 64, "it is of another tokenizer"),
    ],
)
def test_one_warning_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, contents: bytes | None, sha256: str, reason: str
) -> None:
    path = tmp_path / "phrases.safetensors"
    table_of(RUBRIC).save(path, SHA256)
    if contents is not None:
        path.write_bytes(contents)
    before = path.read_bytes()
    assert not PhraseTable.load(path, NUMBERS, sha256).entries
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert reason in caplog.text
    assert path.read_bytes() == before


def test_a_directory_in_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not PhraseTable.load(tmp_path, NUMBERS, SHA256).entries
    assert len(caplog.records) == 1


def test_threads_learn_read_save_and_clear(tmp_path: Path) -> None:
    table = PhraseTable(NUMBERS, 200)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(150):
                table.learn(f"{RUBRIC} {chr(65 + (seed * 31 + turn) % 58)} {RUBRIC[turn % 40 :]}".encode())
                next_after(table, RUBRIC[: turn % 60])
                assert len(table.entries) <= 200
                if turn % 20 == seed:
                    table.save(tmp_path / "table", SHA256)
                    table.phrases()
                if turn % 50 == seed:
                    table.clear()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert PhraseTable.load(tmp_path / "table", NUMBERS, SHA256).entries


def test_a_bundles_table_lies_in_the_cache() -> None:
    assert saved_table("1" * 64).parent.name == "1" * 64
    assert saved_table("1" * 64) != saved_table("2" * 64)
