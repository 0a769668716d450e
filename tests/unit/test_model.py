"""The user's class: streams, threads, cancelling, closing and forking."""

import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm import RubricModel, RubricStream, StreamEvent, TextStream, parse
from rubricrm.errors import (
    BundleInvalid,
    BundleNotFound,
    GraphUnusable,
    ModelClosed,
    OptionInvalid,
    OptionUnknown,
    PromptTooLong,
    RequestInvalid,
    RuntimeFailed,
)
from rubricrm.generation import rubric_stream as rubric_stream_module
from rubricrm.generation.completion import Completion
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

Scripted = Callable[..., tuple[Engine, Any]]

REQUESTS = ("Write a haiku.", "Explain why the sky is blue, in two sentences.", "¿Cómo estás?", "总结这篇文章。" * 12)
REQUEST = REQUESTS[0]


# ---- generating ----


def test_a_result_says_what_was_asked_written_and_spent(tiny_model: RubricModel) -> None:
    result = tiny_model.generate(REQUEST, max_new_tokens=20)
    assert result.request == REQUEST
    assert result.finish_reason == "length"
    assert result.usage.completion_tokens == 20
    assert result.usage.cached_prompt_tokens >= tiny_model.bundle.manifest.prompt.prefix.num_tokens
    assert result.usage.prompt_tokens > result.usage.cached_prompt_tokens
    assert result.rubric == parse(result.text, truncated=True)
    assert result.logprobs is None
    assert {**result.model, "kernels": None} == {
        "name": "checkpoint",
        "weights": "bf16",
        "device": "cpu",
        "kernels": None,
        "manifest_sha256": tiny_model.bundle.manifest_sha256,
    }


def test_the_dictionary_of_a_result_has_exactly_the_documented_keys(tiny_model: RubricModel) -> None:
    result = tiny_model.generate(REQUEST, max_new_tokens=5).to_dict()
    assert list(result) == [
        *("schema_version", "request", "text", "rubric", "finish_reason", "usage", "timings_ms", "seed", "logprobs"),
        *("grammar_overrules", "model"),
    ]
    assert result["schema_version"] == 1
    assert result["logprobs"] is None
    assert list(result["rubric"]) == ["schema_version", "criteria", "issues"]
    assert list(result["usage"]) == [
        *("prompt_tokens", "cached_prompt_tokens", "completion_tokens", "drafted_tokens", "accepted_tokens")
    ]
    assert list(result["timings_ms"]) == ["tokenize", "prefill", "first_token", "decode", "total"]
    assert list(result["model"]) == ["name", "weights", "device", "kernels", "manifest_sha256"]
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("request_text", REQUESTS, ids=range(len(REQUESTS)))
@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_random_unicode_join_to_the_text(tiny_model: RubricModel, request_text: str, seed: int) -> None:
    stream = tiny_model.stream(request_text, temperature=1.0, seed=seed, max_new_tokens=150)
    events = list(stream)
    result = stream.result()
    assert "".join(event.text for event in events) == result.text
    assert [c for event in events for c in event.criteria] == list(result.rubric.criteria)
    assert result.text == tiny_model.generate(request_text, temperature=1.0, seed=seed, max_new_tokens=150).text


def test_the_default_is_greedy_and_repeats(tiny_model: RubricModel) -> None:
    assert len({tiny_model.generate(REQUEST, max_new_tokens=30).text for _ in range(3)}) == 1


@pytest.mark.parametrize("request_text", ["", " \n ", "a\0b", "\ud800"], ids=ascii)
def test_a_request_that_is_no_text_is_refused(tiny_model: RubricModel, request_text: str) -> None:
    for call in (tiny_model.generate, tiny_model.stream, tiny_model.generate_text, tiny_model.stream_text):
        with pytest.raises(RequestInvalid):
            call(request_text)


def test_a_request_longer_than_the_context_is_refused_with_the_excess(tiny_model: RubricModel) -> None:
    with pytest.raises(PromptTooLong, match=r"the prompt has \d+ tokens, the context 2048"):
        tiny_model.generate("word " * 500)


def test_the_longest_request_that_fits_is_answered(tiny_model: RubricModel) -> None:
    fixed = tiny_model.generate("a", max_new_tokens=1).usage.prompt_tokens - 1
    result = tiny_model.generate("a" * (2047 - fixed), max_new_tokens=500)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.finish_reason) == (2047, 1, "length")
    with pytest.raises(PromptTooLong):
        tiny_model.generate("a" * (2048 - fixed))


