"""A jury asks both orders, counts votes alone, and turns no failure into a number."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_bundle import judge_bundle
from rubricrm import AsyncJury, JudgeModel, Jury, RubricModel, Scored, Unscored, Verdict
from rubricrm.errors import EngineBusy, ModelClosed, OptionInvalid, PromptTooLong, RuntimeFailed
from rubricrm.generation.options import GenerationOptions
from rubricrm.judge.verdict import GIVEN, SWAPPED, Reason
from scripted_judge import RUBRIC, Answer, Asked, Script, ScriptedJudge, ScriptedRubrics, rubric_result

REQUEST, GOOD, BAD = "Write a haiku.", "good answer", "bad answer"
# What a judge may write, and whether it is a vote.
ANSWERS: tuple[Answer, ...] = (
    "Winner: Response A",
    "Winner: Response B",
    "Winner: <Response A / Response B>",
    "CUT:Winner: Response A",
    "LATE:Winner: Response A",
    EngineBusy("the line is full"),
    RuntimeFailed("out of order"),
)
answers = st.lists(st.sampled_from(ANSWERS), min_size=10, max_size=10)


def prefers(good: str) -> Script:
    """A judge that finds one answer better, in whichever order it sees it."""
    return lambda asked: f"Winner: Response {'A' if asked.response_a == good else 'B'}"


def says(*texts: Answer) -> Script:
    upcoming = iter(texts)
    return lambda _: next(upcoming)


def ask_async(judge: ScriptedJudge, rubrics: ScriptedRubrics | None, method: str, options: dict[str, Any]) -> Any:
    async def ask() -> Any:
        jury = AsyncJury(judge, rubrics, **options)
        return await getattr(jury, method)(REQUEST, GOOD, BAD, rubric=None if rubrics else RUBRIC)

    return asyncio.run(ask())


def ask_sync(judge: ScriptedJudge, rubrics: ScriptedRubrics | None, method: str, options: dict[str, Any]) -> Any:
    return getattr(Jury(judge, rubrics, **options), method)(REQUEST, GOOD, BAD, rubric=None if rubrics else RUBRIC)


@pytest.fixture(params=[ask_sync, ask_async], ids=["Jury", "AsyncJury"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A comparison or reward of a jury of either kind: judge, method, and the jury's options."""

    def call(judge: ScriptedJudge, method: str, rubrics: ScriptedRubrics | None = None, **options: Any) -> Any:
        return request.param(judge, rubrics, method, options)

    return call


# ---- verdicts ----


def test_the_judge_sees_both_orders_with_the_same_rubric_and_seeds(ask: Callable[..., Any]) -> None:
    judge = ScriptedJudge(prefers(GOOD))
    found = ask(judge, "compare", votes=3)
    assert judge.asked == [
        *(Asked(REQUEST, RUBRIC, GOOD, BAD, seed) for seed in range(3)),
        *(Asked(REQUEST, RUBRIC, BAD, GOOD, seed) for seed in range(3)),
    ]
    assert (found.winner, found.votes_for_a, found.votes_for_b, found.no_vote) == ("A", 6, 0, 0)
    assert found.consistent
    assert found.seeds == (0, 1, 2, 0, 1, 2)


@pytest.mark.parametrize(
    ("script", "value"),
    [(prefers(GOOD), 1.0), (prefers(BAD), 0.0), (lambda _: "Winner: Response A", 0.5), (prefers("neither"), 0.5)],
)
def test_the_reward_is_that_of_the_paper(ask: Callable[..., Any], script: Script, value: float) -> None:
    found = ask(ScriptedJudge(script), "reward")
    assert isinstance(found, Scored)
    assert found.value == value


def test_one_order_costs_half_and_gives_no_reward(ask: Callable[..., Any]) -> None:
    judge = ScriptedJudge(prefers(GOOD))
    found = ask(judge, "compare", orders="given")
    assert (found.winner, found.consistent, len(judge.asked)) == ("A", None, 1)
    with pytest.raises(OptionInvalid, match="a reward needs both orders"):
        ask(judge, "reward", orders="given")


@settings(max_examples=60, deadline=None)
@given(answers, st.integers(1, 5), st.sampled_from([ask_sync, ask_async]))
def test_whatever_the_judge_writes_there_is_a_quorum_or_no_number(
    texts: list[Answer], votes: int, ask: Callable[..., Any]
) -> None:
    found = ask(ScriptedJudge(says(*texts)), None, "reward", {"votes": votes})
    used = texts[: 2 * votes]
    valid = [isinstance(text, str) and text in ANSWERS[:2] for text in used]
    has_quorum = all(2 * sum(part) > votes for part in (valid[:votes], valid[votes:]))
    assert isinstance(found, Scored) == has_quorum
    taken = found.verdict.votes if isinstance(found, Scored) else found.votes
    assert [vote.winner is not None for vote in taken] == valid
    assert [vote.order for vote in taken] == [GIVEN] * votes + [SWAPPED] * votes
    assert [vote.failure is not None for vote in taken] == [isinstance(text, Exception) for text in used]
    if isinstance(found, Unscored):
        may_help = any(text in ANSWERS[4:6] for text in used)
        assert found.retryable == may_help
        assert found.reason in (Reason.NO_QUORUM, Reason.TRUNCATED, Reason.JUDGE_FAILED)


