"""A generation as its reader sees it: pieces, results, times, threads, and every way to leave."""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rubricrm.errors import ModelClosed, RuntimeFailed, StreamBusy
from rubricrm.generation.completion import Completion
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.text_stream import TextStream
from rubricrm.runtime.tokenizer import Tokenizer

Scripted = Callable[..., tuple[Engine, Any]]
Write = Callable[..., TextStream]
ByHand = Callable[..., tuple[TextStream, Engine, Any]]

PROMPT = list(range(20, 30))
END = 2
WAIT = 30


def byte_ids(text: str | bytes) -> list[int]:
    """The tokens of a text: the tiny tokenizer has one a byte, after 5 control tokens."""
    return [5 + byte for byte in (text.encode() if isinstance(text, str) else text)]


@pytest.fixture(scope="session")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(tiny_bundle / "tokenizer.json")


@pytest.fixture
def open_stream(tokenizer: Tokenizer) -> Callable[..., TextStream]:
    """Return a function that submits the prompt to an engine."""

    def make(engine: Engine, **keywords: Any) -> TextStream:
        started = time.perf_counter()
        options = GenerationOptions(**keywords)
        completion = Completion(tokenizer, options)
        sequence = engine.submit(PROMPT, options, completion=completion, started=started)
        return TextStream(sequence, time.perf_counter())

    return make


@pytest.fixture
def write(scripted: Scripted, open_stream: Callable[..., TextStream]) -> Write:
    """Return a function that opens a stream of a text in UTF-8, or of ids."""

    def make(script: str | bytes | list[int], **options: Any) -> TextStream:
        engine, _ = scripted(script if isinstance(script, list) else [*byte_ids(script), END], len(PROMPT))
        return open_stream(engine, **options)

    return make


@pytest.fixture
def by_hand(scripted: Scripted, open_stream: Callable[..., TextStream]) -> ByHand:
    """As `write`, but only `engine.step` computes anything."""

    def make(text: str, **options: Any) -> tuple[TextStream, Engine, Any]:
        engine, session = scripted([*byte_ids(text), END], len(PROMPT), by_hand=True)
        return open_stream(engine, **options), engine, session

    return make


def steps(engine: Engine, count: int) -> None:
    for _ in range(count):
        assert engine.step()


# ---- reading ----


@pytest.mark.parametrize("text", ["", "a", "some text", "aé中🙂", "a\n\nb"])
def test_pieces_are_never_empty_and_join_to_the_text(write: Write, text: str) -> None:
    stream = write(text)
    pieces = list(stream)
    result = stream.result()
    assert "".join(pieces) == result.text == text
    assert all(pieces)
    assert (result.finish_reason, result.usage.completion_tokens) == ("stop", len(text.encode()))


@pytest.mark.parametrize("max_new_tokens", range(1, 11))
def test_a_character_that_a_cut_left_incomplete_is_dropped(write: Write, max_new_tokens: int) -> None:
    text = "aé中🙂"
    stream = write(text, max_new_tokens=max_new_tokens)
    pieces = list(stream)
    result = stream.result()
    assert result.text == "".join(pieces) == text.encode()[:max_new_tokens].decode(errors="ignore")
    assert (result.finish_reason, result.usage.completion_tokens) == ("length", max_new_tokens)


def test_a_character_that_the_model_itself_left_incomplete_is_marked(write: Write) -> None:
    stream = write("a🙂".encode()[:-1])
    assert "".join(stream) == stream.result().text == "a\ufffd"
    assert stream.result().finish_reason == "stop"


@pytest.mark.parametrize("max_new_tokens", [3, 4, 5, 6, 7, 8])
def test_what_a_stop_string_held_back_comes_at_a_cut(write: Write, max_new_tokens: int) -> None:
    stream = write("one END", stop=["ENDS"], max_new_tokens=max_new_tokens)
    assert "".join(stream) == stream.result().text == "one END"[:max_new_tokens]
    assert stream.result().finish_reason == ("length" if max_new_tokens < 8 else "stop")


def test_a_stop_string_complete_with_the_last_token_is_a_stop(write: Write) -> None:
    stream = write("one END two", stop=["END"], max_new_tokens=7)
    assert "".join(stream) == "one "
    assert stream.result().finish_reason == "stop"


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 1}], ids=["greedy", "sampled"])
def test_a_text_that_goes_in_circles_is_ended(write: Write, options: dict[str, Any]) -> None:
    text = "1. The response is exactly" + " exactly" * 60
    stream = write(text, **options)
    pieces = list(stream)
    result = stream.result()
    assert result.finish_reason == "repetition"
    assert text.startswith(result.text)
    assert "".join(pieces) == result.text