def test_options_may_be_an_object_whose_values_keywords_replace(tiny_model: RubricModel) -> None:
    shared = GenerationOptions(temperature=1.0, seed=5, max_new_tokens=30)
    by_keywords = tiny_model.generate(REQUEST, temperature=1.0, seed=5, max_new_tokens=30)
    assert tiny_model.generate(REQUEST, options=shared).text == by_keywords.text
    assert tiny_model.generate(REQUEST, options=shared, max_new_tokens=7).usage.completion_tokens == 7
    text = tiny_model.generate_text("Hi", options=shared)
    assert text.seed == 5
    assert tiny_model.stream_text("Hi", options=shared, seed=6).result().seed == 6


@pytest.mark.parametrize("name", ["generate", "stream", "generate_text", "stream_text"])
def test_an_unknown_option_is_refused_with_the_one_that_is_meant(tiny_model: RubricModel, name: str) -> None:
    call: Callable[..., object] = getattr(tiny_model, name)
    with pytest.raises(OptionUnknown, match="'max_tokens' is no option of a generation. Use max_new_tokens."):
        call(REQUEST, max_tokens=5)
    with pytest.raises(OptionInvalid, match="Pass a dict's entries as keywords"):
        call(REQUEST, options={"seed": 1})


@pytest.mark.parametrize("bundle", ["x", Path("x"), None, 5])
def test_the_constructor_wants_an_opened_bundle(bundle: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"Open a directory with RubricModel.open\(path\), or the demo model"):
        RubricModel(bundle)


def test_a_model_says_what_it_is(tiny_model: RubricModel) -> None:
    assert repr(tiny_model) == "RubricModel('checkpoint', weights bf16, device cpu, context 2048 tokens)"
    assert (tiny_model.context_length, tiny_model.device) == (2048, "cpu")
    assert repr(tiny_model.bundle) == f"Bundle({str(tiny_model.bundle.path)!r}, 'checkpoint', weights bf16)"


@pytest.mark.parametrize("method", [RubricModel.generate, RubricModel.stream])
def test_help_lists_every_option_and_an_example(method: object) -> None:
    text = inspect.getdoc(method) or ""
    assert [name for name in GenerationOptions.__dataclass_fields__ if name not in text] == []
    assert ">>> " in text


def test_options_are_checked_before_anything_runs(tiny_model: RubricModel) -> None:
    with pytest.raises(OptionInvalid, match="top_p"):
        tiny_model.stream(REQUEST, top_p=2.0)
    with pytest.raises(OptionInvalid, match="stop"):
        tiny_model.stream_text("Hi", stop="text")


def test_log_probabilities_are_one_a_token(tiny_model: RubricModel) -> None:
    logprobs = tiny_model.generate(REQUEST, max_new_tokens=9, logprobs=3).logprobs
    assert logprobs is not None
    assert len(logprobs) == 9
    assert all(entry.top[0] == (entry.token_id, entry.logprob) for entry in logprobs)
    assert all(entry.logprob < 0 for entry in logprobs)


