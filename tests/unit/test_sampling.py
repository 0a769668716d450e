"""Sampling, against slow references: another language must be able to repeat every choice."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm.generation import sampling
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import choose, logprobs, uniform, weights

Row = NDArray[np.float32]

# The first outputs for this seed in the reference implementation, as published with the generator's ports.
PUBLISHED_SEED = 1234567
PUBLISHED = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)


def split_mix_64(seed: int, num_outputs: int) -> list[int]:
    """SplitMix64 step by step, as its authors' C code does it."""
    mask = 0xFFFFFFFFFFFFFFFF
    state, outputs = seed & mask, []
    for _ in range(num_outputs):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        outputs.append(z ^ (z >> 31))
    return outputs


def row(*logits: float) -> Row:
    return np.array(logits, np.float32)


# ---- uniform numbers ----


def test_the_reference_of_these_tests_gives_the_published_numbers() -> None:
    assert split_mix_64(PUBLISHED_SEED, 5) == list(PUBLISHED)


@pytest.mark.parametrize("seed", [PUBLISHED_SEED, 0, 1, 2**63, 2**64 - 1])
def test_uniform_numbers_are_the_upper_bits_of_split_mix_64(seed: int) -> None:
    expected = [output >> 11 for output in split_mix_64(seed, 50)]
    assert [uniform(seed, index) for index in range(50)] == expected


def test_golden_uniform_numbers() -> None:
    assert [uniform(PUBLISHED_SEED, index) for index in range(5)] == [x >> 11 for x in PUBLISHED]
    assert uniform(0, 0) == 0xE220A8397B1DCDAF >> 11


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 100_000))
def test_a_uniform_number_has_53_bits(seed: int, index: int) -> None:
    assert 0 <= uniform(seed, index) < 2**53


# ---- the distribution ----


def probabilities(logits: Row, options: GenerationOptions) -> NDArray[np.float64]:
    """The weights of all tokens, 0 for those that a filter removed, normalized."""
    ids, kept = weights(logits, options)
    assert kept.max() == 2**40
    assert (np.diff(ids) > 0).all()
    spread = np.zeros(len(logits))
    spread[ids] = kept / kept.sum()
    return spread


def reference_probabilities(
    logits: Sequence[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> list[float]:
    """Word for word what the options say, one token after another."""
    highest = max(logits)
    weights = [math.exp((logit - highest) / temperature) for logit in logits]
    kept = {token: weight / math.fsum(weights) for token, weight in enumerate(weights)}
    by_probability = sorted(kept, key=lambda token: (-kept[token], token))
    if top_k:
        by_probability = by_probability[:top_k]
    if top_p < 1:
        whole = math.fsum(kept[token] for token in by_probability)
        held, fewest = 0.0, []
        for token in by_probability:
            assume(abs(held - top_p * whole) > 3e-4)  # there, the rounding of weights decides
            if held >= top_p * whole:
                break
            fewest.append(token)
            held += kept[token]
        by_probability = fewest
    least = min_p * kept[by_probability[0]]
    assume(all(abs(kept[token] / least - 1) > 3e-4 for token in by_probability) if 0 < min_p < 1 else True)
    remaining = {token: kept[token] for token in by_probability if kept[token] >= least}
    total = math.fsum(remaining.values())
    return [remaining.get(token, 0.0) / total for token in range(len(logits))]


@settings(max_examples=500)
@given(
    logits=st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=12),
    temperature=st.sampled_from([0.1, 0.5, 0.7, 1.0, 1.3, 10.0]),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([1e-6, 0.1, 0.5, 0.9, 0.95, 1.0]) | st.floats(0.01, 1),
    min_p=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
)
def test_the_distribution_is_that_of_the_reference(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    expected = reference_probabilities(logits, temperature, top_k, top_p, min_p)
    options = GenerationOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    got = probabilities(row(*logits), options)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2**-39)
    assert (got > 0).tolist() == [value > 0 for value in got_or_too_small(got, expected)]


def got_or_too_small(got: NDArray[np.float64], expected: list[float]) -> list[float]:
    """What is expected, but what was got for tokens whose weight is about 1."""
    return [found if 0 < value < 2**-38 else value for found, value in zip(got.tolist(), expected, strict=True)]


@settings(max_examples=300)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=8),
    temperature=st.floats(0.001, 100),
)
def test_a_weight_is_the_exponential_up_to_its_rounding(logits: list[float], temperature: float) -> None:
    _, kept = weights(row(*logits), GenerationOptions(temperature=temperature))
    for logit, weight in zip(logits, kept.tolist(), strict=True):
        exact = 2**40 * math.exp((logit - max(logits)) / temperature)
        # float32 adds less than two millionths of the exponent, 28.4 where the weight is 1.
        assert abs(weight - exact) <= exact * 1.5e-4 + 1