def test_one_lost_vote_costs_one_vote(ask: Callable[..., Any]) -> None:
    good, lost = "Winner: Response A", EngineBusy("full")
    judge = ScriptedJudge(says(good, lost, good, "Winner: Response B", "Winner: Response B", "who knows"))
    found = ask(judge, "compare", votes=3)
    assert isinstance(found, Verdict)
    assert (found.winner, found.votes_for_a, found.no_vote) == ("A", 4, 2)
    assert found.failures == ("ENGINE_BUSY: full",)


def test_a_refused_vote_is_a_failure_and_not_an_exception(ask: Callable[..., Any]) -> None:
    judge = ScriptedJudge(prefers(GOOD), refusal=lambda asked: EngineBusy("full") if asked.seed == 1 else None)
    found = ask(judge, "compare", votes=3)
    assert (found.winner, found.no_vote) == ("A", 2)
    judge = ScriptedJudge(prefers(GOOD), refusal=lambda _: ModelClosed("closed"))
    found = ask(judge, "reward")
    assert (found.reason, found.retryable) == ("judge_failed", False)
    assert "MODEL_CLOSED" in found.detail


def test_a_fault_of_the_program_is_no_failure_of_the_judge(ask: Callable[..., Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        ask(ScriptedJudge(says(ZeroDivisionError(), "Winner: Response A")), "reward")


@pytest.mark.parametrize(
    ("answer", "words"),
    [("", "b: is empty"), (" \n", "b: is empty"), ("a\0", "holds NUL"), (None, "expected a string")],
)
def test_texts_that_nobody_can_judge_are_unscored_before_a_rubric_is_made(answer: Any, words: str) -> None:
    rubrics = ScriptedRubrics(rubric_result)
    found = Jury(ScriptedJudge(prefers(GOOD)), rubrics).reward(REQUEST, GOOD, answer)
    assert isinstance(found, Unscored)
    assert (found.reason, found.retryable) == ("input_invalid", False)
    assert words in found.detail
    assert rubrics.asked == []


def test_a_text_that_does_not_fit_ends_the_votes_that_were_asked_for(ask: Callable[..., Any]) -> None:
    def refusal(asked: Asked) -> Exception | None:
        return PromptTooLong("too long") if asked.response_a == BAD else None

    judge = ScriptedJudge(prefers(GOOD), refusal=refusal, hold=threading.Event())
    found = ask(judge, "compare", votes=2)
    assert (found.reason, found.retryable) == ("input_invalid", False)
    assert [future.cancelled() for future in judge.futures] == [True, True]


# ---- rubrics ----


def test_the_rubric_of_a_request_is_made_once(ask: Callable[..., Any]) -> None:
    rubrics = ScriptedRubrics(rubric_result)
    judge = ScriptedJudge(prefers(GOOD))
    assert isinstance(ask(judge, "reward", rubrics), Scored)
    assert {asked.rubric for asked in judge.asked} == {f"{RUBRIC}\n"}
    jury = Jury(ScriptedJudge(prefers(GOOD)), rubrics)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: jury.reward(REQUEST, GOOD, f"answer {number}"), range(16)))
    assert all(isinstance(outcome, Scored) for outcome in found)
    assert len(rubrics.asked) == 2


def test_a_failed_rubric_is_unscored_and_made_again(ask: Callable[..., Any]) -> None:
    rubrics = ScriptedRubrics(lambda _: (_ for _ in ()).throw(EngineBusy("full")))
    found = ask(ScriptedJudge(prefers(GOOD)), "reward", rubrics)
    assert (found.reason, found.retryable) == ("rubric_failed", True)
    cut = ScriptedRubrics(lambda request: rubric_result(request, finish_reason="length"))
    found = ask(ScriptedJudge(prefers(GOOD)), "compare", cut)
    assert (found.reason, found.retryable) == ("rubric_failed", False)


def test_without_a_rubric_and_a_model_for_it_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(OptionInvalid, match="Pass rubric=, or rubrics="):
        Jury(ScriptedJudge(prefers(GOOD))).compare(REQUEST, GOOD, BAD)


