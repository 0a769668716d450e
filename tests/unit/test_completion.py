"""A generation as text: whole characters, stop strings, counts and times."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import RuntimeFailed, StreamBusy
from rubricrm.generation.completion import TextStream
from rubricrm.generation.engine import Engine, Token
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

WriteText = Callable[..., TextStream]

PROMPT = list(range(20, 30))
END = 2
START_TURN, THINK = 1, 3


def byte_ids(text: str | bytes) -> list[int]:
    """The tokens of a text: the tiny tokenizer has one a byte, after 5 control tokens."""
    return [5 + byte for byte in (text.encode() if isinstance(text, str) else text)]


@pytest.fixture(scope="session")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(tiny_bundle / "tokenizer.json")


@pytest.fixture
def write(scripted: Callable[..., tuple[Engine, Any]], tokenizer: Tokenizer) -> WriteText:
    """Return a function that opens a stream of scripted tokens: a text in UTF-8, or ids."""

    def open_stream(script: str | bytes | list[int], **options: Any) -> TextStream:
        ids = script if isinstance(script, list) else [*byte_ids(script), END]
        engine, _ = scripted(ids, len(PROMPT))
        return TextStream(engine, engine.submit(PROMPT, GenerationOptions(**options)), tokenizer)

    return open_stream


@settings(max_examples=150)
@given(text=st.text(max_size=20))
def test_pieces_are_whole_characters_and_join_to_the_text(
    tokenizer: Tokenizer, scripted_once: Callable[..., Engine], text: str
) -> None:
    engine = scripted_once([*byte_ids(text), END])
    stream = TextStream(engine, engine.submit(PROMPT, GenerationOptions()), tokenizer)
    pieces = list(stream)
    result = stream.result()
    assert "".join(pieces) == result.text == text
    assert all(pieces)
    assert result.finish_reason == "stop"
    assert result.usage.completion_tokens == len(text.encode())


@pytest.fixture(scope="session")
def scripted_once(tiny_bundle: Path) -> Callable[..., Engine]:
    """As `scripted`, for tests that run it many times."""
    bundle = Bundle.open(tiny_bundle)
    session = Session(bundle, threads=1)

    def make(script: list[int]) -> Engine:
        engine = Engine(session, bundle.manifest, None)
        remaining = iter(script)
        engine._choose = lambda *_: Token(next(remaining), None)  # type: ignore[method-assign]
        return engine

    return make


@pytest.mark.parametrize("max_new_tokens", range(1, 11))
def test_a_character_that_a_cut_left_incomplete_is_dropped(write: WriteText, max_new_tokens: int) -> None:
    text = "aé中🙂"
    stream = write(text, max_new_tokens=max_new_tokens)
    pieces = list(stream)
    result = stream.result()
    assert result.text == "".join(pieces) == text.encode()[:max_new_tokens].decode(errors="ignore")
    assert result.finish_reason == "length"
    assert result.usage.completion_tokens == max_new_tokens


def test_a_character_that_the_model_itself_left_incomplete_is_marked(write: WriteText) -> None:
    stream = write("a🙂".encode()[:-1])
    assert "".join(stream) == stream.result().text == "a\ufffd"
    assert stream.result().finish_reason == "stop"


def test_bytes_that_are_no_utf8_are_marked_where_they_stand(write: WriteText) -> None:
    stream = write(b"a\xffb\x80")
    assert "".join(stream) == "a\ufffdb\ufffd"


def test_special_tokens_are_no_text_and_other_added_tokens_are(write: WriteText) -> None:
    stream = write([*byte_ids("a"), START_TURN, THINK, *byte_ids("b"), END])
    assert "".join(stream) == "a<think>b"
    assert stream.result().usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("stop", "text", "completion_tokens"),
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
def test_a_stop_string_ends_the_text_before_it(
    write: WriteText, stop: list[str], text: str, completion_tokens: int
) -> None:
    stream = write("one END two", stop=stop)
    pieces = list(stream)
    result = stream.result()
    assert result.text == "".join(pieces) == text
    assert all(pieces)
    assert result.finish_reason == "stop"
    assert result.usage.completion_tokens == completion_tokens


@pytest.mark.parametrize("max_new_tokens", [3, 4, 5, 6, 7, 8])
def test_what_a_stop_string_held_back_comes_at_a_cut(write: WriteText, max_new_tokens: int) -> None:
    stream = write("one END", stop=["ENDS"], max_new_tokens=max_new_tokens)
    assert "".join(stream) == stream.result().text == "one END"[:max_new_tokens]
    assert stream.result().finish_reason == ("length" if max_new_tokens < 8 else "stop")


def test_a_stop_string_complete_with_the_last_token_is_a_stop(write: WriteText) -> None:
    stream = write("one END two", stop=["END"], max_new_tokens=7)
    assert "".join(stream) == "one "
    assert stream.result().finish_reason == "stop"


def test_a_stop_string_that_waited_for_an_earlier_one_counts_at_a_cut(write: WriteText) -> None:
    stream = write("xabcde", stop=["bc", "abcdef"], max_new_tokens=4)
    assert "".join(stream) == stream.result().text == "xa"
    assert stream.result().finish_reason == "stop"


def test_the_result_of_a_stream_that_was_never_read_is_empty(write: WriteText) -> None:
    result = write("text", logprobs=0).result()
    assert (result.text, result.finish_reason, result.logprobs) == ("", "cancelled", ())
    assert result.usage.completion_tokens == 0
    assert result.timings_ms.first_token is None
    assert result.timings_ms.prefill == result.timings_ms.decode == 0


def test_the_result_ends_a_stream_that_is_still_running(write: WriteText) -> None:
    stream = write("some text")
    pieces = [next(stream), next(stream)]
    result = stream.result()
    assert result.text == "".join(pieces) == "so"
    assert result.finish_reason == "cancelled"
    assert list(stream) == []
    assert stream.result() == result


def test_closing_twice_is_fine(write: WriteText) -> None:
    stream = write("some text")
    next(stream)
    stream.close()
    stream.close()
    assert stream.result().finish_reason == "cancelled"


def test_closing_after_the_end_changes_nothing(write: WriteText) -> None:
    stream = write("ab")
    list(stream)
    result = stream.result()
    stream.close()
    assert result.finish_reason == "stop"
    assert stream.result() == result


def test_a_cancelled_stream_ends_by_itself(write: WriteText) -> None:
    stream = write("some text")
    next(stream)
    stream.cancel()
    assert list(stream) == []
    assert stream.result().text == "s"
    assert stream.result().finish_reason == "cancelled"


def test_a_failure_keeps_what_was_written_before(write: WriteText) -> None:
    stream = write("some text")

    def fail() -> None:
        raise RuntimeFailed("out of order")

    got = next(stream)
    stream._engine._session.before_run = fail  # type: ignore[attr-defined]
    with pytest.raises(RuntimeFailed):
        next(stream)
    result = stream.result()
    assert result.text == got == "s"
    assert result.finish_reason == "cancelled"


def test_usage_and_times_fit_together(write: WriteText) -> None:
    stream = write("some text")
    list(stream)
    result = stream.result()
    assert (result.usage.prompt_tokens, result.usage.cached_prompt_tokens) == (len(PROMPT), 0)
    times = result.timings_ms
    assert times.first_token is not None
    assert 0 <= times.prefill <= times.first_token <= times.total
    assert times.first_token + times.decode == pytest.approx(times.total, abs=0.01)
    assert 0 <= times.tokenize <= times.total


def test_there_is_one_log_probability_a_token(write: WriteText) -> None:
    stream = write("aé", logprobs=2)
    list(stream)
    logprobs = stream.result().logprobs
    assert logprobs is not None
    assert [entry.token_id for entry in logprobs] == byte_ids("aé")
    assert all(len(entry.top) == 2 and entry.top[0][0] == entry.token_id for entry in logprobs)


def test_the_seed_is_reported(write: WriteText) -> None:
    assert write("a", seed=12).result().seed == 12
    assert write("a").result().seed != write("a").result().seed


# ---- circles ----

CIRCLE = "1. The response is exactly" + " exactly" * 60


def test_a_text_that_goes_in_circles_is_ended_and_kept_whole(write: WriteText) -> None:
    for options in ({}, {"temperature": 1.0, "seed": 1}):
        stream = write(CIRCLE, **options)
        pieces = list(stream)
        result = stream.result()
        assert result.finish_reason == "repetition"
        assert CIRCLE.startswith(result.text)
        assert "".join(pieces) == result.text
        # 4 rounds, and 96 tokens, which are bytes here.
        assert result.usage.completion_tokens == len(result.text) == len("1. The response is") + 96


def test_circles_can_be_allowed(write: WriteText) -> None:
    stream = write(CIRCLE, stop_on_repetition=False)
    assert "".join(stream) == CIRCLE
    assert stream.result().finish_reason == "stop"


def test_a_stop_string_counts_more_than_a_circle(write: WriteText) -> None:
    at = len("1. The response is") + 96
    stream = write(CIRCLE[:at] + "END", stop=[CIRCLE[at - 9 : at]])
    list(stream)
    assert stream.result().finish_reason == "stop"


def test_a_limit_that_is_reached_with_the_circle_is_the_reason(write: WriteText) -> None:
    stream = write(CIRCLE, max_new_tokens=len("1. The response is") + 96)
    list(stream)
    assert stream.result().finish_reason == "length"


# ---- time ----


class Clock:
    """Stands still but for what a test adds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        monkeypatch.setattr("rubricrm.generation.engine.time", SimpleNamespace(perf_counter=lambda: self.time))

    def advance(self, seconds: float) -> None:
        self.time += seconds


