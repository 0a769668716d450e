"""A grammar's hold on a sequence: free choices that stay, and those that are overruled."""

import numpy as np
import pytest
from rubricrm import RubricModel
from rubricrm.generation.completion import Completion
from rubricrm.generation.constraint import Constraint, Overrules, _only, constrain
from rubricrm.generation.decision import decide
from rubricrm.generation.grammar import END
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import choose
from rubricrm.generation.sequence import Sequence
from rubricrm.rubric.rubric import parse

GREEDY = GenerationOptions()


@pytest.fixture(scope="module")
def demo() -> RubricModel:
    return RubricModel.demo(threads=1)


def test_a_text_of_ones_own_form(demo: RubricModel) -> None:
    grammar = demo.compile_grammar("Yes|No")
    texts = {demo.generate_text(f"Is {n} a number?", grammar=grammar).text for n in range(5)}
    assert texts <= {"Yes", "No"}


def test_an_allowed_choice_stays_and_a_refused_one_is_counted(demo: RubricModel) -> None:
    grammar = demo.compile_grammar("Yes|No")
    encode = demo._prompt.tokenizer.encode
    logits = np.zeros(demo.bundle.manifest.tokenizer.num_tokens, np.float32)
    (refused,), allowed = encode("1"), encode("Yes")[0]
    logits[refused], logits[allowed] = 9, 8
    constraint = Constraint(grammar)
    assert constraint.revise(allowed, logits, GREEDY, seed=0, index=0, tokens_left=9) == allowed
    assert constraint.overrules == Overrules()
    constraint = Constraint(grammar)
    assert constraint.revise(refused, logits, GREEDY, seed=0, index=0, tokens_left=9) == allowed
    assert constraint.overrules.count == 1
    weights = np.exp(logits.astype(np.float64))
    mask = grammar.allowed(grammar.start, 9)
    assert constraint.overrules.probability == pytest.approx(1 - weights[mask].sum() / weights.sum())


@pytest.mark.parametrize("density", [0.001, 0.5, 1.0])
def test_what_is_refused_has_no_chance_and_what_is_allowed_its_own(density: float) -> None:
    numbers = np.random.default_rng(0)
    logits, mask = numbers.normal(scale=1e4, size=1000).astype(np.float32), numbers.random(1000) < density
    np.testing.assert_array_equal(_only(mask, logits), np.where(mask, logits, np.float32(-np.inf)))


def test_sampling_has_the_distribution_over_what_is_allowed(demo: RubricModel) -> None:
    grammar = demo.compile_grammar("Yes|No")
    mask = grammar.allowed(grammar.start, 9)
    logits = np.zeros(len(mask), np.float32)
    ids = np.flatnonzero(mask)
    logits[ids] = np.log(np.arange(1, len(ids) + 1)) + 6
    options = GenerationOptions(temperature=1.0)
    counts = np.zeros(len(mask))
    for seed in range(4000):
        token_id = choose(logits, options, seed, 0)
        counts[Constraint(grammar).revise(token_id, logits, options, seed=seed, index=0, tokens_left=9)] += 1
    expected = np.arange(1, len(ids) + 1) / np.arange(1, len(ids) + 1).sum()
    assert counts[~mask].sum() == 0
    np.testing.assert_allclose(counts[ids] / 4000, expected, atol=0.04)


def test_a_budget_below_the_shortest_text_is_no_constraint(demo: RubricModel) -> None:
    grammar = demo._backend.engine._grammar
    assert grammar is not None
    least = grammar.shortest(grammar.start)
    assert constrain(grammar, least - 1) is None
    assert constrain(grammar, least) is not None
    assert constrain(None, 100) is None


@pytest.mark.parametrize("more", [0, 1, 7, 40])
def test_a_rubric_is_whole_whatever_the_budget(demo: RubricModel, more: int) -> None:
    grammar = demo._backend.engine._grammar
    assert grammar is not None
    result = demo.generate(
        "Write a haiku.", max_new_tokens=grammar.shortest(grammar.start) + more, temperature=2.0, seed=more
    )
    assert result.finish_reason == "stop"
    assert result.rubric.issues == ()
    assert result.rubric.criteria


def test_the_form_can_be_left_off_and_is_not_for_texts(demo: RubricModel) -> None:
    assert demo.generate("Write a haiku.", max_new_tokens=12, constrain=False).grammar_overrules is None
    assert demo.generate("Write a haiku.", max_new_tokens=60).grammar_overrules is not None
    sequence = demo.stream_text("Write a haiku.", max_new_tokens=12)._generation
    sequence.wait()
    assert sequence.constraint is None


def test_after_the_end_nothing_follows(demo: RubricModel) -> None:
    grammar = demo.compile_grammar("Yes|No")
    constraint = Constraint(grammar)
    stop = demo.bundle.manifest.prompt.stop_ids[0]
    logits = np.zeros(demo.bundle.manifest.tokenizer.num_tokens, np.float32)
    for index, token_id in enumerate([*demo._prompt.tokenizer.encode("No"), stop]):
        assert constraint.revise(token_id, logits, GREEDY, seed=0, index=index, tokens_left=9 - index) == token_id
    assert constraint.state == END


@pytest.mark.parametrize("drafted", [0, 3])
def test_a_rubric_that_goes_in_circles_is_brought_to_a_whole_end(demo: RubricModel, drafted: int) -> None:
    grammar, tokenizer = demo._backend.engine._grammar, demo._prompt.tokenizer
    assert grammar is not None
    (word,) = tokenizer.encode(" the")
    logits = np.zeros((1 + drafted, demo.bundle.manifest.model.vocab_size), np.float32)
    logits[:, word] = 9
    sequence = Sequence([1], GREEDY, 1000, completion=Completion(tokenizer, GREEDY), constraint=Constraint(grammar))
    facts = demo.bundle.manifest
    while not sequence.is_finished:
        decide(sequence, logits, [word] * drafted, facts.tokenizer.num_tokens, facts.prompt.stop_ids)
    text = "".join(sequence.pieces)
    assert sequence.finish_reason == "repetition"
    assert 90 < text.count(" the") < 110
    assert len(parse(text, strict=True).criteria) == 1
