"""Which tokens may follow: against a byte-level reference, within any budget, and from damaged files."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from form_reference import Reference
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import BundleInvalid, DependencyMissing, GrammarUnusable, RequestInvalid
from rubricrm.generation import grammar_compiler
from rubricrm.generation.constraint import Constraint
from rubricrm.generation.grammar import END, REFUSED, Grammar, GrammarTables
from rubricrm.generation.options import GenerationOptions
from rubricrm.rubric import form
from rubricrm.rubric.rubric import parse
from rubricrm.rubric.thought import closing_mark, until_closing
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models/demo/checkpoint/tokenizer.json"
QWEN3 = ROOT.parent / "shared" / "qwen3-tokenizer" / "tokenizer.json"
QWEN3_STOPS, DEMO_STOPS = (151645, 151643), (2043, 2045)
NAMES = ("demo", "qwen3")
NUM_STREAMS = 5000  # of each of two tokenizers


class Vocabulary:
    """A tokenizer whose grammar was compiled."""

    def __init__(self, path: Path, stop_ids: tuple[int, ...]) -> None:
        self.tokenizer = Tokenizer.from_file(path)
        self.stop_ids = stop_ids
        self.spellings = self.tokenizer.spellings()
        self.grammar = Grammar.compile(form.regex(), self.tokenizer, stop_ids)

    def walk(self, text: str) -> list[int]:
        """The states before each token of a text, and after the last."""
        states = [self.grammar.start]
        for token_id in self.tokenizer.encode(text):
            states.append(self.grammar.next(states[-1], token_id))
        return states


@lru_cache
def vocabulary(name: str) -> Vocabulary:
    if name == "qwen3" and not QWEN3.exists():
        pytest.skip(f"needs {QWEN3}")
    return Vocabulary(DEMO, DEMO_STOPS) if name == "demo" else Vocabulary(QWEN3, QWEN3_STOPS)


@lru_cache
def reference() -> Reference:
    return Reference(form._rubric(form.MAX_ITEMS))


RUBRIC = (
    "1. The response must rhyme. [Hard Rule]\n2. The response's tone is warm. [Principle]\n"
    "3. The response is short. [Principle]"
)


# ---- what may follow ----


def some_token(rng: Random, words: Vocabulary, state: int) -> int:
    """A token of any kind, one that may follow, or one on the shortest way to the end."""
    grammar, draw = words.grammar, rng.random()
    if draw < 0.2:
        return rng.randrange(grammar.num_tokens)
    left = grammar.shortest(state) if draw < 0.7 else grammar.num_tokens
    return one_of(rng, np.flatnonzero(grammar.allowed(state, left)))


def one_of(rng: Random, token_ids: np.ndarray) -> int:
    """One of an array, which may be long: a list of it would take longer to make than all else here."""
    return int(token_ids[rng.randrange(len(token_ids))])


@pytest.mark.parametrize("name", NAMES)
def test_random_streams_of_tokens_against_a_reference_of_bytes(name: str) -> None:
    words, expected = vocabulary(name), reference()
    grammar, added = words.grammar, set(words.tokenizer.added_tokens.values())
    rng = Random(5)
    num_refused = num_ended = 0
    for _ in range(NUM_STREAMS):
        state, read = grammar.start, (expected.start, b"")
        for token_id in words.tokenizer.encode(RUBRIC)[: rng.randrange(40)]:
            state, read = grammar.next(state, token_id), expected.read(*read, words.spellings[token_id])  # type: ignore[assignment]
        for _ in range(12):
            token_id = some_token(rng, words, state)
            following = grammar.next(state, token_id)
            if token_id in words.stop_ids:
                assert (following == END) == (expected.accepts(read[0]) and not read[1])
            elif token_id in added or not words.spellings[token_id]:
                assert following == REFUSED
            else:
                more = expected.read(*read, words.spellings[token_id])
                assert (following != REFUSED) == (more is not None), words.spellings[token_id]
                read = more or read
            assert grammar.is_allowed(state, token_id, 10**6) == (following != REFUSED)
            num_refused += following == REFUSED
            if following == END:
                num_ended += 1
                break
            state = following if following != REFUSED else state
    assert num_refused > NUM_STREAMS // 2
    assert num_ended > NUM_STREAMS // 100


@pytest.mark.parametrize("name", NAMES)
def test_the_published_form_is_walked_as_the_tokenizer_spells_it(name: str) -> None:
    words = vocabulary(name)
    states = words.walk(RUBRIC)
    assert REFUSED not in states
    for stop_id in words.stop_ids:
        assert words.grammar.next(states[-1], stop_id) == END
        assert words.grammar.next(states[-2], stop_id) == REFUSED
        assert words.grammar.next(words.grammar.start, stop_id) == REFUSED
    assert not words.grammar.allowed(END, 100).any()


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_what_the_look_at_one_token_says(name: str) -> None:
    words, rng = vocabulary(name), Random(1)
    grammar = words.grammar
    for state in (*words.walk(RUBRIC)[::3], *(rng.randrange(grammar.num_states) for _ in range(20))):
        for left in (0, grammar.shortest(state) - 1, grammar.shortest(state), grammar.shortest(state) + 1, 1000):
            mask = grammar.allowed(state, left)
            assert mask.shape == (grammar.num_tokens,)
            assert mask.any() == (state != END and left >= grammar.shortest(state))
            chosen = [rng.randrange(grammar.num_tokens) for _ in range(50)] + np.flatnonzero(mask)[:50].tolist()
            assert [bool(mask[i]) for i in chosen] == [grammar.is_allowed(state, i, left) for i in chosen]
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = True


@pytest.mark.parametrize("name", NAMES)
def test_what_must_follow(name: str) -> None:
    words = vocabulary(name)
    grammar, encode = words.grammar, words.tokenizer.encode
    assert grammar.forced(grammar.start, 10) == encode("1. The response")
    assert grammar.forced(grammar.start, 2) == encode("1. The response")[:2]
    assert grammar.forced(grammar.start, 0) == []
    line = "1. The response must rhyme. [Hard Rule]\n"
    after_line = words.walk(line)[-1]
    assert grammar.forced(after_line, 10) == []  # it may end here
    assert grammar.forced(after_line, 10, past_ends=True) == encode("2. The response")
    assert grammar.forced(words.walk("1. The response")[-1], 10) == []
    assert words.tokenizer.decode(grammar.forced(words.walk("1. The response must rhyme. [Hard")[-1], 10)) == " Rule"
    assert grammar.forced(END, 10, past_ends=True) == []


@pytest.mark.parametrize("name", NAMES)
def test_what_must_follow_is_what_the_tokenizer_makes_of_a_rubric(name: str) -> None:
    words = vocabulary(name)
    ids, states = words.tokenizer.encode(RUBRIC), words.walk(RUBRIC)
    num_forced = 0
    for at, state in enumerate(states[:-1]):
        forced = words.grammar.forced(state, 20, past_ends=True)
        assert forced == ids[at : at + len(forced)]
        num_forced += bool(forced)
    assert num_forced >= 9


def test_only_what_must_follow_is_allowed_where_something_must() -> None:
    words = vocabulary("demo")
    grammar = words.grammar
    for state in range(1, grammar.num_states):
        forced = b"".join(words.spellings[i] for i in grammar.forced(state, 20))
        if forced:
            spelled = [words.spellings[i] for i in np.flatnonzero(grammar.allowed(state, 10**6))]
            assert all(s.startswith(forced) or forced.startswith(s) for s in spelled)


# ---- whole texts within any budget ----


def generate(words: Vocabulary, rng: Random, budget: int, homesick: float) -> tuple[list[int], bool]:
    """Tokens at random under the mask, on the shortest way now and then; whether a stop id ended them."""
    grammar, state, ids = words.grammar, words.grammar.start, []
    while len(ids) < budget:
        left = budget - len(ids)
        is_homing = grammar.shortest(state) > 1 and rng.random() < homesick
        mask = grammar.allowed(state, grammar.shortest(state) if is_homing else left)
        choice = np.flatnonzero(mask)
        if rng.random() < homesick:  # then it goes on where it may
            goes_on = choice[~np.isin(choice, words.stop_ids)]
            choice = goes_on if len(goes_on) else choice
        token_id = one_of(rng, choice)
        state = grammar.next(state, token_id)
        if state == END:
            return ids, True
        ids.append(token_id)
    return ids, False


def assert_whole(words: Vocabulary, ids: list[int]) -> int:
    text = b"".join(words.spellings[i] for i in ids).decode()
    assert words.tokenizer.decode(ids) == text
    rubric = parse(text, strict=True)
    assert [issue.code for issue in rubric.issues if issue.code != "repetition"] == []
    return len(rubric.criteria)


@pytest.mark.parametrize("name", NAMES)
def test_random_generations_parse_with_no_issue(name: str) -> None:
    words, rng = vocabulary(name), Random(2)
    counts = []
    for _ in range(250):
        ids, is_ended = generate(words, rng, rng.randrange(words.grammar.shortest(1), 300), rng.choice((0.0, 0.7, 0.9)))
        assert is_ended
        counts.append(assert_whole(words, ids))
    assert min(counts) == 1
    assert max(counts) >= 5


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 60), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(NAMES))
def test_a_budget_never_cuts_an_item(rng: Random, spare: int, homesick: float, name: str) -> None:
    words = vocabulary(name if QWEN3.exists() else "demo")
    budget = words.grammar.shortest(words.grammar.start) + spare
    ids, is_ended = generate(words, rng, budget, homesick)
    assert is_ended
    assert len(ids) < budget
    assert_whole(words, ids)


def test_no_more_items_than_the_form_has() -> None:
    tokenizer = vocabulary("demo").tokenizer
    grammar = Grammar.compile(form.regex(2), tokenizer, DEMO_STOPS)
    state = grammar.start
    for token_id in tokenizer.encode("1. The response a. [Principle]\n2. The response b. [Principle]\n"):
        state = grammar.next(state, token_id)
    assert np.flatnonzero(grammar.allowed(state, 100)).tolist() == sorted(DEMO_STOPS)


# ---- compiling ----


def language(grammar: Grammar, tokenizer: Tokenizer, texts: Iterator[str] | list[str]) -> list[str]:
    """The texts that a grammar takes as whole ones."""
    taken = []
    for text in texts:
        state = grammar.start
        for token_id in (*tokenizer.encode(text), DEMO_STOPS[0]):
            state = grammar.next(state, token_id) if state != REFUSED else REFUSED
        taken += [text] if state == END else []
    return taken


@pytest.mark.parametrize(
    ("pattern", "whole", "others"),
    [
        ("yes|no|yes please", ["yes", "no", "yes please"], ["", "ye", "yes ", "yes please!"]),
        ("a(bc)?", ["a", "abc"], ["ab", "abcbc", ""]),
        ("a|ac|acxb", ["a", "ac", "acxb"], ["acx"]),
        (r"[^\n]{2}", ["é!", "ab"], ["a", "a\n", "abc"]),
        (r"(?:ab)*", ["", "ab", "abab"], ["a", "aba"]),
        (r"\d+\.\d", ["3.5", "10.0"], ["3.", ".5", "3.55"]),
    ],
)
def test_a_grammar_of_ones_own(pattern: str, whole: list[str], others: list[str]) -> None:
    tokenizer = vocabulary("demo").tokenizer
    grammar = Grammar.compile(pattern, tokenizer, DEMO_STOPS)
    assert language(grammar, tokenizer, whole + others) == whole


@pytest.mark.parametrize("pattern", ["(", r"(?=a)b", r"(a)\1"])
def test_what_is_no_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(GrammarUnusable, match="GRAMMAR_UNUSABLE: the grammar .* cannot be compiled"):
        Grammar.compile(pattern, vocabulary("demo").tokenizer, DEMO_STOPS)


def test_a_grammar_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = vocabulary("demo").tokenizer
    monkeypatch.setattr(grammar_compiler, "MOST_STATES", 300)  # the true one takes 8 seconds to pass
    with pytest.raises(GrammarUnusable, match="has 402 states, at most 300 are possible"):
        Grammar.compile("\u00e9{200}", tokenizer, DEMO_STOPS)


class FewTokens:
    """A tokenizer of given tokens; the last is the stop id."""

    def __init__(self, *tokens: bytes) -> None:
        self.tokens = (*tokens, b"</s>")
        self.num_tokens = len(self.tokens)
        self.added_tokens = {"</s>": len(tokens)}

    def spellings(self) -> list[bytes]:
        return list(self.tokens)

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id]

    def encode(self, text: str) -> list[int]:
        spelled = [character.encode() for character in text]
        if lacking := set(spelled) - set(self.tokens):
            raise RequestInvalid(f"no token for {lacking}")
        return list(map(self.tokens.index, spelled))


def test_a_way_that_no_token_ends_is_not_taken() -> None:
    tokenizer: Any = FewTokens(b"a", b"b", b"ax")
    grammar = Grammar.compile("ab|axy|bz?", tokenizer, (3,))
    state = grammar.start
    assert np.flatnonzero(grammar.allowed(state, 9)).tolist() == [0, 1]  # no y: "ax" would lead nowhere
    assert [grammar.shortest(state), grammar.shortest(grammar.next(state, 0))] == [2, 2]
    assert np.flatnonzero(grammar.allowed(state, 2)).tolist() == [1]
    assert grammar.num_states == 5  # the end, the start, after "a", "b" and "ab"


def test_a_tokenizer_without_a_way_to_the_end_is_refused() -> None:
    tokenizer: Any = FewTokens(b"a", b"b")
    with pytest.raises(GrammarUnusable, match="no tokens of this tokenizer spell a whole text"):
        Grammar.compile("abc", tokenizer, (2,))


def test_the_library_is_needed_to_compile_alone(block: Callable[[str], str]) -> None:
    code = f"""{block("outlines_core")}