def test_a_limit_that_is_reached_with_the_circle_is_the_reason(write: Write) -> None:
    stream = write("1. The response is" + " exactly" * 60, max_new_tokens=len("1. The response is") + 96)
    stream.wait()
    assert stream.result().finish_reason == "length"


def test_there_is_one_log_probability_a_token(write: Write) -> None:
    stream = write("aé", logprobs=2)
    stream.wait()
    logprobs = stream.result().logprobs
    assert logprobs is not None
    assert [entry.token_id for entry in logprobs] == byte_ids("aé")
    assert all(len(entry.top) == 2 and entry.top[0][0] == entry.token_id for entry in logprobs)


def test_the_seed_is_reported(write: Write) -> None:
    assert write("a", seed=12).result().seed == 12
    assert write("a").result().seed != write("a").result().seed


def test_a_text_is_written_though_nobody_reads_it(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("some text")
    steps(engine, 10)
    assert not engine.step()
    assert list(stream) == list("some text")
    assert stream.result().finish_reason == "stop"


def test_a_slow_reader_delays_nobody(scripted: Scripted, open_stream: Callable[..., TextStream]) -> None:
    engine, _ = scripted([*byte_ids("some text"), END], len(PROMPT))
    slow, quick = open_stream(engine), open_stream(engine)
    assert next(slow) == "s"
    assert "".join(quick) == "some text"
    slow.wait()
    assert "".join(slow) == "ome text"


def test_whether_there_is_more_can_be_asked(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("ab")
    assert not stream.is_ready()
    steps(engine, 1)
    assert stream.is_ready()
    next(stream)
    assert not stream.is_ready()
    stream.cancel()
    assert stream.is_ready()


# ---- results ----


def test_the_result_of_a_stream_that_never_ran_is_empty(by_hand: ByHand) -> None:
    stream, engine, session = by_hand("text", logprobs=0)
    result = stream.result()
    assert (result.text, result.finish_reason, result.logprobs) == ("", "cancelled", ())
    assert result.usage.completion_tokens == 0
    assert result.timings_ms.first_token is None
    assert result.timings_ms.prefill == result.timings_ms.decode == 0
    assert not engine.step()
    assert session.steps == []


def test_the_result_ends_a_stream_that_is_still_running(by_hand: ByHand) -> None:
    """It has all that was written, read or not."""
    stream, engine, session = by_hand("some text")
    steps(engine, 4)
    assert [next(stream), next(stream)] == ["s", "o"]
    result = stream.result()
    assert (result.text, result.finish_reason) == ("some", "cancelled")
    assert list(stream) == ["m", "e"]
    assert stream.result() == result
    assert not engine.step()
    assert len(session.steps) == 4


def test_closing_twice_and_after_the_end_changes_nothing(write: Write) -> None:
    stream = write("ab")
    stream.wait()
    result = stream.result()
    stream.close()
    stream.close()
    assert result.finish_reason == "stop"
    assert stream.result() == result


def test_a_cancelled_stream_gives_what_was_written_and_ends(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("some text")
    steps(engine, 3)
    next(stream)
    stream.cancel()
    assert list(stream) == ["o", "m"]
    assert (stream.result().text, stream.result().finish_reason) == ("som", "cancelled")


def test_a_failure_keeps_what_was_written_before(by_hand: ByHand) -> None:
    stream, engine, session = by_hand("some text")
    steps(engine, 2)

    def fail() -> None:
        raise RuntimeFailed("out of order")

    session.before_run = fail
    assert engine.step()
    assert [next(stream), next(stream)] == ["s", "o"]
    for _ in range(2):
        with pytest.raises(RuntimeFailed, match="out of order"):
            next(stream)
        with pytest.raises(RuntimeFailed, match="out of order"):
            stream.wait()
    result = stream.result()
    assert (result.text, result.finish_reason) == ("so", "cancelled")


def test_usage_and_times_fit_together(write: Write) -> None:
    stream = write("some text")
    stream.wait()
    result = stream.result()
    assert (result.usage.prompt_tokens, result.usage.cached_prompt_tokens) == (len(PROMPT), 0)
    times = result.timings_ms
    assert times.first_token is not None
    assert 0 <= times.prefill <= times.first_token <= times.total
    assert times.first_token + times.decode == pytest.approx(times.total, abs=0.01)
    assert 0 <= times.tokenize <= times.total


def test_a_stream_says_how_it_stands(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("ab")
    assert repr(stream) == "TextStream(waiting, 0 tokens)"
    steps(engine, 1)
    assert repr(stream) == "TextStream(decoding, 1 tokens)"
    steps(engine, 2)
    assert repr(stream) == "TextStream(stop, 2 tokens)"


# ---- time ----


class Clock:
    """Stands still but for what a test adds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        patched = SimpleNamespace(perf_counter=lambda: self.time)
        for module in ("generation", "sequence", "deadlines"):
            monkeypatch.setattr(f"rubricrm.generation.{module}.time", patched)
        monkeypatch.setitem(globals(), "time", patched)  # when the request came in

    def advance(self, seconds: float) -> None:
        self.time += seconds


def test_a_readers_pause_counts_neither_for_the_timeout_nor_in_the_times(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    stream, engine, session = by_hand("some text", timeout_s=15)
    session.before_run = lambda: clock.advance(1)
    steps(engine, 10)
    text = ""
    for piece in stream:
        text += piece
        clock.advance(100)
    result = stream.result()
    assert (text, result.finish_reason) == ("some text", "stop")
    times = result.timings_ms
    assert (times.prefill, times.first_token, times.decode, times.total) == (1000, 1000, 9000, 10_000)


def test_waiting_for_others_counts_for_the_timeout_and_the_first_token_and_not_as_prefill(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    stream, engine, session = by_hand("some text", timeout_s=14.5)
    clock.advance(10)
    session.before_run = lambda: clock.advance(1)
    steps(engine, 5)
    assert not engine.step()
    result = stream.result()
    assert (result.text, result.finish_reason) == ("some ", "timeout")
    times = result.timings_ms
    assert (times.prefill, times.first_token, times.decode, times.total) == (1000, 11_000, 4000, 15_000)


def test_a_reader_keeps_the_time_in_the_middle_of_a_step(
    scripted: Scripted, open_stream: Callable[..., TextStream], hold: Callable[..., Any]
) -> None:
    engine, session = scripted(byte_ids("some text"), len(PROMPT))
    gate = hold(session)
    stream = open_stream(engine, timeout_s=0.05)
    assert list(stream) == []  # though the step never comes back
    assert stream.result().finish_reason == "timeout"
    gate.open()
    assert stream.result().text == ""


# ---- threads ----


def test_several_threads_share_the_pieces_of_a_stream(write: Write) -> None:
    text = "".join(map(chr, range(33, 127)))
    stream = write(text)
    with ThreadPoolExecutor(4) as pool:
        got = [piece for pieces in pool.map(lambda _: list(stream), range(4)) for piece in pieces]
    assert sorted(got) == sorted(text)
    assert (stream.result().text, stream.result().finish_reason) == (text, "stop")


def test_two_readers_take_turns_in_the_order_of_the_text(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("some text")
    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(next, stream) for _ in range(2)]
        steps(engine, 2)
        assert sorted(each.result(WAIT) for each in reading) == ["o", "s"]
    steps(engine, 8)
    assert "".join(stream) == "me text"
    assert stream.result().finish_reason == "stop"


@pytest.mark.parametrize("end", ["close", "cancel", "result", "exit"])
def test_a_thread_can_end_the_stream_that_another_reads(
    scripted: Scripted, open_stream: Callable[..., TextStream], hold: Callable[..., Any], end: str
) -> None:
    """At once, in the middle of a step; what the step brings then is dropped."""
    engine, session = scripted(byte_ids("some text"), len(PROMPT))
    gate = hold(session)
    stream = open_stream(engine)
    gate.let()
    assert next(stream) == "s"
    ends = {
        "close": stream.close,
        "cancel": stream.cancel,
        "result": stream.result,
        "exit": lambda: stream.__exit__(None, None, None),
    }
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, stream)
        gate.wait()
        gate.wait()  # the second step stands at the gate
        ends[end]()
        assert rest.result(WAIT) == []
    gate.open()
    engine.submit(PROMPT, GenerationOptions(max_new_tokens=1)).wait()  # the step came back long ago
    assert (stream.result().text, stream.result().finish_reason) == ("s", "cancelled")
    assert stream.result().usage.completion_tokens == 1


def raise_signal_once(stream: TextStream) -> None:
    """Have a signal sent as soon as this thread waits for the stream."""
    thread = threading.main_thread()

    def send() -> None:
        while not stream._is_reading:
            time.sleep(0.001)
        signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)

    threading.Thread(target=send, daemon=True).start()


@pytest.fixture
def on_signal() -> Any:
    """Return a function that sets the handler of a signal, for this test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda call: signal.signal(signal.SIGUSR1, lambda *_: call())
    signal.signal(signal.SIGUSR1, before)


def test_a_signals_handler_may_close_the_stream_that_its_thread_reads(by_hand: ByHand, on_signal: Any) -> None:
    stream, _, _ = by_hand("some text")
    on_signal(stream.close)
    raise_signal_once(stream)
    assert list(stream) == []
    assert stream.result().finish_reason == "cancelled"


def test_a_signals_handler_cannot_read_on_and_cancels_nothing(by_hand: ByHand, on_signal: Any) -> None:
    stream, engine, _ = by_hand("some text")
    refused = []

    def read() -> None:
        with pytest.raises(StreamBusy, match="in this very thread"):
            next(stream)
        refused.append(True)
        steps(engine, 10)

    on_signal(read)
    raise_signal_once(stream)
    assert "".join(stream) == "some text"
    assert stream.result().finish_reason == "stop"
    assert refused


@pytest.mark.parametrize("how", ["next", "wait"])
def test_an_interrupt_while_waiting_ends_the_generation(by_hand: ByHand, on_signal: Any, how: str) -> None:
    stream, engine, session = by_hand("some text")
    steps(engine, 2)

    def interrupt() -> None:
        raise KeyboardInterrupt

    on_signal(interrupt)
    if how == "next":
        assert [next(stream), next(stream)] == ["s", "o"]
        raise_signal_once(stream)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    else:
        timer = threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            stream.wait()
    assert (stream.result().text, stream.result().finish_reason) == ("so", "cancelled")
    assert not engine.step()
    assert len(session.steps) == 2


# ---- the end ----


def test_a_call_at_the_end_comes_once(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("ab")
    told: list[str] = []
    stream.on_end(lambda: told.append(stream.result().finish_reason))
    steps(engine, 2)
    assert told == []
    steps(engine, 1)
    stream.close()
    assert told == ["stop"]
    stream.on_end(lambda: told.append("late"))
    assert told == ["stop", "late"]


def test_a_call_at_each_change_comes_for_every_token(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("ab")
    told: list[str] = []
    stream.on_change(lambda: told.append(repr(stream)))
    steps(engine, 3)
    assert told == [f"TextStream({state} tokens)" for state in ("decoding, 1", "decoding, 2", "stop, 2")]


# ---- blocks and dropped streams ----


def test_the_end_of_a_block_ends_the_stream(by_hand: ByHand) -> None:
    stream, engine, session = by_hand("some text")
    steps(engine, 1)
    with stream:
        assert next(stream) == "s"
    assert list(stream) == []
    assert stream.result().finish_reason == "cancelled"
    assert not engine.step()
    assert len(session.steps) == 1


def test_a_block_changes_nothing_of_a_complete_text(write: Write) -> None:
    with write("some text") as stream:
        assert "".join(stream) == "some text"
    assert stream.result().finish_reason == "stop"


def test_an_error_in_a_block_ends_the_stream_and_goes_on(by_hand: ByHand) -> None:
    stream, engine, _ = by_hand("some text")
    steps(engine, 1)
    with pytest.raises(ZeroDivisionError), stream:
        1 / len(next(stream)[1:])
    assert stream.result().finish_reason == "cancelled"


@pytest.mark.parametrize("state", ["waiting", "decoding"])
def test_a_stream_that_nobody_holds_is_cancelled(by_hand: ByHand, state: str) -> None:
    stream, engine, session = by_hand("some text")
    if state == "decoding":
        steps(engine, 3)
        next(stream)
    sequence = stream._generation
    assert sequence.state.value == state
    del stream
    gc.collect()
    assert sequence.finish_reason == "cancelled"
    assert not engine.step()
    assert len(session.steps) == (3 if state == "decoding" else 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_stream_that_another_thread_reads_is_an_error_in_a_fork(by_hand: ByHand) -> None:
    """The reader does not exist there, and nobody computes: reading must neither wait nor claim to be busy."""
    stream, engine, _ = by_hand("some text")
    reader = threading.Thread(target=list, args=(stream,), daemon=True)
    reader.start()
    while not stream._is_reading:
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        try:
            next(stream)
        except ModelClosed:
            os._exit(0)
        except BaseException:
            os._exit(1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    steps(engine, 10)
    reader.join(WAIT)
    assert not reader.is_alive()
    assert stream.result().finish_reason == "stop"
