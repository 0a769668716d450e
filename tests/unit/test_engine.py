"""The loop: why a generation ends, what it may restore, and which tokens it may choose."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rubricrm.errors import ModelClosed, PromptTooLong, RuntimeFailed
from rubricrm.generation.engine import Engine, Generation
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.session import Session

Scripted = Callable[..., tuple[Engine, Any]]

PROMPT = list(range(20, 30))
WORD = [75, 76, 77, 78]
END = 2
CONTEXT = 2048


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Iterator[Session]:
    session = Session(Bundle.open(tiny_bundle), threads=1)
    yield session
    session.close()


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path, session: Session) -> Engine:
    return Engine(session, Bundle.open(tiny_bundle).manifest, None)


def start(engine: Engine, prompt_ids: list[int] = PROMPT, **options: Any) -> Generation:
    return engine.submit(prompt_ids, GenerationOptions(**options))


def ids_of(engine: Engine, prompt_ids: list[int] = PROMPT, **options: Any) -> list[int]:
    return [token.id for token in engine.stream(start(engine, prompt_ids, **options))]


# ---- why a generation ends ----


@pytest.mark.parametrize("stop_id", [0, 2])
def test_any_stop_id_ends_a_generation_and_is_not_part_of_it(scripted: Scripted, stop_id: int) -> None:
    engine, _ = scripted([*WORD, stop_id], len(PROMPT))
    generation = start(engine)
    assert [token.id for token in engine.stream(generation)] == WORD
    assert generation.finish_reason == "stop"
    assert generation.num_tokens == len(WORD)


def test_a_stop_id_at_once_ends_a_generation_without_tokens(scripted: Scripted) -> None:
    engine, session = scripted([END], len(PROMPT))
    generation = start(engine)
    assert list(engine.stream(generation)) == []
    assert generation.finish_reason == "stop"
    assert session.runs == [len(PROMPT)]


@pytest.mark.parametrize("max_new_tokens", [1, 2, 4])
def test_the_limit_of_tokens_is_length_and_no_token_is_run_in_vain(scripted: Scripted, max_new_tokens: int) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    generation = start(engine, max_new_tokens=max_new_tokens)
    assert [token.id for token in engine.stream(generation)] == WORD[:max_new_tokens]
    assert generation.finish_reason == "length"
    assert session.runs == [len(PROMPT), *[1] * (max_new_tokens - 1)]


def test_the_bundle_says_how_many_tokens_are_the_default(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    assert start(engine).max_new_tokens == 1024


def test_a_generation_cancelled_before_it_starts_runs_nothing(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    cancel = threading.Event()
    cancel.set()
    generation = engine.submit(PROMPT, GenerationOptions(), cancel=cancel)
    assert list(engine.stream(generation)) == []
    assert generation.finish_reason == "cancelled"
    assert session.runs == []
    assert generation.prefilled is None


@pytest.mark.parametrize("how", ["method", "event"])
def test_a_generation_cancelled_on_its_way_keeps_what_it_has(scripted: Scripted, how: str) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    cancel = threading.Event()
    generation = engine.submit(PROMPT, GenerationOptions(), cancel=cancel)
    tokens = engine.stream(generation)
    got = [next(tokens).id, next(tokens).id]
    if how == "method":
        generation.cancel()
    else:
        cancel.set()
    assert [*got, *(token.id for token in tokens)] == WORD[:2]
    assert generation.finish_reason == "cancelled"
    assert generation.num_tokens == 2
    assert session.runs == [len(PROMPT), 1]


def test_a_long_prompt_can_be_cancelled_between_its_chunks(scripted: Scripted) -> None:
    prompt = [30] * 300
    engine, session = scripted(WORD, len(prompt))
    generation = start(engine, prompt)
    session.before_run = lambda: generation.cancel() if len(session.runs) == 1 else None
    assert list(engine.stream(generation)) == []
    assert session.runs == [64, 64]
    assert generation.finish_reason == "cancelled"


def test_no_time_at_all_is_a_timeout_without_tokens(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    generation = start(engine, timeout_s=1e-9)
    assert list(engine.stream(generation)) == []
    assert generation.finish_reason == "timeout"
    assert session.runs == []


def test_time_counts_from_when_the_request_came_in(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    options = GenerationOptions(timeout_s=50)
    generation = engine.submit(PROMPT, options, started=time.perf_counter() - 100)
    assert list(engine.stream(generation)) == []
    assert generation.finish_reason == "timeout"


def test_a_timeout_on_the_way_keeps_what_there_is(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    generation = start(engine, timeout_s=1000)
    tokens = engine.stream(generation)
    next(tokens)
    generation.started -= 2000
    assert list(tokens) == []
    assert generation.finish_reason == "timeout"
    assert generation.num_tokens == 1


def test_the_first_reason_stands_unless_the_text_is_complete() -> None:
    generation = Generation(PROMPT, GenerationOptions(timeout_s=1e-9), 5)
    generation.finish("length")
    generation.cancel()
    assert generation.must_end()
    assert generation.finish_reason == "length"
    generation.finish("stop")
    assert generation.finish_reason == "stop"
    generation.finish("cancelled")
    assert generation.finish_reason == "stop"


def test_a_generation_that_ended_yields_nothing_more(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    generation = start(engine, max_new_tokens=2)
    assert len(list(engine.stream(generation))) == 2
    assert list(engine.stream(generation)) == []
    assert generation.num_tokens == 2


# ---- the context ----


@pytest.mark.parametrize("room", [1, 2, 5])
def test_new_tokens_are_limited_to_the_room_in_the_context(engine: Engine, room: int) -> None:
    prompt = [5 + n % 200 for n in range(CONTEXT - room)]
    generation = start(engine, prompt, max_new_tokens=1024)
    assert generation.max_new_tokens == room
    assert len(list(engine.stream(generation))) == room
    assert generation.finish_reason == "length"


@pytest.mark.parametrize("excess", [0, 1, 500])
def test_a_prompt_without_room_for_a_token_is_refused(engine: Engine, excess: int) -> None:
    words = f"the prompt has {CONTEXT + excess} tokens, the context {CONTEXT}: .* by at least {excess + 1} tokens"
    with pytest.raises(PromptTooLong, match=words):
        start(engine, [5] * (CONTEXT + excess))


# ---- slots ----


@pytest.mark.parametrize("how", ["finish", "close", "drop", "fail"])
def test_a_slot_is_used_again_however_a_generation_ended(scripted: Scripted, how: str) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    tokens = engine.stream(start(engine, max_new_tokens=4))
    next(tokens)
    if how == "finish":
        list(tokens)
    elif how == "close":
        tokens.close()  # type: ignore[attr-defined]
    elif how == "drop":
        del tokens
    else:

        def fail() -> None:
            raise RuntimeFailed("out of order")

        session.before_run = fail
        with pytest.raises(RuntimeFailed):
            list(tokens)
        session.before_run = lambda: None
    assert ids_of(engine, max_new_tokens=4) == WORD
    assert session.slots == 1


def test_a_slot_that_is_too_small_is_replaced(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    ids_of(engine, max_new_tokens=4)
    assert len(ids_of(engine, max_new_tokens=600)) == 600
    ids_of(engine, max_new_tokens=4)
    assert session.slots == 2


def test_open_generations_have_a_slot_each_and_one_is_kept(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    streams = [engine.stream(start(engine, max_new_tokens=4)) for _ in range(3)]
    got: list[list[int]] = [[], [], []]
    for _ in range(4):
        for tokens, ids in zip(streams, got, strict=True):
            ids.append(next(tokens).id)
    for tokens in streams:
        assert list(tokens) == []
    assert got == [WORD] * 3
    assert session.slots == 3
    assert len(engine._free_slots) == 1


def test_a_slot_that_comes_back_to_a_closed_engine_is_freed(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    tokens = engine.stream(start(engine))
    next(tokens)
    engine.close()
    tokens.close()  # type: ignore[attr-defined]
    assert engine._free_slots == []


def test_a_closed_engine_ends_open_generations_with_an_error(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    engine = Engine(Session(bundle, threads=1), bundle.manifest, None)
    tokens = engine.stream(start(engine))
    next(tokens)
    engine.close()
    with pytest.raises(ModelClosed):
        next(tokens)
    with pytest.raises(ModelClosed):
        next(engine.stream(start(engine)))


# ---- the prefix ----

PREFIX_IDS = list(range(20, 60))


@pytest.fixture(scope="module")
def prefix(session: Session) -> Prefix:
    return compute_prefix(session, PREFIX_IDS)


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [
        ([*PREFIX_IDS, 99, 98], 40),
        (PREFIX_IDS, 39),
        (PREFIX_IDS[:7], 6),
        ([*PREFIX_IDS[:10], 99, *PREFIX_IDS[11:]], 10),
        ([99, *PREFIX_IDS], 0),
        ([20], 0),
        ([99], 0),
    ],
    ids=["begins-with-it", "is-it", "shorter", "leaves-it", "another", "first-token", "one-other"],
)
def test_the_longest_common_part_is_restored_and_the_last_token_always_run(
    tiny_bundle: Path, session: Session, engine: Engine, prefix: Prefix, prompt: list[int], cached: int
) -> None:
    restoring = Engine(session, Bundle.open(tiny_bundle).manifest, prefix)
    generation = start(restoring, prompt, max_new_tokens=12)
    ids = [token.id for token in restoring.stream(generation)]
    assert generation.cached_tokens == cached
    assert ids == ids_of(engine, prompt, max_new_tokens=12)


def test_a_slot_remembers_nothing_of_the_request_before(tiny_bundle: Path, session: Session, prefix: Prefix) -> None:
    restoring = Engine(session, Bundle.open(tiny_bundle).manifest, prefix)
    prompts = [[*PREFIX_IDS, *range(61, 61 + n)] for n in (1, 90, 3)] + [[70] * 30, PREFIX_IDS[:5]]
    fresh = [ids_of(Engine(session, Bundle.open(tiny_bundle).manifest, None), p, max_new_tokens=10) for p in prompts]
    for _ in range(2):
        assert [ids_of(restoring, prompt, max_new_tokens=10) for prompt in prompts] == fresh


# ---- the choice ----


def test_a_seed_repeats_its_tokens(engine: Engine) -> None:
    sampled = [ids_of(engine, temperature=1.0, seed=7, max_new_tokens=40) for _ in range(3)]
    assert sampled[0] == sampled[1] == sampled[2]
    assert sampled[0] != ids_of(engine, temperature=1.0, seed=8, max_new_tokens=40)


def test_a_seed_repeats_its_tokens_in_another_process(tiny_bundle: Path, engine: Engine) -> None:
    script = f"""