def exact_weight(steps: int) -> int:
    """2^40 * 2^(-steps / 4096), rounded down: the largest n with n^4096 * 2^steps <= 2^(40 * 4096)."""
    low, high = 0, 2**40
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**4096 << steps <= 1 << 40 * 4096 else (low, middle - 1)
    return low


def test_the_weights_of_a_halving_are_rounded_down() -> None:
    table = sampling._weights_of_steps().tolist()
    assert table[:4097:512] == [exact_weight(steps) for steps in range(0, 4097, 512)]
    assert all(abs(table[steps] - 2 ** (40 - steps / 4096)) < 1.01 for steps in range(len(table)))
    assert table[-1] == 0


def test_logits_to_weights_step_by_step() -> None:
    table = sampling._weights_of_steps().tolist()
    logits = np.random.default_rng(3).normal(0, 9, 1000).astype(np.float32)
    for temperature in (0.001, 0.3, 1.0, 1.7, 100.0):
        scale = np.float32(4096 / (temperature * math.log(2)))
        expected = [
            table[int(np.minimum((logits.max() - logit) * scale, np.float32(41 * 4096 - 1)) + np.float32(0.5))]
            for logit in logits
        ]
        assert weights(logits, GenerationOptions(temperature=temperature))[1].tolist() == expected


def plain_sort(logits: Row, options: GenerationOptions) -> tuple[list[int], list[int]]:
    """What remains and its weights, by one stable sort of the whole vocabulary."""
    kept = weights(logits, GenerationOptions(temperature=options.temperature))[1]
    ids = np.arange(len(kept))
    if options.top_k:
        ids = np.sort(ids[np.argsort(-kept, kind="stable")[: options.top_k]])
    if options.top_p < 1:
        order = ids[np.argsort(-kept[ids], kind="stable")]
        running = kept[order].cumsum()
        before = np.concatenate([[0], running[:-1]])
        enough = math.floor(Fraction(options.top_p) * int(running[-1]))
        ids = np.sort(order[before < max(1, enough)])
    ids = ids[[int(weight) >= Fraction(options.min_p) * 2**40 for weight in kept[ids]]]
    return ids.tolist(), kept[ids].tolist()


def plain_top(logits: Row, num_top: int) -> list[tuple[int, float]]:
    """The most probable tokens, by one stable sort of the whole vocabulary."""
    scores = logits.astype(np.float64) - logits.max().astype(np.float64)
    scores -= np.log(np.exp(scores).sum())
    return [(int(i), float(scores[i])) for i in np.argsort(-logits, kind="stable")[:num_top]]


# Shapes of real and of hostile distributions, from a generator: (random numbers, their number) to logits.
SHAPES: dict[str, Callable[[np.random.Generator, int], Row]] = {
    "peaked": lambda random, n: np.where(random.random(n) < 0.001, 18, random.normal(0, 2.2, n)).astype(np.float32),
    "flat": lambda random, n: random.normal(0, 0.05, n).astype(np.float32),
    "equal": lambda _, n: np.full(n, -3, np.float32),
    "few-values": lambda random, n: random.integers(-3, 4, n).astype(np.float32),
    "two-values": lambda random, n: random.choice(np.array([0, 9], np.float32), n),
    "underflow": lambda random, n: (random.integers(-4, 1, n) * 400).astype(np.float32),
    "far-apart": lambda random, n: random.choice(np.array([1e30, -1e30, 1, 2, 3], np.float32), n),
}
FILTERS = st.builds(
    GenerationOptions,
    temperature=st.sampled_from([0.01, 0.7, 1.0, 1.7, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 7, 50, 999, 10**9]),
    top_p=st.sampled_from([1e-9, 0.3, 0.9, 0.95, 0.999999, math.nextafter(1, 0), 1.0]),
    min_p=st.sampled_from([0.0, 1e-300, 0.02, 0.5, 1.0]),
)


