"""The model for event loops."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rubricrm import AsyncRubricModel, RubricModel
from rubricrm.errors import EngineBusy, ModelClosed, OptionInvalid, RequestInvalid

LONG = {"max_new_tokens": 1900, "constrain": False, "stop_on_repetition": False}


def run(bundle: Path, use: Callable[[AsyncRubricModel], Awaitable[object]], **engine: Any) -> None:
    async def main() -> None:
        async with await AsyncRubricModel.open(bundle, threads=1, **engine) as model:
            await asyncio.wait_for(use(model), 60)  # type: ignore[arg-type]

    asyncio.run(main())


async def ended(model: AsyncRubricModel) -> None:
    """Wait until nothing runs any more."""
    while not all(sequence.is_finished for sequence in model.model._backend.engine._sequences()):
        await asyncio.sleep(0.001)


def test_coroutines_give_what_methods_give(packed_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        requests = [f"Write about {n}." for n in range(10)]
        results = await asyncio.gather(*(model.generate(request, max_new_tokens=12) for request in requests))
        answer = await model.generate_text("Hi.", max_new_tokens=3)
        many = [outcome async for outcome in model.generate_many(requests, ordered=True, max_new_tokens=12)]
        await model.warmup()
        with RubricModel.open(packed_bundle, threads=1) as other:
            expected = [other.generate(request, max_new_tokens=12).text for request in requests]
            assert answer.text == other.generate_text("Hi.", max_new_tokens=3).text
        assert [result.text for result in results] == expected
        assert [outcome.result.text for outcome in many if outcome.result] == expected

    run(packed_bundle, use)


def test_a_stream_gives_its_events_and_its_result(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        async with model.stream("Write.", max_new_tokens=20) as stream:
            text = "".join([event.text async for event in stream])
        assert (await stream.result()).text == text
        pieces = [piece async for piece in model.stream_text("Hi.", max_new_tokens=20)]
        assert "".join(pieces) == (await model.generate_text("Hi.", max_new_tokens=20)).text

    run(tiny_bundle, use)


def test_a_cancelled_task_ends_its_generation(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        tasks = [asyncio.create_task(model.generate("Write.", **LONG)) for _ in range(3)]  # type: ignore[arg-type]
        while not model.model._backend.engine._sequences():
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)
        await ended(model)

    run(tiny_bundle, use)


def test_a_stream_that_is_left_ends(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        async with model.stream("Write.", **LONG) as stream:  # type: ignore[arg-type]
            async for _ in stream:
                break
        await ended(model)
        assert (await stream.result()).finish_reason == "cancelled"

    run(tiny_bundle, use)


def test_a_stream_that_nobody_holds_ends(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        stream = model.stream_text("Write.", **LONG)  # type: ignore[arg-type]
        await anext(stream)
        del stream
        gc.collect()
        await ended(model)

    run(tiny_bundle, use)


def test_leaving_many_cancels_what_runs(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        outcomes = model.generate_many(["", *["Write."] * 6], **LONG)  # type: ignore[arg-type]
        assert isinstance((await anext(outcomes)).error, RequestInvalid)
        await outcomes.aclose()
        await ended(model)

    run(tiny_bundle, use)


def test_errors_are_those_of_the_methods(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        with pytest.raises(RequestInvalid):
            await model.generate(" ")
        task = asyncio.create_task(model.generate("Write.", **LONG))  # type: ignore[arg-type]
        while not model.model._backend.engine._sequences():
            await asyncio.sleep(0.001)
        await model.close()
        with pytest.raises(ModelClosed):
            await task
        with pytest.raises(ModelClosed):
            await model.generate("Write.")

    run(tiny_bundle, use)


def test_a_task_that_is_cancelled_among_many_ends_all_that_run(tiny_bundle: Path) -> None:
    """While it waits for an outcome, and while requests are still tokenized."""

    async def use(model: AsyncRubricModel) -> None:
        async def consume() -> None:
            async for _ in model.generate_many(["Write."] * 6, max_concurrency=3, **LONG):  # type: ignore[arg-type]
                pass

        for pause_s in (0, 0.001, 0.05):
            task = asyncio.create_task(consume())
            await asyncio.sleep(pause_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ended(model)

    run(tiny_bundle, use)


def test_many_wait_for_a_full_line(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        outcomes = model.generate_many(["Write."] * 12, max_concurrency=6, ordered=True, max_new_tokens=4)
        assert [(outcome.index, outcome.error) async for outcome in outcomes] == [(n, None) for n in range(12)]

    run(tiny_bundle, use, max_concurrency=1, max_waiting=1)


def test_a_line_that_others_fill_is_an_outcome_of_each(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        others = [model.model.submit("Write.", **LONG)]  # type: ignore[arg-type]
        while not any(sequence.admitted for sequence in model.model._backend.engine._sequences()):
            await asyncio.sleep(0.001)
        others.append(model.model.submit("Write.", **LONG))  # type: ignore[arg-type]
        found = [outcome async for outcome in model.generate_many(["Hi."] * 3, max_new_tokens=4)]
        assert sorted(outcome.index for outcome in found) == [0, 1, 2]
        assert all(isinstance(outcome.error, EngineBusy) for outcome in found)
        for other in others:
            other.cancel()

    run(tiny_bundle, use, max_concurrency=1, max_waiting=1)


@pytest.mark.parametrize("max_concurrency", [0, -1, 1.5, "2"])
def test_a_concurrency_out_of_range_is_refused(tiny_model: RubricModel, max_concurrency: int) -> None:
    with pytest.raises(OptionInvalid, match="max_concurrency must be an integer from 1 on"):
        AsyncRubricModel(tiny_model).generate_many([], max_concurrency=max_concurrency)


def test_two_tasks_that_use_a_stream_first_read_one_stream(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        stream = model.stream_text("Hi.", max_new_tokens=30)

        async def read() -> list[str]:
            return [piece async for piece in stream]

        first, second = await asyncio.gather(read(), read())
        expected = (await model.generate_text("Hi.", max_new_tokens=30)).text
        assert len("".join(first + second)) == len(expected)

    run(tiny_bundle, use)


@pytest.mark.parametrize("is_shared", [True, False], ids=["one-for-all-loops", "one-per-loop"])
def test_several_event_loops_at_once_share_a_model(packed_bundle: Path, is_shared: bool) -> None:
    requests = [[f"Write {loop} about {n}." for n in range(6)] for loop in range(4)]
    with RubricModel.open(packed_bundle, threads=1) as model:
        shared = AsyncRubricModel(model)

        def use(loop: int) -> list[str]:
            mine = shared if is_shared else AsyncRubricModel(model)

            async def main() -> list[str]:
                coroutines = [mine.generate(request, max_new_tokens=12) for request in requests[loop]]
                return [result.text for result in await asyncio.wait_for(asyncio.gather(*coroutines), 60)]

            return asyncio.run(main())

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(use, range(4)))
        assert found == [[model.generate(each, max_new_tokens=12).text for each in part] for part in requests]


def test_a_loop_that_ends_ends_its_own_generations_alone(tiny_bundle: Path) -> None:
    with RubricModel.open(tiny_bundle, threads=1) as model:

        async def leave() -> None:
            task = asyncio.create_task(AsyncRubricModel(model).generate("Write.", **LONG))  # type: ignore[arg-type]
            while not any(sequence.admitted for sequence in model._backend.engine._sequences()):
                await asyncio.sleep(0.001)
            assert not task.done()

        other = model.submit("Write.", max_new_tokens=60, constrain=False, stop_on_repetition=False)
        asyncio.run(leave())
        assert other.result().usage.completion_tokens == 60
        assert all(sequence.is_finished for sequence in model._backend.engine._sequences())


def test_ids_are_continued_without_a_template(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        ids = model.model.prompt.encode_messages([{"role": "user", "content": "Hi."}])
        pieces = [piece async for piece in model.stream_ids(ids, max_new_tokens=20)]
        assert "".join(pieces) == (await model.generate_text("Hi.", max_new_tokens=20)).text
        for wrong in ([], [-1], [10**6], [True], ["a"]):
            with pytest.raises(RequestInvalid, match="prompt"):
                await model.stream_ids(wrong).result()  # type: ignore[arg-type]

    run(tiny_bundle, use)