import json, sys
from rubricrm.runtime.bundle import Bundle
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.session import Session
bundle = Bundle.open(sys.argv[1])
engine = Engine(Session(bundle, threads=1), bundle.manifest, None)
generation = engine.submit({PROMPT}, GenerationOptions(temperature=1.0, seed=7, max_new_tokens=40))
print(json.dumps([token.id for token in engine.stream(generation)]))
"""
    command = [sys.executable, "-c", script, str(tiny_bundle)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == ids_of(engine, temperature=1.0, seed=7, max_new_tokens=40)


def test_without_a_seed_each_generation_draws_its_own(engine: Engine) -> None:
    generations = [start(engine, temperature=1.0, max_new_tokens=40) for _ in range(3)]
    ids = [tuple(token.id for token in engine.stream(generation)) for generation in generations]
    assert len(set(ids)) == 3
    assert len({generation.seed for generation in generations}) == 3
    assert all(0 <= generation.seed < 2**64 for generation in generations)


def test_a_drawn_seed_repeats_the_tokens(engine: Engine) -> None:
    generation = start(engine, temperature=1.0, max_new_tokens=40)
    ids = [token.id for token in engine.stream(generation)]
    assert ids == ids_of(engine, temperature=1.0, seed=generation.seed, max_new_tokens=40)


def test_greedy_decoding_ignores_the_seed(engine: Engine) -> None:
    assert len({tuple(ids_of(engine, seed=seed, max_new_tokens=20)) for seed in (None, 0, 1, 2**64 - 1)}) == 1


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 2.0, "top_k": 3}], ids=str)
@pytest.mark.parametrize("winner", [261, 271])
def test_a_padding_row_of_the_vocabulary_is_never_chosen(
    scripted: Scripted, options: dict[str, Any], winner: int
) -> None:
    engine, _ = scripted(WORD, len(PROMPT), winner=winner)
    assert ids_of(engine, max_new_tokens=4, **options) == WORD


def test_padding_rows_count_in_the_log_probabilities(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT), winner=265)
    (token,) = engine.stream(start(engine, max_new_tokens=1, logprobs=1))
    assert token.id == WORD[0]
    assert token.logprobs is not None
    assert token.logprobs.top == ((265, 0.0),)
    assert token.logprobs.logprob < -1e8


def test_log_probabilities_do_not_depend_on_temperature_and_filters(engine: Engine, session: Session) -> None:
    row = session.run(session.new_slot(100), PROMPT)[0].astype(np.float64)
    expected = row - np.log(np.exp(row).sum())
    for options in ({}, {"temperature": 5.0, "top_k": 1, "seed": 1}):
        (token,) = engine.stream(start(engine, max_new_tokens=1, logprobs=5, **options))
        assert token.logprobs is not None
        assert token.logprobs.token_id == token.id
        assert token.logprobs.logprob == pytest.approx(expected[token.id], abs=1e-5)
        assert [i for i, _ in token.logprobs.top] == np.argsort(-expected, kind="stable")[:5].tolist()


def test_log_probabilities_come_only_when_asked_for(engine: Engine) -> None:
    assert all(token.logprobs is None for token in engine.stream(start(engine, max_new_tokens=3)))
    for token in engine.stream(start(engine, max_new_tokens=3, logprobs=0)):
        assert token.logprobs is not None
        assert token.logprobs.top == ()