def test_a_readers_pause_counts_neither_for_the_timeout_nor_in_the_times(
    write: WriteText, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    stream = write("some text", timeout_s=15)
    session: Any = stream._engine._session
    session.before_run = lambda: clock.advance(1)
    text = ""
    clock.advance(500)
    for piece in stream:
        text += piece
        clock.advance(100)
    clock.advance(1000)
    result = stream.result()
    assert (text, result.finish_reason) == ("some text", "stop")
    times = result.timings_ms
    assert (times.prefill, times.first_token, times.decode, times.total) == (1000, 1000, 9000, 10_000)


def test_time_in_the_model_counts_for_the_timeout(write: WriteText, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stream = write("some text", timeout_s=4.5)
    session: Any = stream._engine._session
    session.before_run = lambda: clock.advance(1)
    text = ""
    for piece in stream:
        text += piece
        clock.advance(100)
    assert (text, stream.result().finish_reason) == ("some", "timeout")
    assert stream.result().timings_ms.total == 5000


# ---- threads ----


class Gate:
    """Holds a session's next run until it is opened, and tells when the run has come."""

    def __init__(self, stream: TextStream) -> None:
        self.has_come, self.is_open = threading.Event(), threading.Event()
        session: Any = stream._engine._session
        session.before_run = self._wait

    def _wait(self) -> None:
        self.has_come.set()
        assert self.is_open.wait(30)


def test_the_next_of_a_second_thread_waits_and_cancels_nothing(write: WriteText) -> None:
    stream = write("some text")
    gate = Gate(stream)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(next, stream)
        assert gate.has_come.wait(30)
        second = pool.submit(next, stream)
        # Whether the second one already waits or is only about to, the outcome is the same.
        with pytest.raises(TimeoutError):
            second.result(0.1)
        gate.is_open.set()
        assert (first.result(30), second.result(30)) == ("s", "o")
    assert "".join(stream) == "me text"
    assert stream.result().finish_reason == "stop"


def test_several_threads_share_the_pieces_of_a_stream(write: WriteText) -> None:
    text = "".join(map(chr, range(33, 127)))
    stream = write(text)
    with ThreadPoolExecutor(4) as pool:
        got = [piece for pieces in pool.map(lambda _: list(stream), range(4)) for piece in pieces]
    assert sorted(got) == sorted(text)
    assert (stream.result().text, stream.result().finish_reason) == (text, "stop")


@pytest.mark.parametrize("end", ["close", "result", "exit"])
def test_a_thread_can_end_the_stream_that_another_reads(write: WriteText, end: str) -> None:
    stream = write("some text")
    got = next(stream)
    gate = Gate(stream)
    ends = {"close": stream.close, "result": stream.result, "exit": lambda: stream.__exit__(None, None, None)}
    with ThreadPoolExecutor(2) as pool:
        rest = pool.submit(list, stream)
        assert gate.has_come.wait(30)
        closing = pool.submit(ends[end])
        with pytest.raises(TimeoutError):
            closing.result(0.1)
        gate.is_open.set()
        closing.result(30)
        assert rest.result(30) == []
    assert (stream.result().text, stream.result().finish_reason) == (got, "cancelled")


def test_a_close_inside_a_step_ends_the_stream_after_it(write: WriteText) -> None:
    # A signal's handler runs in the thread that it interrupts.
    stream = write("some text")
    next(stream)
    session: Any = stream._engine._session
    session.before_run = stream.close
    assert list(stream) == []
    assert stream.result().finish_reason == "cancelled"


def test_a_next_inside_a_step_is_refused_and_cancels_nothing(write: WriteText) -> None:
    stream = write("some text")
    session: Any = stream._engine._session
    refused = []

    def read() -> None:
        with pytest.raises(StreamBusy, match="in this very thread"):
            next(stream)
        refused.append(True)

    session.before_run = read
    assert "".join(stream) == "some text"
    assert stream.result().finish_reason == "stop"
    assert refused


# ---- blocks ----


def test_the_end_of_a_block_ends_the_stream(write: WriteText) -> None:
    with write("some text") as stream:
        assert next(stream) == "s"
    assert list(stream) == []
    assert stream.result().finish_reason == "cancelled"
    assert len(stream._engine._free_slots) == 1


def test_a_block_changes_nothing_of_a_complete_text(write: WriteText) -> None:
    with write("some text") as stream:
        assert "".join(stream) == "some text"
    assert stream.result().finish_reason == "stop"


def test_an_error_in_a_block_ends_the_stream_and_goes_on(write: WriteText) -> None:
    stream = write("some text")
    with pytest.raises(ZeroDivisionError), stream:
        1 / len(next(stream)[1:])
    assert stream.result().finish_reason == "cancelled"


def test_a_stream_says_how_it_stands(write: WriteText) -> None:
    stream = write("some text")
    next(stream)
    assert repr(stream) == "TextStream(running, 1 tokens)"
    list(stream)
    assert repr(stream) == "TextStream(stop, 9 tokens)"