from pathlib import Path
from rubricrm.errors import DependencyMissing
from rubricrm.generation.grammar import Grammar
from rubricrm.runtime.tokenizer import Tokenizer
try:
    Grammar.compile("a", Tokenizer.from_file(Path({str(DEMO)!r})), (2047,))
except DependencyMissing as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'rubricrm[grammar]'" in ran.stdout
    assert issubclass(DependencyMissing, Exception)


@pytest.mark.parametrize("mark", ["</think>", "[/THINK]"])
def test_before_a_thought_ends_anything_may_come(mark: str) -> None:
    tokenizer = vocabulary("demo").tokenizer
    added = [i for token, i in tokenizer.added_tokens.items() if token == mark]
    pattern = until_closing(mark) + form.regex(2)
    grammar = grammar_compiler.compile_grammar(pattern, tokenizer, DEMO_STOPS, added)
    rubric = "1. The response rhymes. [Hard Rule]"
    texts = [f"{thought}{mark}{gap}{rubric}" for thought in ("", "\n<think>1. No. [x</thin") for gap in ("", "\n\n")]
    wrong = [rubric, f"hm{mark}", f"hm{mark}Sure. {rubric}", f"hm{mark}{mark}{rubric}"]
    assert language(grammar, tokenizer, texts + wrong) == texts
    assert grammar.next(grammar.start, DEMO_STOPS[0]) == REFUSED
    assert [grammar.next(grammar.start, token_id) != REFUSED for token_id in added] == [True] * len(added)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("◁think▷", "◁/think▷"),
        ("<think>\n\n</think>\n", None),
        ("<|channel|>analysis", None),
        ('<thinking lang="en">', None),
        ("", None),
    ],
)
def test_the_mark_that_closes_a_thought(text: str, mark: str | None) -> None:
    assert closing_mark(text) == mark


