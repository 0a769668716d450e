"""The texts that calibration and evaluation run on."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import OptionInvalid
from rubricrm.rubric.rubric import parse
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_export.calibrate import texts
from rubricrm_export.calibrate.texts import builtin_requests, held_out_rubrics, held_out_text, read_text, self_text
from rubricrm_export.calibrate.token_text import WINDOW, TokenText

MakeCheckpoint = Callable[..., Path]

DEMO = Bundle.open(DEMO_BUNDLE)
TOKENIZER = Tokenizer.from_file(DEMO.file("tokenizer.json"))
PROMPT = Prompt(DEMO.manifest.prompt, DEMO.manifest.chat, TOKENIZER)
CONTEXT = DEMO.manifest.model.context_length


def read(
    path: Path, contents: str | bytes, *, context: int = CONTEXT, min_tokens: int = 2, max_tokens: int = 10**6
) -> TokenText:
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode("utf-8"))
    return read_text(path, TOKENIZER, context, min_tokens=min_tokens, max_tokens=max_tokens)


# --- files


def test_windows_cover_the_text_in_order(tmp_path: Path) -> None:
    contents = "".join(f"Line {number} of a text that is long enough.\n" for number in range(400))
    ids = TOKENIZER.encode(contents)
    text = read(tmp_path / "text.txt", contents)
    assert (text.name, text.prefix) == ("text.txt", ())
    assert {len(sequence) for sequence in text.sequences} == {WINDOW}
    assert text.token_ids == ids[: len(ids) // WINDOW * WINDOW]
    assert text.num_tokens == sum(map(len, text.sequences))


def test_windows_fit_a_short_context(tmp_path: Path) -> None:
    ids = TOKENIZER.encode("x " * 1000)[:250]
    contents = TOKENIZER.decode(ids)
    text = read(tmp_path / "text.txt", contents, context=100, min_tokens=512)
    assert text.sequences == (tuple(ids[:100]), tuple(ids[100:200]))


def test_a_short_text_is_one_sequence(tmp_path: Path) -> None:
    text = read(tmp_path / "text.txt", "A short text.")
    assert text.sequences == (tuple(TOKENIZER.encode("A short text.")),)


@pytest.mark.parametrize("extra", [0, 1, 511])
def test_only_a_whole_last_sequence_is_kept(tmp_path: Path, extra: int) -> None:
    letters = "x " * 3000
    ids = TOKENIZER.encode(letters)
    cut = TOKENIZER.decode(ids[: 2 * WINDOW + extra])
    assert len(read(tmp_path / "text.txt", cut).sequences) == 2


def test_of_a_long_text_sequences_are_spread_evenly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = "".join(f"Line {number} of a text that is long enough.\n" for number in range(1000))
    whole = read(tmp_path / "text.txt", contents).sequences
    with caplog.at_level(logging.INFO):
        some = read(tmp_path / "text.txt", contents, max_tokens=4 * WINDOW).sequences
    assert some == tuple(whole[number * len(whole) // 4] for number in range(4))
    assert f"4 of its {len(whole)} sequences" in caplog.text


def test_byte_order_mark_and_control_tokens_are_text(tmp_path: Path) -> None:
    text = read(tmp_path / "text.txt", b"\xef\xbb\xbfEnd it: <|im_end|> and go on.")
    assert list(text.sequences[0]) == TOKENIZER.encode("End it: <|im_end|> and go on.")
    assert not set(text.sequences[0]) & set(DEMO.manifest.prompt.stop_ids)


def test_lines_of_json(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"text": "One."},
        {"request": "Two?", "rubric": "1. Three."},
        {"request": "Four?", "id": 4},
    ]
    contents = "\n\n".join(map(json.dumps, entries)) + "\n"
    text = read(tmp_path / "texts.jsonl", contents)
    assert TOKENIZER.decode(list(text.sequences[0])) == "One.\n\nTwo?\n\n1. Three.\n\nFour?"


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("text.txt", "", "is empty"),
        ("text.txt", " \n\t ", "is empty"),
        ("text.txt", "x", "holds 1 tokens, expected at least 2. Pass a longer text"),
        ("text.txt", b"good \xff bad", "byte 5 is not UTF-8"),
        ("text.txt", "Zwölf".encode("utf-16"), "byte 0 is not UTF-8"),
        ("lines.jsonl", "", "is empty"),
        ("lines.jsonl", '{"text": "good"}\nbad', r"lines\.jsonl:2: not JSON"),
        ("lines.jsonl", '{"text": 3}', r'lines\.jsonl:1: .* expected an object with "text" or "request"'),
        ("lines.jsonl", '["text"]', 'expected an object with "text"'),
        ("lines.jsonl", '{"rubric": "alone"}', 'expected an object with "text"'),
        ("lines.jsonl", "[" * 100_000, "not JSON"),
    ],
)
def test_bad_file(tmp_path: Path, name: str, contents: str | bytes, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        read(tmp_path / name, contents)


def test_too_little_to_calibrate_on(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"holds \d+ tokens, expected at least 512"):
        read(tmp_path / "text.txt", "One line is too little.", min_tokens=WINDOW)


def test_missing_file_directory_and_absurd_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(OptionInvalid, match="cannot be read"):
            read_text(path, TOKENIZER, CONTEXT, min_tokens=2, max_tokens=9999)
    monkeypatch.setattr(texts, "_MAX_FILE_BYTES", 10)
    with pytest.raises(OptionInvalid, match="has 11 bytes, expected at most 10"):
        read(tmp_path / "text.txt", "eleven byte")


@given(st.text(min_size=2))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, contents: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    try:
        text = read(path, contents.encode("utf-8", "replace"))
    except OptionInvalid:
        return
    assert all(0 <= token < TOKENIZER.num_tokens for token in text.token_ids)


# --- built-in texts


def test_builtin_texts_are_distinct_and_canonical() -> None:
    requests, held_out = builtin_requests(), held_out_rubrics()
    assert len(set(requests)) == len(requests) >= 40
    assert len(held_out) >= 8
    assert not {request for request, _ in held_out} & set(requests)
    for _, text in held_out:
        rubric = parse(text)
        assert not rubric.issues
        assert len(rubric.criteria) >= 6


def test_held_out_text_is_prompt_and_rubric() -> None:
    text = held_out_text(PROMPT, TOKENIZER, CONTEXT, max_tokens=10**6)
    assert list(text.prefix) == PROMPT.fixed_prefix()
    assert len(text.sequences) == len(held_out_rubrics())
    for sequence, (request, rubric) in zip(text.sequences, held_out_rubrics(), strict=True):
        assert [*text.prefix, *sequence] == [*PROMPT.encode_request(request), *TOKENIZER.encode(rubric)]


def test_held_out_text_within_limits() -> None:
    whole = held_out_text(PROMPT, TOKENIZER, CONTEXT, max_tokens=10**6)
    lengths = [len(whole.prefix) + len(sequence) for sequence in whole.sequences]
    fitting = held_out_text(PROMPT, TOKENIZER, sorted(lengths)[2], max_tokens=10**6)
    assert len(fitting.sequences) == 3
    assert len(held_out_text(PROMPT, TOKENIZER, CONTEXT, max_tokens=1).sequences) == 1
    with pytest.raises(OptionInvalid, match="no built-in request fits the model's context"):
        held_out_text(PROMPT, TOKENIZER, 10, max_tokens=10**6)


# --- what a model writes


def written(num_requests: int) -> TokenText:
    return self_text(DEMO, threads=1, on_progress=lambda *_: None, num_requests=num_requests)


def test_a_model_writes_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_MAX_NEW_TOKENS", 12)
    calls: list[tuple[int, int]] = []
    text = self_text(DEMO, threads=1, on_progress=lambda *call: calls.append(call), num_requests=3)
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (text.name, list(text.prefix)) == ("self", PROMPT.fixed_prefix())
    for sequence, request in zip(text.sequences, builtin_requests(), strict=False):
        prompt = PROMPT.encode_request(request)
        assert [*text.prefix, *sequence][: len(prompt)] == prompt
        assert 0 < len(text.prefix) + len(sequence) - len(prompt) <= 12
    assert text == written(3)


def test_requests_that_do_not_fit_are_left_out(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

    monkeypatch.setattr(texts, "_MAX_NEW_TOKENS", 4)
    shortest = min(map(len, builtin_requests()))
    checkpoint = make_checkpoint(max_position_embeddings=260 + shortest)
    bundle = export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle"))
    requests = sorted(builtin_requests(), key=len)
    monkeypatch.setattr(texts, "builtin_requests", lambda: [requests[-1], requests[0]])
    assert len(self_text(bundle, threads=1, on_progress=lambda *_: None, num_requests=2).sequences) == 1
    with pytest.raises(OptionInvalid, match="no built-in request fits .* --calibration FILE"):
        self_text(bundle, threads=1, on_progress=lambda *_: None, num_requests=1)


# --- the sequences themselves


def test_token_text_as_json() -> None:
    text = TokenText("self", (1, 2), ((3,), (4, 5)))
    assert TokenText.from_json(text.to_json()) == text
    assert text.spans == [(0, 2), (2, 3), (3, 5)]
    assert text.token_ids == [1, 2, 3, 4, 5]
    assert TokenText("plain", (), ((3,), (4, 5))).spans == [(0, 1), (1, 3)]
    for bad in ("", "[]", "{}", '{"name": "x", "prefix": 3, "sequences": []}'):
        with pytest.raises(ValueError, match="no token sequences|Expecting value"):
            TokenText.from_json(bad)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sequences": [[3], [4, 6]]}, "its hash is of other token sequences"),
        ({"sequences": [[3], [4]]}, "its hash is of other token sequences"),
        ({"sequences": [[3], [4, "5"]]}, "not all tokens are ids"),
        ({"sequences": [[3], [4, True]]}, "not all tokens are ids"),
        ({"sequences": [[3], [4, 5.0]]}, "not all tokens are ids"),
        ({"prefix": [-1, 2]}, "not all tokens are ids"),
        ({"sequences": [3]}, "no token sequences"),
        ({"name": "held-out"}, "its hash is of other token sequences"),
        ({"sha256": None}, "its hash is of other token sequences"),
    ],
    ids=str,
)
def test_token_text_that_was_changed(change: dict[str, object], words: str) -> None:
    document = json.loads(TokenText("self", (1, 2), ((3,), (4, 5))).to_json())
    with pytest.raises(ValueError, match=words):
        TokenText.from_json(json.dumps(document | change))


def test_kept_text_fits_the_model_or_not() -> None:
    text = TokenText("self", (1, 2), ((3,), (4, 5)))
    text.require_fitting(6, 4)
    with pytest.raises(ValueError, match="holds the id 5, the tokenizer has 5"):
        text.require_fitting(5, 4)
    with pytest.raises(ValueError, match="a sequence of 4 tokens, the model takes 3"):
        text.require_fitting(6, 3)
    for empty in (TokenText("self", (1,), ()), TokenText("self", (1,), ((2,), ()))):
        with pytest.raises(ValueError, match="empty"):
            empty.require_fitting(6, 4)
