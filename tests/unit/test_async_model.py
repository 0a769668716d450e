"""The model for event loops."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rubricrm import AsyncRubricModel, RubricModel
from rubricrm.errors import ModelClosed, RequestInvalid

LONG = {"max_new_tokens": 1900, "constrain": False, "stop_on_repetition": False}


def run(bundle: Path, use: Callable[[AsyncRubricModel], Awaitable[object]]) -> None:
    async def main() -> None:
        async with await AsyncRubricModel.open(bundle, threads=1) as model:
            await asyncio.wait_for(use(model), 60)  # type: ignore[arg-type]

    asyncio.run(main())


async def ended(model: AsyncRubricModel) -> None:
    """Wait until nothing runs any more."""
    while not all(sequence.is_finished for sequence in model.model._engine._sequences()):
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
        while not model.model._engine._sequences():
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
        await outcomes.aclose()  # type: ignore[attr-defined]
        await ended(model)

    run(tiny_bundle, use)


def test_errors_are_those_of_the_methods(tiny_bundle: Path) -> None:
    async def use(model: AsyncRubricModel) -> None:
        with pytest.raises(RequestInvalid):
            await model.generate(" ")
        task = asyncio.create_task(model.generate("Write.", **LONG))  # type: ignore[arg-type]
        while not model.model._engine._sequences():
            await asyncio.sleep(0.001)
        await model.close()
        with pytest.raises(ModelClosed):
            await task
        with pytest.raises(ModelClosed):
            await model.generate("Write.")

    run(tiny_bundle, use)


def test_several_event_loops_share_a_model(tiny_bundle: Path) -> None:
    model = RubricModel.open(tiny_bundle, threads=1)

    async def use() -> str:
        return (await AsyncRubricModel(model).generate("Write.", max_new_tokens=6)).text

    with model:
        assert asyncio.run(use()) == asyncio.run(use()) == model.generate("Write.", max_new_tokens=6).text