# ---- files ----


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    vocabulary("demo").grammar.save(tmp_path / "grammar.npz")
    return tmp_path / "grammar.npz"


def load(path: Path) -> Grammar:
    return Grammar.load(path, vocabulary("demo").tokenizer.num_tokens, DEMO_STOPS)


def assert_same(one: Grammar, other: Grammar) -> None:
    for name in GrammarTables.__dataclass_fields__:
        assert np.array_equal(getattr(one.tables, name), getattr(other.tables, name))


def test_a_file_gives_the_same_grammar(saved: Path) -> None:
    assert_same(load(saved), vocabulary("demo").grammar)


def test_the_same_bytes_in_every_process(saved: Path) -> None:
    code = f"""
import sys; from pathlib import Path
from rubricrm.generation.grammar import Grammar; from rubricrm.rubric.form import regex
from rubricrm.runtime.tokenizer import Tokenizer
Grammar.compile(regex(), Tokenizer.from_file(Path({str(DEMO)!r})), {DEMO_STOPS}).save(Path(sys.argv[1]))
"""
    for seed in ("1", "2"):
        other = saved.with_name(f"{seed}.npz")
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(other)], check=True, env=environment)
        assert other.read_bytes() == saved.read_bytes()


def change(**arrays: Any) -> Callable[[dict[str, Any]], None]:
    return lambda stored: stored.update(arrays)