def test_a_stop_string_ends_the_text_before_it(tiny_model: RubricModel) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_new_tokens": 60}
    whole = tiny_model.generate(REQUEST, **options).text
    stop = whole[len(whole) // 2]
    result = tiny_model.generate(REQUEST, stop=[stop], **options)
    assert result.text == whole[: whole.index(stop)]
    assert result.finish_reason == "stop"


# ---- streams, with a model whose text is known ----

RUBRIC = (
    "1. The response is a haiku. [Hard Rule]\n"
    "2. The response doesn't use “water”.\n   It is short. [Hard Rule]\n"
    "3. The response evokes rain 🌧. [Principle]"
)


@pytest.fixture
def rubric_stream(scripted: Scripted, tiny_bundle: Path) -> Callable[..., RubricStream]:
    """Return a function that opens a stream of a given text."""
    tokenizer = Tokenizer.from_file(tiny_bundle / "tokenizer.json")
    manifest = Bundle.open(tiny_bundle).manifest
    prompt = Prompt(manifest.prompt, manifest.chat, tokenizer).encode_request(REQUEST)

    def open_stream(text: str, *, starts_in_thought: bool = False, **options: Any) -> RubricStream:
        engine, _ = scripted([*(5 + byte for byte in text.encode()), 2], len(prompt))
        checked = GenerationOptions(**options)
        sequence = engine.submit(prompt, checked, completion=Completion(tokenizer, checked))
        text_stream = TextStream(sequence, sequence.started)
        return RubricStream(REQUEST, text_stream, {"name": "scripted"}, starts_in_thought=starts_in_thought)

    return open_stream


def test_a_criterion_comes_as_soon_as_its_line_is_complete(rubric_stream: Callable[..., RubricStream]) -> None:
    stream = rubric_stream(RUBRIC)
    written, arrivals = "", []
    for event in stream:
        written += event.text
        arrivals += [(written, criterion.number) for criterion in event.criteria]
    assert [number for _, number in arrivals] == [1, 2, 3]
    assert arrivals[0][0] == RUBRIC.splitlines(keepends=True)[0]
    result = stream.result()
    assert result.rubric == parse(RUBRIC)
    assert result.finish_reason == "stop"
    assert result.text == RUBRIC


@pytest.mark.parametrize("max_new_tokens", [1, 30, 40, 42, 90, 150])
def test_criteria_of_the_events_are_those_of_the_rubric_at_any_cut(
    rubric_stream: Callable[..., RubricStream], max_new_tokens: int
) -> None:
    stream = rubric_stream(RUBRIC, max_new_tokens=max_new_tokens)
    events = list(stream)
    result = stream.result()
    assert [c for event in events for c in event.criteria] == list(result.rubric.criteria)
    assert result.rubric == parse(result.text, truncated=result.finish_reason != "stop")
    assert result.rubric == parse(RUBRIC.encode()[:max_new_tokens].decode(errors="ignore"), truncated=True)


@pytest.mark.parametrize("num_events", [0, 1, 20, 45, 100])
def test_a_stream_that_is_left_early_has_the_rubric_of_what_it_gave(
    rubric_stream: Callable[..., RubricStream], num_events: int
) -> None:
    stream = rubric_stream(RUBRIC)
    text = "".join(next(stream).text for _ in range(num_events))
    result = stream.result()  # with what was written meanwhile, though nobody read it
    assert RUBRIC.startswith(result.text)
    assert result.text.startswith(text)
    assert result.rubric == parse(result.text, truncated=result.finish_reason != "stop")
    assert result.finish_reason in ("cancelled", "stop")
    assert list(stream) == []
    assert stream.result() == result


def test_a_stream_that_was_interrupted_in_mid_line_has_the_rubric_of_its_text(
    rubric_stream: Callable[..., RubricStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = rubric_stream(RUBRIC)
    for _ in range(60):
        next(stream)

    def interrupt(_: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(stream._reader, "feed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    result = stream.result()
    assert result.text.startswith(RUBRIC[:61])
    assert result.rubric == parse(result.text, truncated=result.finish_reason != "stop")
    assert list(stream) == []


def test_a_cancelled_stream_ends_by_itself(rubric_stream: Callable[..., RubricStream]) -> None:
    stream = rubric_stream(RUBRIC)
    text = next(stream).text
    stream.cancel()
    # What was written before, and the unfinished item with the last event.
    events = list(stream)
    result = stream.result()
    assert result.text == text + "".join(event.text for event in events)
    assert [c for event in events for c in event.criteria] == list(result.rubric.criteria)


def test_the_end_of_a_block_ends_a_stream(rubric_stream: Callable[..., RubricStream]) -> None:
    with rubric_stream(RUBRIC) as stream:
        next(stream)
    assert list(stream) == []
    assert RUBRIC.startswith(stream.result().text)
    assert repr(stream).startswith(f"RubricStream(TextStream({stream.result().finish_reason}, ")


def test_several_threads_share_the_events_of_a_stream(rubric_stream: Callable[..., RubricStream]) -> None:
    stream = rubric_stream(RUBRIC)
    with ThreadPoolExecutor(4) as pool:
        events = [event for got in pool.map(lambda _: list(stream), range(4)) for event in got]
    result = stream.result()
    assert (result.text, result.finish_reason, result.rubric) == (RUBRIC, "stop", parse(RUBRIC))
    assert sorted("".join(event.text for event in events)) == sorted(RUBRIC)
    assert {c for event in events for c in event.criteria} == set(result.rubric.criteria)


def test_another_thread_can_close_a_stream(tiny_model: RubricModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm.generation.decision.choose", lambda *_: 5 + ord("t"))
    stream = tiny_model.stream(REQUEST, max_new_tokens=1500, stop_on_repetition=False, constrain=False)
    has_started = threading.Event()

    def read() -> str:
        text = ""
        for event in stream:
            text += event.text
            has_started.set()
        return text

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert has_started.wait(30)
        stream.close()
        assert stream.result().text.startswith(reading.result(30))
    assert stream.result().finish_reason == "cancelled"
    assert 1 <= stream.result().usage.completion_tokens < 1500


def test_a_rubric_that_goes_in_circles_is_told_as_cut(rubric_stream: Callable[..., RubricStream]) -> None:
    text = RUBRIC + "\n4. The response is" + " exactly" * 60
    stream = rubric_stream(text)
    events = list(stream)
    result = stream.result()
    assert result.finish_reason == "repetition"
    assert text.startswith(result.text)
    assert result.rubric == parse(result.text, truncated=True)
    assert [c for event in events for c in event.criteria] == list(result.rubric.criteria)
    whole = rubric_stream(text, stop_on_repetition=False)
    assert "".join(event.text for event in whole) == text


def test_closing_a_stream_twice_is_fine(rubric_stream: Callable[..., RubricStream]) -> None:
    stream = rubric_stream(RUBRIC)
    next(stream)
    stream.close()
    result = stream.result()
    stream.close()
    assert stream.result() == result


def test_an_event_without_criteria_is_the_usual_one() -> None:
    assert StreamEvent("text").criteria == ()


# ---- texts without the rubric template ----


def test_a_text_and_a_users_message_are_the_same(tiny_model: RubricModel) -> None:
    as_text = tiny_model.generate_text("Hi there", max_new_tokens=20)
    as_messages = tiny_model.generate_text([{"role": "user", "content": "Hi there"}], max_new_tokens=20)
    assert as_text.text == as_messages.text
    assert as_text.usage.prompt_tokens == as_messages.usage.prompt_tokens
    assert as_text.finish_reason == "length"


def test_a_conversation_is_answered(tiny_model: RubricModel) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    stream = tiny_model.stream_text(messages, max_new_tokens=20, temperature=1.0, seed=3)
    pieces = list(stream)
    assert "".join(pieces) == stream.result().text
    assert stream.result().usage.completion_tokens <= 20


def test_a_wrong_conversation_is_refused(tiny_model: RubricModel) -> None:
    with pytest.raises(OptionInvalid, match="the last message must have the role user"):
        tiny_model.generate_text([{"role": "assistant", "content": "Hi"}])


@settings(max_examples=30)
@given(request_text=st.text(min_size=1, max_size=30), seed=st.integers(0, 2**64 - 1))
def test_any_request_is_answered_or_refused(tiny_model: RubricModel, request_text: str, seed: int) -> None:
    try:
        result = tiny_model.generate(request_text, temperature=1.0, seed=seed, max_new_tokens=5)
    except RequestInvalid:
        assert not request_text.strip() or "\0" in request_text
    else:
        assert result.finish_reason in ("stop", "length")
        result.text.encode()


# ---- cancelling and time ----


def test_an_event_set_before_gives_an_empty_result(tiny_model: RubricModel) -> None:
    cancel = threading.Event()
    cancel.set()
    result = tiny_model.generate(REQUEST, cancel=cancel)
    assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("", "cancelled", 0)
    assert result.rubric == parse("", truncated=True)


@pytest.mark.parametrize("how", ["event", "method"])
def test_another_thread_can_cancel(tiny_model: RubricModel, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr("rubricrm.generation.decision.choose", lambda *_: 5 + ord("t"))
    cancel, has_started, was_cancelled = threading.Event(), threading.Event(), threading.Event()
    stream = tiny_model.stream(
        REQUEST, cancel=cancel, max_new_tokens=1500, timeout_s=60, stop_on_repetition=False, constrain=False
    )

    def cancel_it() -> None:
        has_started.wait(30)
        cancel.set() if how == "event" else stream.cancel()
        was_cancelled.set()

    thread = threading.Thread(target=cancel_it)
    thread.start()
    events = iter(stream)
    next(events)
    has_started.set()
    assert was_cancelled.wait(30)
    for _ in events:  # what was written before
        pass
    thread.join()
    assert stream.result().finish_reason == "cancelled"
    assert stream.result().usage.completion_tokens >= 1


def test_no_time_gives_an_empty_result(tiny_model: RubricModel) -> None:
    result = tiny_model.generate(REQUEST, timeout_s=1e-9)
    assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("", "timeout", 0)
    assert result.timings_ms.first_token is None


# ---- threads ----


def test_eight_threads_write_what_one_writes(tiny_model: RubricModel) -> None:
    jobs = [(request, seed) for request in REQUESTS for seed in (None, 1, 2)] * 2

    def write(job: tuple[str, int | None]) -> str:
        request, seed = job
        temperature = 0.0 if seed is None else 1.0
        return tiny_model.generate(request, seed=seed, temperature=temperature, max_new_tokens=40).text

    serial = [write(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, jobs)) == serial


def test_open_streams_of_one_thread_do_not_disturb_each_other(tiny_model: RubricModel) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": 40}
    expected = [tiny_model.generate(REQUESTS[n], seed=n, **options).text for n in (0, 1, 2)]
    first, second = (tiny_model.stream(REQUESTS[n], seed=n, **options) for n in (0, 1))
    texts = ["", ""]
    for _ in range(5):
        texts[0] += next(first).text
        texts[1] += next(second).text
    between = tiny_model.generate(REQUESTS[2], seed=2, **options).text
    texts[1] += "".join(event.text for event in second)
    texts[0] += "".join(event.text for event in first)
    assert [*texts, between] == expected


# ---- opening and closing ----


def test_use_after_closing_says_so(tiny_bundle: Path) -> None:
    with RubricModel.open(tiny_bundle, threads=1) as model:
        model._backend.engine._stop_ids = frozenset()
        stream = model.stream(REQUEST, max_new_tokens=1500, stop_on_repetition=False)
        next(stream)
    model.close()
    for use in (lambda: model.generate(REQUEST), lambda: model.generate_text("Hi"), stream.wait, lambda: list(stream)):
        with pytest.raises(ModelClosed, match="the model was closed.* Open it again"):
            use()
    result = stream.result()
    assert result.finish_reason == "cancelled"
    assert result.text


def test_a_model_may_be_closed_while_another_thread_uses_it(tiny_bundle: Path) -> None:
    model = RubricModel.open(tiny_bundle, threads=1)
    is_running = threading.Event()

    def use() -> str:
        try:
            while True:
                for _ in model.stream_text("Hi", max_new_tokens=200):
                    is_running.set()
        except ModelClosed:
            return "closed"

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(use) for _ in range(2)]
        assert is_running.wait(30)
        model.close()
        assert [result.result(30) for result in results] == ["closed", "closed"]


def test_opening_can_verify(bundle_copy: Path) -> None:
    contents = bytearray((bundle_copy / "genai_config.json").read_bytes())
    contents[-2] ^= 1
    (bundle_copy / "genai_config.json").write_bytes(contents)
    RubricModel.open(bundle_copy, threads=1).close()
    with pytest.raises(BundleInvalid, match="SHA-256"):
        RubricModel.open(bundle_copy, verify=True)


def test_opening_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        RubricModel.open(tmp_path / "none")


def test_a_failure_of_the_runtime_is_typed(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RubricModel.open(tiny_bundle, threads=1) as model:

        class Broken:
            def __getattr__(self, name: str) -> Any:
                return lambda *_: (_ for _ in ()).throw(ValueError("out of order"))

        graph = model._backend.engine._session._graph
        model.generate(REQUEST, max_new_tokens=1)
        monkeypatch.setattr(model._backend.engine._session, "_graph", Broken())
        with pytest.raises(RuntimeFailed, match="out of order"):
            model.generate(REQUEST, max_new_tokens=1)
        monkeypatch.setattr(model._backend.engine._session, "_graph", graph)
        assert model.generate(REQUEST, max_new_tokens=1).usage.completion_tokens == 1


# ---- forking ----

FORK = """
import os, signal, sys, threading, time
from rubricrm import RubricModel
from rubricrm.errors import GraphUnusable, ModelClosed
path, what = sys.argv[1:]
model = RubricModel.open(path, threads=2)
stream = model.stream("Hi", max_new_tokens=50)
next(stream)
if what == "close-while-read":
    other = model.stream("Hi", max_new_tokens=1800, stop_on_repetition=False)
    is_read = threading.Event()
    threading.Thread(target=lambda: [is_read.set() for _ in other], daemon=True).start()
    assert is_read.wait(60)
child = os.fork()
if child == 0:
    if what == "use":
        for use in (lambda: model.generate("Hi", max_new_tokens=2), lambda: next(stream)):
            try:
                for _ in range(60):  # what was written before may be read
                    use()
            except ModelClosed as error:
                assert "Open the model" in str(error), error
            else:
                sys.exit(3)
    elif what == "close":
        stream.close()
        model.close()
    elif what == "close-while-read":
        other.close()
        assert other.result().finish_reason == "cancelled"
    elif what == "open":
        with RubricModel.open(path, threads=2) as own:
            assert own.generate("Hi", max_new_tokens=2).usage.completion_tokens == 2
    sys.exit(0)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        assert model.generate("Hi", max_new_tokens=2).usage.completion_tokens == 2
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.02)
os.kill(child, signal.SIGKILL)
sys.exit(99)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.parametrize("what", ["use", "close", "close-while-read", "open", "exit"])
def test_a_forked_process_never_hangs(tiny_bundle: Path, what: str) -> None:
    """A child that uses the parent's model gets a typed error; one that opens its own works; all of them exit."""
    command = [sys.executable, "-c", FORK, str(tiny_bundle), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_prompt_directory_opens_and_says_that_it_does_not_run(
    edit_manifest: Callable[[Callable[[dict[str, Any]], object]], Path],
) -> None:
    def without_graphs(document: dict[str, Any]) -> None:
        document["graphs"] = []
        document["quantization"]["weights"] = document["quantization"]["method"] = "none"
        document["prompts"]["rubric"]["prefix"]["files"] = {}
        document["prompts"]["rubric"]["grammar"] = None
        kept = ("tokenizer.json", "tokenizer_config.json")
        document["files"] = {name: facts for name, facts in document["files"].items() if name in kept}

    path = edit_manifest(without_graphs)
    for name in ("model.onnx", "model.onnx.data", "genai_config.json", "grammar.npz"):
        (path / name).unlink()
    (path / "prefix.rubric.float32.safetensors").unlink()
    bundle = Bundle.open(path, verify=True)
    assert bundle.manifest.prompt.fields == {"request": "{prompt}"}
    with pytest.raises(GraphUnusable, match="is a prompt directory, for use with a server"):
        RubricModel.open(path)


THOUGHT = "1. The response must be a draft. [Hard Rule]\n2. The response is one. [Principle]\n"


def test_an_event_takes_back_what_was_thought(rubric_stream: Callable[..., RubricStream]) -> None:
    rubric = "1. The response must rhyme. [Hard Rule]\n2. The response is vivid. [Principle]"
    stream = rubric_stream(f"1. The response is a draft. [Principle]\n</think>\n{rubric}")
    kept: list[str] = []
    num_taken_back = 0
    for event in stream:
        if event.takes_back:
            num_taken_back, kept = num_taken_back + len(kept), []
        kept += [criterion.text for criterion in event.criteria]
    assert (kept, num_taken_back) == (["The response must rhyme.", "The response is vivid."], 1)
    assert [criterion.text for criterion in stream.result().rubric.criteria] == kept


def test_a_text_that_starts_inside_a_thought_has_the_criteria_after_it(
    rubric_stream: Callable[..., RubricStream],
) -> None:
    stream = rubric_stream(f"{THOUGHT}</think>\n1. The response must rhyme. [Hard Rule]", starts_in_thought=True)
    events = [criterion.text for event in stream for criterion in event.criteria]
    result = stream.result()
    assert events == [criterion.text for criterion in result.rubric.criteria] == ["The response must rhyme."]
    assert result.text.startswith(THOUGHT)
    unclosed, plain = rubric_stream(THOUGHT, starts_in_thought=True), rubric_stream(THOUGHT)
    for stream in (unclosed, plain):
        for _ in stream:
            pass
    assert unclosed.result().rubric.criteria == ()
    assert len(plain.result().rubric.criteria) == 2


def test_the_manifest_tells_that_a_text_starts_inside_a_thought(
    edit_manifest: Callable[[Callable[[dict[str, Any]], object]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edit_manifest(lambda document: document["chat"].update(starts_in_thought=True))
    seen: list[bool] = []
    reader = rubric_stream_module.RubricReader

    def watched(*, starts_in_thought: bool) -> Any:
        seen.append(starts_in_thought)
        return reader(starts_in_thought=starts_in_thought)

    monkeypatch.setattr(rubric_stream_module, "RubricReader", watched)
    with RubricModel.open(path, threads=1) as model:
        model.generate("Write a haiku.", max_new_tokens=2)
    assert seen == [True]