@settings(max_examples=400)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    num_tokens=st.sampled_from([1, 2, 3, 10, 257, 4000]),
    seed=st.integers(0, 2**32),
    options=FILTERS,
    num_top=st.integers(0, 20),
)
def test_nothing_differs_from_a_sort_of_the_whole_vocabulary(
    shape: str, num_tokens: int, seed: int, options: GenerationOptions, num_top: int
) -> None:
    logits = SHAPES[shape](np.random.default_rng(seed), num_tokens)
    ids, kept = weights(logits, options)
    assert (ids.tolist(), kept.tolist()) == plain_sort(logits, options)
    assert list(logprobs(logits, 0, num_top).top) == plain_top(logits, num_top)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_differs_from_a_sort_of_a_vocabulary_of_qwen3s_size(shape: str) -> None:
    logits = SHAPES[shape](np.random.default_rng(1), 151_669)
    for options in (
        GenerationOptions(temperature=1, top_p=0.9),
        GenerationOptions(temperature=0.7, top_k=50, top_p=0.95),
        GenerationOptions(temperature=1, top_k=100_000, min_p=0.1),
        GenerationOptions(temperature=1, top_p=math.nextafter(1, 0)),
    ):
        ids, kept = weights(logits, options)
        assert (ids.tolist(), kept.tolist()) == plain_sort(logits, options)
    assert list(logprobs(logits, 5, 20).top) == plain_top(logits, 20)


def test_the_logits_are_not_changed() -> None:
    logits = row(1, 2, 3)
    probabilities(logits, GenerationOptions(temperature=0.5, top_k=2, top_p=0.5, min_p=0.1))
    choose(logits, GenerationOptions(), 0, 0)
    logprobs(logits, 0, 2)
    assert logits.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 1}, [2]),
        ({"top_k": 2}, [1, 2]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 1e-9}, [2]),
        ({"min_p": 1.0}, [2]),
        ({"top_k": 3, "top_p": 1.0}, [1, 2, 3]),
    ],
    ids=str,
)
def test_each_filter_keeps_the_most_probable(options: dict[str, float], kept: list[int]) -> None:
    # Of the three equal tokens, those with lower ids are kept.
    logits = row(0, 1, 2, 1, 1)
    assert np.flatnonzero(probabilities(logits, GenerationOptions(temperature=1, **options))).tolist() == kept  # type: ignore[arg-type]


def test_of_equal_tokens_the_lower_ids_are_kept() -> None:
    logits = row(*[0.5] * 8)
    for options in (GenerationOptions(temperature=1, top_k=3), GenerationOptions(temperature=1, top_p=0.3)):
        assert np.flatnonzero(probabilities(logits, options)).tolist() == [0, 1, 2]


def test_top_p_1_keeps_even_the_least_probable() -> None:
    logits = row(0, -27.7, -28.5)
    assert np.flatnonzero(probabilities(logits, GenerationOptions(temperature=1, top_k=2))).tolist() == [0, 1]


@pytest.mark.parametrize("num_tokens", [1, 511, 512, 513, 1024, 5000])
@pytest.mark.parametrize("temperature", [0.5, 100.0])
def test_the_choice_among_many_is_where_the_running_sum_exceeds_the_point(num_tokens: int, temperature: float) -> None:
    logits = SHAPES["flat"](np.random.default_rng(num_tokens), num_tokens)
    options = GenerationOptions(temperature=temperature)
    running = np.cumsum(weights(logits, options)[1]).tolist()
    for seed in range(200):
        point = uniform(seed, 3) * running[-1] >> 53
        assert choose(logits, options, seed, 3) == sum(end <= point for end in running)


def test_no_sum_overflows_where_all_tokens_have_the_highest_weight() -> None:
    logits, options = np.zeros(1 << 18, np.float32), GenerationOptions(temperature=1.0)
    assert choose(logits, options, 1, 0) == uniform(1, 0) >> 53 - 18


EXTREME = {
    "huge": row(1e30, -1e30, 0),
    "all-huge": row(1e30, 1e30),
    "all-tiny": row(-1e30, -1e30),
    "largest": row(float(np.finfo(np.float32).max), float(np.finfo(np.float32).min)),
    "minus-infinity": row(-math.inf, 0, -math.inf, 1),
    "single": row(-1e30),
    "denormal": row(1e-45, 0, -1e-45),
}


