"""Nobody's tokens depend on what else is computed, in which order, or on what was kept."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_kernels import needs_kernels
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sequence import Sequence
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC, Manifest
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.session import GraphVariant, Session

NEW_TOKENS = 16
PREFIX_IDS = [5 + (7 * n) % 250 for n in range(40)]
OPTIONS = (
    GenerationOptions(max_new_tokens=NEW_TOKENS),
    GenerationOptions(max_new_tokens=NEW_TOKENS, temperature=1.0, seed=7),
    GenerationOptions(max_new_tokens=NEW_TOKENS, temperature=0.8, top_k=20, top_p=0.9, seed=1),
)


def prompt(number: int) -> list[int]:
    """Prompts that begin alike in several ways: with the prefix or a part of it, and with one another."""
    numbers = random.Random(number // 2)
    tail = [numbers.randrange(5, 255) for _ in range(numbers.choice((1, 3, 30, 90)))]
    begin = PREFIX_IDS[: (40, 40, 25, 0)[number % 4]]
    return [*begin, *tail, *([] if number % 2 else [9, 9])]


PROMPTS = [prompt(number) for number in range(12)]
Key = tuple[int, int]


@dataclass
class Subject:
    """A graph, and what each request gives when it is alone on it."""

    session: Session
    manifest: Manifest
    prefix: Prefix
    alone: dict[Key, list[int]]

    def engine(self, limits: EngineOptions, *, with_prefix: bool = False) -> Engine:
        """An engine that no end token stops; whoever makes it lets it go, as it shares its session."""
        return Engine(self.session, self.manifest, self.prefix if with_prefix else None, limits)


def submit(engine: Engine, key: Key, priority: int = 0) -> Sequence:
    return engine.submit(PROMPTS[key[0]], replace(OPTIONS[key[1]], priority=priority))


def tokens(sequence: Sequence) -> list[int]:
    sequence.wait()
    sequence.raise_error()
    return sequence.token_ids


def subject_of(session: Session, bundle: Bundle) -> Subject:
    manifest = replace(bundle.manifest, prompts={RUBRIC: replace(bundle.manifest.prompt, stop_ids=())})
    subject = Subject(session, manifest, compute_prefix(session, PREFIX_IDS), {})
    for key in ((place, option) for place in range(len(PROMPTS)) for option in range(len(OPTIONS))):
        subject.alone[key] = tokens(submit(subject.engine(EngineOptions(max_concurrency=1, keep_prompts=False)), key))
    return subject


@pytest.fixture(scope="module")
def ours(packed_bundle: Path) -> Iterator[Subject]:
    """This project's kernels."""
    bundle = Bundle.open(packed_bundle)
    session = Session(bundle, threads=2)
    assert session.takes_any_mix
    yield subject_of(session, bundle)
    session.close()


@pytest.fixture(scope="module")
def theirs(tiny_bundle: Path) -> Iterator[Subject]:
    """ONNX Runtime's own."""
    bundle = Bundle.open(tiny_bundle)
    session = Session(bundle, threads=2, variant=GraphVariant("model.onnx", bundle.file("model.onnx").read_bytes()))
    assert not session.takes_any_mix
    yield subject_of(session, bundle)
    session.close()


orders = st.lists(
    st.tuples(
        st.integers(0, len(PROMPTS) - 1), st.integers(0, len(OPTIONS) - 1), st.integers(-1, 1), st.integers(0, 6)
    ),
    min_size=1,
    max_size=14,
)
settings_of_engine = {
    "slots": st.sampled_from([1, 2, 4, 8]),
    "with_prefix": st.booleans(),
    "keep_prompts": st.booleans(),
    "requests": orders,
}