# ---- options ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"votes": 0}, "votes"),
        ({"votes": 1.0}, "votes"),
        ({"votes": True}, "votes"),
        ({"orders": "swapped"}, "orders"),
        ({"cache_size": 0}, "cache_size"),
        ({"votes": 2, "temperature": 0.0}, "all votes of an order would be the same"),
        ({"heat": 1}, "no option"),
        ({"temperature": -1}, "temperature"),
    ],
)
@pytest.mark.parametrize("kind", [Jury, AsyncJury])
def test_wrong_options_are_refused_at_once(kind: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        kind(ScriptedJudge(prefers(GOOD)), ScriptedRubrics(rubric_result), **options)


def test_seeds_follow_each_other_and_wrap_around() -> None:
    judge = ScriptedJudge(prefers(GOOD))
    Jury(judge, votes=3, seed=2**64 - 1).compare(REQUEST, GOOD, BAD, rubric=RUBRIC)
    assert [asked.seed for asked in judge.asked[:3]] == [2**64 - 1, 0, 1]
    judge = ScriptedJudge(prefers(GOOD))
    Jury(judge, options=GenerationOptions(seed=9)).compare(REQUEST, GOOD, BAD, rubric=RUBRIC)
    assert [asked.seed for asked in judge.asked] == [9, 9]


# ---- event loops ----


def test_a_task_that_is_canceled_ends_its_votes() -> None:
    judge = ScriptedJudge(prefers(GOOD), hold=threading.Event())

    async def give_up() -> None:
        task = asyncio.ensure_future(AsyncJury(judge, votes=2).reward(REQUEST, GOOD, BAD, rubric=RUBRIC))
        while len(judge.futures) < 4:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert all(future.cancelled() for future in judge.futures)


def test_a_task_that_is_canceled_while_its_votes_are_asked_for_ends_them_too() -> None:
    entered, gate = threading.Event(), threading.Event()

    def refusal(_: Asked) -> None:
        entered.set()
        gate.wait(10)

    judge = ScriptedJudge(prefers(GOOD), refusal=refusal, hold=threading.Event())

    async def give_up() -> None:
        task = asyncio.ensure_future(AsyncJury(judge).reward(REQUEST, GOOD, BAD, rubric=RUBRIC))
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        while len(judge.futures) < 2 or not all(future.cancelled() for future in judge.futures):
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(give_up(), 20))


def test_one_jury_serves_several_event_loops() -> None:
    rubrics = ScriptedRubrics(rubric_result)
    jury = AsyncJury(ScriptedJudge(prefers(GOOD)), rubrics)

    async def ask_many() -> list[Any]:
        return await asyncio.gather(*(jury.reward(REQUEST, GOOD, f"{number}") for number in range(8)))

    with ThreadPoolExecutor(3) as pool:
        found = [outcome for part in pool.map(lambda _: asyncio.run(ask_many()), range(3)) for outcome in part]
    assert [outcome.value for outcome in found] == [1.0] * 24
    assert rubrics.asked == [REQUEST]


# ---- an engine ----


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeModel]:
    with JudgeModel.open(judge_bundle(tmp_path_factory.mktemp("judge") / "bundle"), threads=1) as model:
        yield model


def test_votes_of_an_engine(judge: JudgeModel) -> None:
    grammar = judge.compile_grammar("Winner: Response [AB]")
    with RubricModel.demo(threads=1) as model:
        jury = Jury(judge, model, votes=5, grammar=grammar, temperature=5.0)
        found = jury.compare("Write a haiku about rain.", "Rain falls.", "Drops on the old roof.")
    assert isinstance(found, Verdict)
    assert (found.votes_for_a + found.votes_for_b, found.no_vote) == (10, 0)
    again = Jury(judge, votes=5, grammar=grammar, temperature=5.0)
    assert again.compare("x", "y", "z", rubric=RUBRIC) == again.compare("x", "y", "z", rubric=RUBRIC)


def test_votes_of_one_order_share_their_prompt(judge: JudgeModel) -> None:
    rubric = "\n".join(f"{n}. The response is plain and says thing number {n}. [Hard Rule]" for n in range(1, 12))
    case = ("Write a haiku about rain.", rubric, "Rain falls on the roof.", "Drops.")
    futures = [judge.submit(*case, seed=seed, max_new_tokens=3) for seed in range(4)]
    usages = [future.result().usage for future in futures]
    computed = sum(usage.prompt_tokens - usage.cached_prompt_tokens for usage in usages)
    assert computed < 1.5 * usages[0].prompt_tokens


def test_a_judge_that_writes_something_else_gives_no_number(judge: JudgeModel) -> None:
    found = Jury(judge, votes=3, max_new_tokens=30).reward(REQUEST, "Rain falls.", "Drops.", rubric=RUBRIC)
    assert isinstance(found, Unscored)
    assert found.reason in (Reason.NO_QUORUM, Reason.TRUNCATED)
    assert not found.retryable
    assert len(found.votes) == 6


def test_a_closed_judge_is_a_failure(tmp_path: Path) -> None:
    with JudgeModel.open(judge_bundle(tmp_path / "bundle"), threads=1) as judge:
        jury = Jury(judge)
    found = jury.reward(REQUEST, GOOD, BAD, rubric=RUBRIC)
    assert isinstance(found, Unscored)
    assert (found.reason, found.retryable) == ("judge_failed", False)
