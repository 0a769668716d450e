"""A request's rubric is made once, for threads and event loops alike; what failed is made again."""

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import EngineBusy, OptionInvalid, RubricMalformed, RubricrmError
from rubricrm.generation.result import RubricResult
from rubricrm.judge.rubric_cache import RubricCache
from scripted_judge import MODEL, RUBRIC, ScriptedRubrics, rubric_result


def slow(request: str) -> RubricResult:
    time.sleep(0.002)
    return rubric_result(request, f"1. The response is {request}. [Hard Rule]")


def text_for(request: str) -> str:
    return f"1. The response is {request}. [Hard Rule]\n"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=24), st.integers(5, 9))
def test_many_threads_make_each_rubric_once(requests: list[str], size: int) -> None:
    maker = ScriptedRubrics(slow)
    cache = RubricCache(maker, size)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda request: cache.get(request).result(), requests))
    assert texts == [text_for(request) for request in requests]
    assert Counter(maker.asked) == dict.fromkeys(requests, 1)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=24))
def test_tasks_of_several_event_loops_make_each_rubric_once(requests: list[str]) -> None:
    maker = ScriptedRubrics(slow)
    cache = RubricCache(maker, 9)

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(asyncio.wrap_future(cache.get(request)) for request in requests))

    with ThreadPoolExecutor(3) as pool:
        found = [future.result() for future in [pool.submit(lambda: asyncio.run(ask_all())) for _ in range(3)]]
    assert found == [[text_for(request) for request in requests]] * 3
    assert Counter(maker.asked) == dict.fromkeys(requests, 1)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.integers(1, 5))
def test_as_many_are_kept_as_may_be_and_those_that_were_asked_for_last(requests: list[str], size: int) -> None:
    maker = ScriptedRubrics(rubric_result)
    cache = RubricCache(maker, size)
    kept: list[str] = []
    made = 0
    for request in requests:
        cache.get(request).result()
        made += request not in kept
        kept = [*(other for other in kept if other != request), request][-size:]
        assert len(cache) == len(kept)
    assert len(maker.asked) == made


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_failed_rubric_is_not_kept(fates: list[bool]) -> None:
    upcoming = iter(fates)

    def flaky(request: str) -> RubricResult:
        if next(upcoming):
            return rubric_result(request)
        raise EngineBusy("full")

    maker = ScriptedRubrics(flaky)
    cache = RubricCache(maker, 3)
    first_good = fates.index(True) if True in fates else len(fates)
    for number, _ in enumerate(fates):
        assert (cache.get("a").exception() is None) == (number >= first_good)
    # It is asked again until it gives one, and then no more.
    assert len(maker.asked) == min(first_good + 1, len(fates))


@pytest.mark.parametrize(
    ("text", "finish_reason", "message"),
    [
        (RUBRIC, "length", "is cut"),
        (RUBRIC, "timeout", "is cut"),
        ("Nothing to see.", "stop", "has no criteria"),
        ("1. The response is short.", "stop", "has no kind"),
    ],
)
def test_a_rubric_that_a_judge_should_not_get_is_an_error(text: str, finish_reason: str, message: str) -> None:
    maker = ScriptedRubrics(lambda request: rubric_result(request, text, finish_reason))
    cache = RubricCache(maker, 3)
    for _ in range(2):
        with pytest.raises(RubricMalformed, match=message):
            cache.get("a").result()
    assert len(maker.asked) == 2


def test_another_model_behind_the_same_address_makes_another_rubric() -> None:
    maker = ScriptedRubrics(rubric_result)
    cache = RubricCache(maker, 3)
    cache.get("a").result()
    maker.description["manifest_sha256"] = "1" * 64
    cache.get("a").result()
    assert maker.asked == ["a", "a"]


def test_whoever_gives_up_takes_the_rubric_from_nobody() -> None:
    gate = threading.Event()

    def held(request: str) -> RubricResult:
        gate.wait(10)
        return rubric_result(request)

    cache = RubricCache(ScriptedRubrics(held), 3)

    async def give_up() -> None:
        task = asyncio.ensure_future(asyncio.wrap_future(cache.get("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    waiting = cache.get("a")
    assert not waiting.cancel()
    gate.set()
    assert waiting.result(10) == f"{RUBRIC}\n"


def test_a_refusal_reaches_all_and_an_interrupt_leaves_nobody_waiting() -> None:
    class Refusing:
        description = MODEL
        error: BaseException = EngineBusy("full")

        def submit(self, request: str) -> Future[RubricResult]:
            assert request == "a"
            raise self.error

    maker = Refusing()
    cache = RubricCache(maker, 3)
    with pytest.raises(EngineBusy):
        cache.get("a").result(1)
    maker.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        cache.get("a")
    maker.error = EngineBusy("full again")
    with pytest.raises(RubricrmError, match="full again"):
        cache.get("a").result(1)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(OptionInvalid, match="cache_size"):
        RubricCache(ScriptedRubrics(rubric_result), size)  # type: ignore[arg-type]