def together(
    subject: Subject, slots: int, with_prefix: bool, keep_prompts: bool, requests: list[tuple[int, int, int, int]]
) -> list[tuple[Key, list[int]]]:
    """Let requests come in some order, each after so many steps of those before."""
    engine = subject.engine(EngineOptions(max_concurrency=slots, keep_prompts=keep_prompts), with_prefix=with_prefix)
    engine._driver.wake = lambda: None  # type: ignore[method-assign]
    found = []
    for place, option, priority, num_steps in requests:
        found.append(((place, option), submit(engine, (place, option), priority)))
        for _ in range(num_steps):
            engine.step()
    while engine.step():
        pass
    return [(key, tokens(sequence)) for key, sequence in found]


@needs_kernels
@settings(max_examples=60)
@given(**settings_of_engine)  # type: ignore[arg-type]
def test_on_our_kernels_every_token_is_the_one_alone(
    ours: Subject, slots: int, with_prefix: bool, keep_prompts: bool, requests: list[tuple[int, int, int, int]]
) -> None:
    for key, found in together(ours, slots, with_prefix, keep_prompts, requests):
        assert found == ours.alone[key]


def gap(subject: Subject, key: Key, count: int) -> float:
    """By how much the best logit exceeds the second after so many tokens."""
    ids = [*PROMPTS[key[0]], *subject.alone[key][:count]]
    row = subject.session.run(subject.session.new_slot(len(ids)), ids)[0]
    second, best = np.sort(row[: subject.manifest.tokenizer.num_tokens])[-2:]
    return float(best - second)


def test_on_the_runtimes_kernels_greedy_tokens_differ_at_most_at_ties(theirs: Subject) -> None:
    """At most one in 1,000, each where the two best logits are within 1e-3."""
    numbers = random.Random(0)
    num_tokens = num_ties = 0
    for slots, with_prefix, keep_prompts in [
        (s, p, k) for s in (1, 2, 8) for p in (False, True) for k in (False, True)
    ]:
        requests = [(numbers.randrange(len(PROMPTS)), 0, 0, numbers.randrange(7)) for _ in range(12)]
        for key, found in together(theirs, slots, with_prefix, keep_prompts, requests):
            num_tokens += len(found)
            if found != theirs.alone[key]:
                first = next(n for n, pair in enumerate(zip(found, theirs.alone[key], strict=True)) if len({*pair}) > 1)
                assert gap(theirs, key, first) < 1e-3
                num_ties += 1
    assert num_tokens == 12 * 12 * NEW_TOKENS
    assert num_ties <= num_tokens / 1000


@needs_kernels
def test_threads_change_nothing_either(ours: Subject) -> None:
    """The engine's own thread, and requests that come whenever they come."""
    engine = ours.engine(EngineOptions(max_concurrency=4), with_prefix=True)
    keys = [key for _ in range(2) for key in ours.alone]
    random.Random(1).shuffle(keys)
    sequences = [submit(engine, key) for key in keys]
    assert [tokens(each) for each in sequences] == [ours.alone[key] for key in keys]


@needs_kernels
@pytest.mark.parametrize("bundle", ["packed_bundle", "narrow_bundle"])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_votes_that_take_what_the_first_computes_are_those_alone(
    request: pytest.FixtureRequest, bundle: str, with_prefix: bool
) -> None:
    opened = Bundle.open(request.getfixturevalue(bundle))
    session = Session(opened, threads=2)
    prompt_ids = [*PREFIX_IDS, *(5 + (11 * n) % 250 for n in range(300))]
    prefix = compute_prefix(session, PREFIX_IDS) if with_prefix else None

    def votes(*, keep_prompts: bool) -> list[Sequence]:
        engine = Engine(session, opened.manifest, prefix, EngineOptions(keep_prompts=keep_prompts))
        found = [
            engine.submit(prompt_ids, GenerationOptions(max_new_tokens=NEW_TOKENS, temperature=1.0, seed=seed))
            for seed in range(8)
        ]
        for each in found:
            each.wait()
        return found

    alone, together = votes(keep_prompts=False), votes(keep_prompts=True)
    session.close()
    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    assert {each.cached_tokens for each in alone} == {len(PREFIX_IDS) if with_prefix else 0}
    assert sum(each.cached_tokens == len(prompt_ids) - 1 for each in together) == 7