def edit(name: str, index: Any, value: int) -> Callable[[dict[str, Any]], None]:
    def change_one(stored: dict[str, Any]) -> None:
        stored[name] = stored[name].copy()
        stored[name][index] = value

    return change_one


def lead_nowhere(stored: dict[str, Any]) -> None:
    """No token follows anywhere, and the end is as far away as 16 bits can say."""
    for name, value in (("steps", -(1 << 15)), ("shortest", (1 << 15) - 1), ("forced", -1)):
        stored[name] = np.full_like(stored[name], value)
    stored["shortest"][END] = 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda stored: stored.pop("row"), "lacks the array row"),
        (
            lambda stored: stored.update(row=stored["row"].astype(np.int64)),
            "row is int64 of 1 dimensions, expected uint16",
        ),
        (lambda stored: stored.update(steps=stored["steps"].ravel()), "steps is int16 of 1 dimensions"),
        (change(row=np.array([object()])), "cannot be read"),
        (
            lambda stored: stored.update(token_class=stored["token_class"][:-1]),
            "is for 2047 tokens, the tokenizer has 2048",
        ),
        (lambda stored: stored.update(forced=stored["forced"][:-1]), "forced tokens"),
        (
            change(row=np.zeros(0, np.uint16), shortest=np.zeros(0, np.uint16), forced=np.zeros(0, np.int32)),
            "has 0 rows",
        ),
        (edit("token_class", 9, 60000), "names a class or a row"),
        (edit("row", 5, 60000), "names a class or a row"),
        (edit("token_class", 9, 1), "ends a text at other tokens"),
        (edit("steps", (3, 0), 0), "leads on where nothing can follow"),
        (edit("row", 0, 3), "leads on where nothing can follow"),
        (edit("steps", (1, slice(2, None)), 32000), "leads to a state"),
        (edit("shortest", 4, 1), "states shortest ways"),
        (edit("shortest", 0, 1), "states shortest ways"),
        (lambda stored: lead_nowhere(stored), "states shortest ways"),
        (edit("forced", 1, 2048), "forces a token that does not exist"),
        (edit("forced", 1, -2), "forces a token that does not exist"),
        (edit("forced", 1, 300), "forces a token that cannot follow"),
    ],
)
def test_a_damaged_file_is_refused(saved: Path, damage: Callable[[dict[str, Any]], None], message: str) -> None:
    with np.load(saved) as file:
        stored = dict(file)
    damage(stored)
    np.savez(saved, **stored)
    with pytest.raises(
        BundleInvalid, match=f"BUNDLE_INVALID: .*grammar.npz: .*{message}.* Copy or export the bundle again"
    ):
        load(saved)


