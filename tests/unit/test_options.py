"""Options of a generation: greedy by default, and each one checked by name."""

import copy
import math
import pickle

import pytest
from rubricrm.errors import OptionInvalid, OptionUnknown
from rubricrm.generation.options import MAX_LOGPROBS, GenerationOptions, OptionKeywords, merge

INTEGERS = ("max_new_tokens", "top_k", "seed", "logprobs")
FRACTIONS = ("temperature", "top_p", "min_p", "timeout_s")
OPTIONAL = ("max_new_tokens", "seed", "logprobs", "timeout_s")


def test_the_defaults_decode_greedily() -> None:
    options = GenerationOptions()
    assert options.is_greedy
    assert options == GenerationOptions(
        max_new_tokens=None, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, seed=None, stop=(), logprobs=None
    )


def test_every_option_has_its_keyword() -> None:
    assert list(OptionKeywords.__annotations__) == list(GenerationOptions.__dataclass_fields__)


# What a reader of other libraries writes, and the words that help.
FOREIGN = {
    "max_tokens": "Use max_new_tokens",
    "max_length": "Use max_new_tokens",
    "n_predict": "Use max_new_tokens",
    "num_predict": "Use max_new_tokens",
    "max_completion_tokens": "Use max_new_tokens",
    "maxOutputTokens": "Use max_new_tokens",
    "max_new_token": "Did you mean max_new_tokens?",
    "maxNewTokens": "Did you mean max_new_tokens?",
    "MAX_NEW_TOKENS": "Did you mean max_new_tokens?",
    "top_k_sampling": "Use top_k",
    "topK": "Did you mean top_k?",
    "topp": "Did you mean top_p?",
    "temp": "Use temperature.",
    "temprature": "Did you mean temperature?",
    "num_return_sequences": "A call returns one result",
    "n": "A call returns one result",
    "do_sample": "Use temperature: 0 is greedy",
    "num_beams": "There is no beam search",
    "stop_sequences": "Use stop, a list of strings",
    "stops": "Did you mean stop?",
    "eos_token_id": "The bundle holds the ids that end a text",
    "timeout": "Use timeout_s, in seconds",
    "random_seed": "Use seed",
    "top_logprobs": "Use logprobs",
    "repetition_penalty": "There are no penalties",
    "stop_on_repetitions": "Did you mean stop_on_repetition?",
    "stream": "Call stream()",
    "device": "to RubricModel.open",
    "system_prompt": "Call generate_text(messages)",
    "colour": "The options are max_new_tokens, temperature, top_k, top_p, min_p, seed, stop, logprobs, timeout_s",
    "Temperatur": "Did you mean temperature?",
    "größe": "The options are ",
    "": "The options are ",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_unknown_option_is_refused_with_the_one_that_is_meant(name: str) -> None:
    for refuse in (lambda: GenerationOptions(**{name: 5}), lambda: merge(None, {name: 5})):  # type: ignore[arg-type, misc]
        with pytest.raises(OptionUnknown) as caught:
            refuse()
        assert str(caught.value).startswith(f"OPTION_UNKNOWN: {name!r} is no option of a generation. ")
        assert FOREIGN[name] in str(caught.value)


def test_an_unknown_option_is_an_invalid_one_and_a_type_error() -> None:
    assert issubclass(OptionUnknown, OptionInvalid)
    assert issubclass(OptionUnknown, TypeError)


def test_keywords_stand_in_the_place_of_an_objects_values() -> None:
    shared = GenerationOptions(temperature=0.5, seed=7, stop=["a"])
    assert merge(shared, {}) == shared
    assert merge(shared, {"seed": None, "top_k": 3}) == GenerationOptions(temperature=0.5, top_k=3, stop=["a"])
    assert merge(None, {"seed": 1}) == GenerationOptions(seed=1)
    with pytest.raises(OptionInvalid, match="top_p must be"):
        merge(shared, {"top_p": 7})
    with pytest.raises(OptionUnknown, match="Use max_new_tokens"):
        merge(shared, {"max_tokens": 7})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("value", [{"seed": 1}, "seed", 5, GenerationOptions])
def test_options_that_are_something_else_are_refused(value: object) -> None:
    with pytest.raises(OptionInvalid, match="options must be GenerationOptions, got ") as caught:
        merge(value, {})  # type: ignore[arg-type]
    assert ("as keywords" in str(caught.value)) == isinstance(value, dict)


def test_options_can_be_copied_and_sent_to_another_process() -> None:
    options = GenerationOptions(temperature=0.5, stop=("a",))
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize("value", [None, 0, 1, "yes"])
def test_a_switch_is_true_or_false(value: object) -> None:
    with pytest.raises(OptionInvalid, match="stop_on_repetition must be True or False, got "):
        GenerationOptions(stop_on_repetition=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.001, 0.7, 1, 100])
