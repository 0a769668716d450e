"""What a sequence gives alone, and what it gives among others: of one graph, by every way to ask for it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm.generation.acceptance import DraftSource, grade
from rubricrm.generation.completion import Completion
from rubricrm.generation.constraint import _SECOND_DRAW, Overrules
from rubricrm.generation.draft_desk import DraftDesk
from rubricrm.generation.drafting import Draft, Drafter, TokenRules
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.sampling import TokenLogprobs, uniform, weights
from rubricrm.generation.sequence import Sequence
from rubricrm.generation.step_cost import StepCost
from rubricrm.rubric import form
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.kv_cache import bytes_per_position
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

WAYS = (
    GenerationOptions(),
    GenerationOptions(logprobs=3),
    GenerationOptions(temperature=1.0, seed=7),
    GenerationOptions(temperature=2.0, seed=1, top_k=40, top_p=0.95),
    GenerationOptions(temperature=0.7, seed=2**63, min_p=0.02, logprobs=0),
    GenerationOptions(temperature=1.0, seed=3, stop=("e", ". ")),
)
FORMS = ("free", "rubric", "pattern")
PATTERN = r"(?:Yes|No|Perhaps), because [a-z ]{2,30}\."
SPARE_TOKENS = (2, 20)  # beyond the shortest way to a whole end
DRAFTS = ("none", "own", "learned", "guessed")
REQUESTS = (
    "Write a haiku about rain.",
    "Write a haiku about rain. Do not use the word water.",
    "Write",
    "日本の首都は？ 🙂",
    "def merge(a: list[int], b: list[int]) -> list[int]:  # [Hard Rule]\n    return sorted(a + b)\n\nExplain it.",
    "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question. " * 4,
)
_compiled: dict[tuple[bytes, tuple[int, ...]], dict[str, Grammar]] = {}
FREE_ROWS = StepCost({1: 1.0, 8: 1.0})  # so that whatever is drafted is verified


class Key(NamedTuple):
    """What was asked for."""

    prompt: int
    form: str
    way: int
    spare_tokens: int


@dataclass(frozen=True)
class Arrival:
    """A request: it comes after so many steps of those before, and leaves before its end or does not."""

    key: Key
    num_steps: int
    priority: int
    leaves: bool


@dataclass(frozen=True)
class Setting:
    """An engine, and what is asked of it."""

    slots: int
    max_rows: int
    with_prefix: bool
    keep_prompts: bool
    is_tight: bool
    drafts: str
    arrivals: list[Arrival]


def settings_of(num_prompts: int, drafts: tuple[str, ...]) -> st.SearchStrategy[Setting]:
    """The whole product of what may be asked for."""
    keys = st.builds(
        Key,
        st.integers(0, num_prompts - 1),
        st.sampled_from(FORMS),
        st.integers(0, len(WAYS) - 1),
        st.sampled_from(SPARE_TOKENS),
    )
    arrivals = st.builds(
        Arrival, keys, st.integers(0, 9), st.integers(-1, 1), st.sampled_from([False, False, False, True])
    )
    return st.builds(
        Setting,
        slots=st.sampled_from([1, 2, 4, 8]),
        max_rows=st.sampled_from([9, 50, 256]),
        with_prefix=st.booleans(),
        keep_prompts=st.booleans(),
        is_tight=st.booleans(),
        drafts=st.sampled_from(drafts),
        arrivals=st.lists(arrivals, min_size=1, max_size=10),
    )


@dataclass(frozen=True)
class Answer:
    """All that a sequence gives."""

    token_ids: list[int]
    text: str
    finish_reason: str | None
    overrules: Overrules | None
    logprobs: list[TokenLogprobs]

    @classmethod
    def of(cls, sequence: Sequence) -> Answer:
        sequence.raise_error()
        overrules = None if sequence.constraint is None else sequence.constraint.overrules
        text = "".join(sequence.pieces)
        return cls(sequence.token_ids, text, sequence.finish_reason, overrules, sequence.logprobs)


class Guesses(Drafter):
    """Drafts what is known to follow, with mistakes here and there."""

    def __init__(self, numbers: ItemNumbers, expected: list[int], num_tokens: int, seed: int) -> None:
        super().__init__([], numbers)
        self._expected = expected
        self._num_tokens = num_tokens
        self._random = random.Random(seed)
        self._place = 0

    def push(self, token_id: int) -> None:
        super().push(token_id)
        self._place += 1

    def propose(self, limit: int, rules: TokenRules | None = None, state: int = 0) -> Draft:  # noqa: ARG002
        right = self._expected[self._place : self._place + self._random.randint(0, max(0, limit))]
        token_ids = [
            token_id if self._random.random() < 0.9 else self._random.randrange(self._num_tokens) for token_id in right
        ]
        return Draft(token_ids, [grade(DraftSource.TEXT, 0.9)] * len(token_ids), [0.9] * len(token_ids))


@dataclass
class Tally:
    """Tokens that were compared, and those at which a sequence parted from what it gives alone, with their margins."""

    num_tokens: int = 0
    margins: list[float] = field(default_factory=list)


class Subject:
    """An open graph. What each request gives alone on it is computed once, when it is asked for.

    Alone means: one slot, the whole prompt computed, nothing kept, nothing drafted.
    """

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self.session = session
        self.manifest = bundle.manifest
        tokenizer_file = bundle.file(self.manifest.tokenizer.file)
        self.tokenizer = Tokenizer.from_file(tokenizer_file)
        self._prompt = Prompt(self.manifest.prompt, self.manifest.chat, self.tokenizer)
        self._alone: dict[Key, Answer] = {}
        self._grammars = _grammars_of(tokenizer_file, self.manifest.prompt.stop_ids)

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Those of requests, which begin with all of the prefix; one with a part of it, and one with none."""
        whole = [self._prompt.encode_request(request) for request in REQUESTS]
        return [*whole, [*self._prefix.token_ids[:-5], *whole[0][-9:]], whole[1][-7:]]

    @cached_property
    def _prefix(self) -> Prefix:
        return compute_prefix(self.session, self._prompt.fixed_prefix())

    @cached_property
    def _numbers(self) -> ItemNumbers:
        return ItemNumbers(self.tokenizer)

    def options(self, key: Key) -> GenerationOptions:
        grammar = self._grammars.get(key.form)
        shortest = 0 if grammar is None else grammar.shortest(grammar.start)
        return replace(
            WAYS[key.way],
            max_new_tokens=shortest + key.spare_tokens,
            constrain=key.form == "rubric",
            grammar=grammar if key.form == "pattern" else None,
        )

    def alone(self, key: Key) -> Answer:
        """What a request gives when there is no other."""
        if key not in self._alone:
            engine = self._engine(EngineOptions(max_concurrency=1, keep_prompts=False))
            sequence = self._submit(engine, key)
            while engine.step():
                pass
            self._alone[key] = Answer.of(sequence)
        return self._alone[key]

    def together(self, setting: Setting) -> list[tuple[Arrival, Answer]]:
        """What requests give that are there together."""
        most_positions = 2 * max(len(ids) for ids in self.prompts) + 400
        memory = most_positions * bytes_per_position(self.manifest.model, self.session.facts.kv_type)
        engine = self._engine(
            EngineOptions(
                max_concurrency=setting.slots,
                keep_prompts=setting.keep_prompts,
                max_memory=memory if setting.is_tight else None,
            ),
            prefix=self._prefix if setting.with_prefix else None,
            drafts=None if setting.drafts == "none" else self._desk(self._learned(setting)),
        )
        engine._scheduler._max_rows = setting.max_rows
        sequences = []
        for number, arrival in enumerate(setting.arrivals):
            cancel = threading.Event()
            sequence = self._submit(engine, arrival.key, priority=arrival.priority, cancel=cancel)
            if setting.drafts == "guessed":
                expected = self.alone(arrival.key).token_ids
                sequence.drafter = Guesses(self._numbers, expected, self.manifest.tokenizer.num_tokens, number)
            sequences.append(sequence)
            for _ in range(arrival.num_steps):
                engine.step()
            if arrival.leaves:
                cancel.set()
        while engine.step():
            pass
        return [(arrival, Answer.of(each)) for arrival, each in zip(setting.arrivals, sequences, strict=True)]

    def from_threads(self, keys: list[Key]) -> list[Answer]:
        """What requests give that come from several threads, computed by the engine's own."""
        engine = self._engine(EngineOptions(max_concurrency=4), prefix=self._prefix, drafts=self._desk(()))
        del engine._driver.wake  # it was taken away from this one engine alone

        def answer(key: Key) -> Answer:
            sequence = self._submit(engine, key)
            sequence.wait()
            return Answer.of(sequence)

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(answer, keys))

    def check(self, setting: Setting) -> None:
        """Compare what requests give together with what each gives alone: all of it, to the last bit."""
        for arrival, found in self.together(setting):
            expected = self.alone(arrival.key)
            if arrival.leaves and found.finish_reason == "cancelled":
                assert found.token_ids == expected.token_ids[: len(found.token_ids)]
            else:
                assert found == expected

    def count(self, setting: Setting, tally: Tally) -> None:
        """Compare tokens alone, and note where they part."""
        for arrival, found in self.together(setting):
            expected = self.alone(arrival.key)
            shared = [*found.token_ids, -1] if found.finish_reason == "stop" else found.token_ids
            pairs = list(zip(shared, [*expected.token_ids, -1], strict=False))
            place = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
            tally.num_tokens += len(found.token_ids)
            if place is not None:
                tally.margins.append(self.margin(arrival.key, place))

    def margin(self, key: Key, place: int) -> float:
        """By how much token `place` of an answer was preferred: a gap of logits; of probability where it was drawn."""
        options, ids = self.options(key), self.alone(key).token_ids[:place]
        logits = self._logits([*self.prompts[key.prompt], *ids])[: self.manifest.tokenizer.num_tokens]
        seed = options.seed or 0
        least = _margin(logits, options, seed, place)
        grammar = self._grammars.get(key.form)
        if grammar is not None:
            state = grammar.start
            for token_id in ids:
                state = grammar.next(state, token_id)
            mask = grammar.allowed(state, (options.max_new_tokens or 0) - place)
            masked = np.where(mask, logits, np.float32(-np.inf))
            least = min(least, _margin(masked, options, seed ^ _SECOND_DRAW, place))
        return least

    def _logits(self, ids: list[int]) -> NDArray[np.float32]:
        slot = self.session.new_slot(len(ids))
        for start in range(0, len(ids), self.session.max_rows):
            logits = self.session.run(slot, ids[start : start + self.session.max_rows])[0]
        return logits

    def _engine(self, options: EngineOptions, prefix: Prefix | None = None, drafts: DraftDesk | None = None) -> Engine:
        """An engine that computes when `step` is called; whoever makes it lets it go, as it shares its session."""
        grammar = self._grammars["rubric"]
        engine = Engine(self.session, self.manifest, prefix, options, grammar=grammar, drafts=drafts)
        engine._driver.wake = lambda: None  # type: ignore[method-assign]
        return engine

    def _submit(self, engine: Engine, key: Key, priority: int = 0, cancel: threading.Event | None = None) -> Sequence:
        options = replace(self.options(key), priority=priority)
        completion = Completion(self.tokenizer, options)
        return engine.submit(self.prompts[key.prompt], options, is_rubric=True, completion=completion, cancel=cancel)

    def _learned(self, setting: Setting) -> list[Key]:
        return [arrival.key for arrival in setting.arrivals[::2]] if setting.drafts == "learned" else []

    def _desk(self, learned: Iterable[Key]) -> DraftDesk:
        phrases = PhraseTable(self._numbers)
        for key in learned:
            phrases.learn(self.alone(key).token_ids)
        return DraftDesk(FREE_ROWS, self._numbers, phrases)


def _grammars_of(tokenizer_file: Path, stop_ids: tuple[int, ...]) -> dict[str, Grammar]:
    """Those of a tokenizer take longer than most of what they are for: they are compiled once."""
    key = tokenizer_file.read_bytes(), stop_ids
    if key not in _compiled:
        tokenizer = Tokenizer.from_file(tokenizer_file)
        patterns = {"rubric": form.regex(), "pattern": PATTERN}
        _compiled[key] = {name: Grammar.compile(pattern, tokenizer, stop_ids) for name, pattern in patterns.items()}
    return _compiled[key]


def _margin(logits: NDArray[np.float32], options: GenerationOptions, seed: int, place: int) -> float:
    if options.is_greedy:
        second, best = np.sort(logits)[-2:]
        return float(best - second)
    _, kept = weights(logits, options)
    running = kept.cumsum() / kept.sum()
    return float(np.abs(running[:-1] - uniform(seed, place) / 2**53).min(initial=1.0))