@pytest.mark.parametrize("logits", EXTREME.values(), ids=EXTREME)
@pytest.mark.parametrize("temperature", [0.001, 1.0, 100.0])
@pytest.mark.parametrize("filters", [{}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.5}], ids=str)
def test_extreme_logits_give_a_distribution_and_no_warning(
    logits: Row, temperature: float, filters: dict[str, float]
) -> None:
    options = GenerationOptions(temperature=temperature, **filters)  # type: ignore[arg-type]
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        got = probabilities(logits, options)
        token = choose(logits, options, 5, 0)
        scores = logprobs(logits, token, 2)
    assert np.isfinite(got).all()
    assert got.sum() == pytest.approx(1, abs=1e-12)
    assert got[token] > 0
    assert not math.isnan(scores.logprob)
    assert not any(math.isnan(score) for _, score in scores.top)


# ---- the choice ----


@settings(max_examples=300)
@given(
    logits=st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=10),
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 1000),
)
def test_the_choice_is_the_first_token_at_which_the_running_sum_exceeds_the_uniform_number(
    logits: list[float], seed: int, index: int
) -> None:
    options = GenerationOptions(temperature=0.8, top_k=6, top_p=0.9)
    ids, kept = weights(row(*logits), options)
    point = (split_mix_64(seed, index + 1)[index] >> 11) * sum(kept.tolist()) >> 53
    running, expected = 0, -1
    for token, weight in zip(ids.tolist(), kept.tolist(), strict=True):
        running += weight
        if running > point:
            expected = token
            break
    assert choose(row(*logits), options, seed, index) == expected


def test_a_token_without_weight_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = row(-2000, 0, -2000, 0, -2000)
    for point, token in ((0, 1), (2**52 - 1, 1), (2**52, 3), (2**53 - 1, 3)):
        monkeypatch.setattr("rubricrm.generation.sampling.uniform", lambda *_, point=point: point)
        assert choose(logits, GenerationOptions(temperature=1.0), 0, 0) == token


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_tokens_are_chosen_as_often_as_they_are_probable(seed: int) -> None:
    logits, options, num_draws = row(0, 1, 2, -1e30, 1.5), GenerationOptions(temperature=1.2), 20_000
    counts = np.bincount([choose(logits, options, seed, index) for index in range(num_draws)], minlength=5)
    expected = probabilities(logits, options) * num_draws
    assert counts[3] == 0
    # Five standard deviations; the draws are fixed by the seed.
    assert (abs(counts - expected) <= 5 * np.sqrt(expected + 1e-9)).all()


def test_seeds_and_positions_draw_different_numbers() -> None:
    numbers = {uniform(seed, index) for seed in range(30) for index in range(30)}
    # The stream of one seed is the one of another, further on; but not for seeds this near.
    assert len(numbers) == 900


@pytest.mark.parametrize(
    ("logits", "token"),
    [(row(1, 3, 3, 2), 1), (row(0, 0, 0), 0), (row(-math.inf, -1e30, -1e30), 1), (row(1e30, 1e30), 0)],
    ids=["highest", "all-equal", "minus-infinity", "huge"],
)
def test_greedy_takes_the_highest_and_of_equals_the_lower_id(logits: Row, token: int) -> None:
    for seed in (0, 7):
        assert choose(logits, GenerationOptions(top_k=3, top_p=0.1, min_p=0.5), seed, 0) == token


# ---- log-probabilities ----


@settings(max_examples=200)
@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12),
    num_top=st.integers(0, 14),
    choice=st.integers(0, 11),
)
def test_logprobs_are_the_log_softmax_of_the_whole_row(logits: list[float], num_top: int, choice: int) -> None:
    token_id = choice % len(logits)
    total = math.log(math.fsum(math.exp(logit) for logit in logits))
    expected = [logit - total for logit in logits]
    got = logprobs(row(*logits), token_id, num_top)
    assert got.token_id == token_id
    assert got.logprob == pytest.approx(expected[token_id], abs=1e-9)
    assert [score for _, score in got.top] == pytest.approx(sorted(expected, reverse=True)[:num_top], abs=1e-9)
    assert all(score == pytest.approx(expected[token], abs=1e-9) for token, score in got.top)
    assert len({token for token, _ in got.top}) == min(num_top, len(logits))


def test_equally_probable_alternatives_are_listed_by_id() -> None:
    assert [token for token, _ in logprobs(row(1, 2, 1, 2, 1), 0, 4).top] == [1, 3, 0, 2]
