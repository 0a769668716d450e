"""The option `grammar` of a model on a server: sent as the dialect takes it, and looked at when the answer is there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_bundle import judge_bundle
from recorded_server import RUBRIC, RecordedServer, serving, whole
from rubricrm import Bundle, RubricModel
from rubricrm.errors import OptionInvalid, ServerRefused
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.held_text import line_out_of_grammar
from rubricrm.generation.result import TextResult
from rubricrm.judge.judge_model import JudgeModel
from rubricrm.remote.dialects import DIALECTS
from rubricrm.rubric.criterion import UNCONSTRAINED
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE

pytest.importorskip("openai")
pytest.importorskip("outlines_core")

REQUEST = "Write a haiku."
COLORS = "(red|green\nblue|caf\u00e9)!?"
Serve = Callable[..., RecordedServer]
Connect = Callable[..., RubricModel]


@lru_cache
def opened() -> tuple[Tokenizer, Grammar]:
    tokenizer = Tokenizer.from_file(DEMO_BUNDLE / "tokenizer.json")
    return tokenizer, Grammar.compile(COLORS, tokenizer, Bundle.open(DEMO_BUNDLE).manifest.prompt.stop_ids)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return opened()[0]


@pytest.fixture
def colors() -> Grammar:
    return opened()[1]


@pytest.fixture
def serve(tokenizer: Tokenizer) -> Iterator[Serve]:
    with ExitStack() as servers:

        def start(kind: str = "vllm", text: str = "red", reason: str = "stop", **facts: Any) -> RecordedServer:
            told = RecordedServer(kind, _with_control(tokenizer), **facts)
            told.write = lambda body: whole(body, text, reason)
            return servers.enter_context(serving(told))

        yield start


def _with_control(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return lambda text: tokenizer.encode_segments(tokenizer.split_control(text))


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as models:

        def start(server: RecordedServer, **options: Any) -> RubricModel:
            return models.enter_context(RubricModel.connect(server.url, prompt=DEMO_BUNDLE, **options))

        yield start


# ---- what is sent ----


@pytest.mark.parametrize("kind", [name for name, row in DIALECTS.items() if row.grammar_form == "regex"])
def test_each_dialect_gets_the_expression_where_it_looks_for_it(
    serve: Serve, connect: Connect, colors: Grammar, kind: str
) -> None:
    server = serve(kind)
    model = connect(server)
    num_trials = len(server.bodies)
    result = model.generate_text(REQUEST, grammar=colors)
    assert (result.text, result.unconstrained, result.finish_reason) == ("red", False, "stop")
    assert server.grammar(server.bodies[-1]) == colors.pattern == COLORS
    assert len(server.bodies) == num_trials + 1  # the form of rubrics was tried out already
    assert TextResult.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("llama.cpp", "a server of the dialect llama.cpp takes GBNF and no regular expression"),
        ("openai", "a server of the dialect openai takes no grammar"),
    ],
)
def test_a_dialect_without_expressions_refuses_before_it_is_asked(
    serve: Serve, connect: Connect, colors: Grammar, kind: str, said: str
) -> None:
    server = serve(kind)
    model = connect(server, dialect=kind)
    num_trials = len(server.bodies)
    with pytest.raises(OptionInvalid, match=f"grammar: {said}"):
        model.generate_text(REQUEST, grammar=colors)
    assert len(server.bodies) == num_trials


def test_a_grammar_without_its_expression_or_of_another_tokenizer_is_refused(
    serve: Serve, connect: Connect, colors: Grammar, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    model = connect(serve())
    colors.save(tmp_path / "grammar.npz")
    stop_ids = Bundle.open(DEMO_BUNDLE).manifest.prompt.stop_ids
    loaded = Grammar.load(tmp_path / "grammar.npz", tokenizer.num_tokens, stop_ids)
    other = Grammar(colors.tables, colors.pattern)
    other.num_tokens += 1
    for grammar in (loaded, other):
        with pytest.raises(OptionInvalid, match=r"this model's compile_grammar\(pattern\)"):
            model.generate_text(REQUEST, grammar=grammar)


def test_a_server_is_tried_out_before_the_first_grammar(serve: Serve, connect: Connect, colors: Grammar) -> None:
    server = serve()
    model = connect(server, constrain=False)
    assert server.grammar(server.bodies[-1]) is None
    for _ in range(2):
        assert model.generate_text(REQUEST, grammar=colors).text == "red"
    assert ["Held: " in (server.grammar(body) or "") for body in server.bodies] == [False, True, False, False]
    server = serve(holds=False)
    model = connect(server, constrain=False)
    with pytest.raises(ServerRefused, match="dropped the grammar without a word.*or leave the option out"):
        model.generate_text(REQUEST, grammar=colors)
    assert model.generate_text(REQUEST).text == "red"


def test_a_judge_on_a_server_is_held_to_a_grammar(serve: Serve, tmp_path: Path) -> None:
    server = serve(text="Winner: Response B")
    with JudgeModel.connect(server.url, prompt=judge_bundle(tmp_path / "judge")) as judge:
        grammar = judge.compile_grammar("Winner: Response [AB]")
        assert judge.judge(REQUEST, RUBRIC, "x", "y", grammar=grammar).judgment.winner == "B"
    assert server.grammar(server.bodies[-1]) == "Winner: Response [AB]"


# ---- what comes back ----


@pytest.mark.parametrize(
    ("text", "reason", "options", "expected"),
    [
        ("green\nblue", "stop", {}, False),
        ("caf\u00e9!", "stop", {}, False),
        ("yellow", "stop", {}, True),
        ("green", "stop", {}, True),  # it ends too early
        ("green", "length", {}, False),  # it was cut
        ("caf\ufffd", "length", {}, False),  # in the middle of a character
        ("gray", "length", {}, True),
        ("green\nblue", "stop", {"stop": ["\n"]}, False),
    ],
)
def test_a_text_out_of_the_grammar_says_so(
    serve: Serve, connect: Connect, colors: Grammar, text: str, reason: str, options: dict[str, Any], expected: bool
) -> None:
    model = connect(serve(text=text, reason=reason))
    result = model.generate_text(REQUEST, grammar=colors, **options)
    assert result.unconstrained is expected
    assert text.startswith(result.text)


def test_a_rubric_out_of_the_grammar_has_an_issue_with_its_line(serve: Serve, connect: Connect) -> None:
    model = connect(serve(text=RUBRIC))
    first = r"1\. The response is short\. \[Hard Rule\]\n"
    own = model.compile_grammar(first + r"2\. The response is (loud|quiet)\. \[Principle\]\n")
    (issue,) = (issue for issue in model.generate(REQUEST, grammar=own).rubric.issues if issue.code == UNCONSTRAINED)
    assert issue.line == 2
    assert "the option grammar" in issue.message
    lists = model.compile_grammar(r"([0-9]\. [^\n]+\n)+")
    assert not model.generate(REQUEST, grammar=lists).rubric.issues
    # The form of rubrics does not hold where another grammar does.
    server = serve(text="- be kind\n")
    issues = connect(server).generate(REQUEST, grammar=model.compile_grammar("- [a-z ]+\n")).rubric.issues
    assert UNCONSTRAINED not in {issue.code for issue in issues}


@given(text=st.text(alphabet="redgnblu\ncaf\u00e9e\u0301!", max_size=12), is_cut=st.booleans())
def test_the_check_agrees_with_the_expression(text: str, is_cut: bool) -> None:
    tokenizer, grammar = opened()
    allowed = ("red", "green\nblue", "caf\u00e9", "red!", "green\nblue!", "caf\u00e9!")
    is_in = any(whole_text.startswith(text) for whole_text in allowed) if is_cut else text in allowed
    assert (line_out_of_grammar(text, grammar, tokenizer, is_cut=is_cut) is None) is is_in


def test_a_text_that_no_tokens_spell_is_out_of_every_grammar(tokenizer: Tokenizer, colors: Grammar) -> None:
    assert line_out_of_grammar("\ud800", colors, tokenizer, is_cut=True) == 1