def test_any_other_temperature_samples(temperature: float) -> None:
    assert not GenerationOptions(temperature=temperature).is_greedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 1),
        ("max_new_tokens", 10**30),
        ("temperature", 0),
        ("temperature", 0.0),
        ("top_k", 0),
        ("top_k", 10**9),
        ("top_p", 1),
        ("top_p", 1e-9),
        ("min_p", 0),
        ("min_p", 1),
        ("seed", 0),
        ("seed", 2**64 - 1),
        ("stop", []),
        ("stop", ["a", "\n\n"]),
        ("stop", ("a",)),
        ("logprobs", 0),
        ("logprobs", MAX_LOGPROBS),
        ("timeout_s", 1e-9),
        ("timeout_s", 5),
        *((name, None) for name in OPTIONAL),
    ],
    ids=str,
)
def test_the_ends_of_each_range_are_accepted(name: str, value: object) -> None:
    assert getattr(GenerationOptions(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_new_tokens", 0, "at least 1"),
        ("max_new_tokens", -5, "at least 1"),
        ("temperature", -0.1, r"0 \(greedy\) or in \[0.001, 100\]"),
        ("temperature", 0.0009, r"0 \(greedy\) or in \[0.001, 100\]"),
        ("temperature", 100.1, r"0 \(greedy\) or in \[0.001, 100\]"),
        ("top_k", -1, "at least 0"),
        ("top_p", 0, r"in \(0, 1\]"),
        ("top_p", 1.5, r"in \(0, 1\]"),
        ("top_p", -0.5, r"in \(0, 1\]"),
        ("min_p", -0.1, r"in \[0, 1\]"),
        ("min_p", 1.1, r"in \[0, 1\]"),
        ("seed", -1, r"from 0 to 2\^64 - 1"),
        ("seed", 2**64, r"from 0 to 2\^64 - 1"),
        ("seed", 10**400, r"from 0 to 2\^64 - 1"),
        ("logprobs", -1, f"0 to {MAX_LOGPROBS}"),
        ("logprobs", MAX_LOGPROBS + 1, f"0 to {MAX_LOGPROBS}"),
        ("timeout_s", 0, "greater than 0"),
        ("timeout_s", -1.0, "greater than 0"),
        ("stop", "text", "a list of strings that are not empty"),
        ("stop", b"bytes", "a list of strings that are not empty"),
        ("stop", [""], "a list of strings that are not empty"),
        ("stop", ["a", ""], "a list of strings that are not empty"),
        ("stop", [1], "a list of strings that are not empty"),
        ("stop", None, "a list of strings that are not empty"),
        ("stop", {"a"}, "a list of strings that are not empty"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object, expected: str) -> None:
    with pytest.raises(OptionInvalid, match=f"{name} must be {expected}, got ") as caught:
        GenerationOptions(**{name: value})  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", [*INTEGERS, *FRACTIONS])
@pytest.mark.parametrize(
    "value", [True, False, math.nan, math.inf, -math.inf, "1", b"1", [], 1j, object()], ids=lambda v: type(v).__name__
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(OptionInvalid, match=f"{name} must be (an integer|a finite number), got "):
        GenerationOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", INTEGERS)
def test_a_fraction_is_no_integer(name: str) -> None:
    with pytest.raises(OptionInvalid, match=f"{name} must be an integer, got 1.0"):
        GenerationOptions(**{name: 1.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted({*INTEGERS, *FRACTIONS} - {*OPTIONAL}))
def test_none_is_refused_where_it_has_no_meaning(name: str) -> None:
    with pytest.raises(OptionInvalid, match=f"{name} must be"):
        GenerationOptions(**{name: None})  # type: ignore[arg-type]