def test_another_tokenizer_or_other_stop_ids_are_refused(saved: Path) -> None:
    with pytest.raises(BundleInvalid, match="is for 2048 tokens, the tokenizer has 151669"):
        Grammar.load(saved, 151669, QWEN3_STOPS)
    with pytest.raises(BundleInvalid, match=r"ends a text at other tokens than the stop ids \[2\]"):
        Grammar.load(saved, 2048, (2,))


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    for contents in (None, b"", b"PK", b"\x93NUMPY", b"not a zip"):
        if contents is not None:
            (tmp_path / "grammar.npz").write_bytes(contents)
        with pytest.raises(BundleInvalid, match="cannot be read"):
            load(tmp_path / "grammar.npz")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_bytes_are_refused_or_change_nothing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    contents = bytearray(whole_file())
    if data.draw(st.booleans()):
        del contents[data.draw(st.integers(0, len(contents) - 1)) :]
    else:
        ends = st.integers(0, 300) | st.integers(len(contents) - 700, len(contents) - 1)
        at = data.draw(ends | st.integers(0, len(contents) - 1))
        contents[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    path.write_bytes(contents)
    try:
        grammar = load(path)
    except BundleInvalid:
        return
    assert_same(grammar, vocabulary("demo").grammar)


@lru_cache
def whole_file() -> bytes:
    contents = io.BytesIO()
    tables = vocabulary("demo").grammar.tables
    np.savez(contents, **{name: getattr(tables, name) for name in GrammarTables.__dataclass_fields__})
    return contents.getvalue()


# ---- cost ----


@pytest.mark.parametrize("name", NAMES)
def test_what_it_costs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, rng = vocabulary(name), Random(3)
    grammar, lines = words.grammar, []
    ids, states = words.tokenizer.encode(RUBRIC), words.walk(RUBRIC)

    def timed(what: str, call: Callable[[], object], times: int) -> None:
        start = time.perf_counter()
        call()
        lines.append(f"{what}: {(time.perf_counter() - start) / times * 1e6:.2f} us")

    timed("next", lambda: [grammar.next(s, i) for s, i in zip(states, ids, strict=False)], len(ids))
    timed("is_allowed", lambda: [grammar.is_allowed(s, i, 99) for s, i in zip(states, ids, strict=False)], len(ids))
    timed("allowed, masks seen for the first time", lambda: [grammar.allowed(s, 9) for s in states], len(states))
    timed("allowed", lambda: [grammar.allowed(s, 9) for s in states], len(states))
    far = [rng.randrange(1, grammar.num_states) for _ in range(500)]
    timed("allowed, any state", lambda: [grammar.allowed(s, 99) for s in far], len(far))
    logits = np.random.default_rng(0).standard_normal(grammar.num_tokens, dtype=np.float32)
    for way, options in (("greedy", GenerationOptions()), ("sampled", GenerationOptions(temperature=1.0, top_p=0.95))):

        def revise(options: GenerationOptions = options) -> None:
            for state in states:
                constraint = Constraint(grammar)
                constraint.state = state
                constraint.revise(words.stop_ids[1], logits, options, seed=1, index=0, tokens_left=99)

        timed(f"an overruled token, {way}", revise, len(states))
    timed("compile", lambda: Grammar.compile(form.regex(), words.tokenizer, words.stop_ids), 1)
    grammar.save(tmp_path / "grammar.npz")
    num_tokens = grammar.num_tokens
    timed("load", lambda: Grammar.load(tmp_path / "grammar.npz", num_tokens, words.stop_ids), 1)
    size = (tmp_path / "grammar.npz").stat().st_size
    with capsys.disabled():
        print(f"\n{name}: {grammar.num_states} states, {grammar.tables.steps.shape} rows and classes, {size} bytes")
        print("; ".join(lines))
