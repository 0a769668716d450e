"""How to generate: the options of one call, checked when they are made."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Self, TypedDict

from rubricrm.errors import OptionInvalid, OptionUnknown

if TYPE_CHECKING:
    from rubricrm.generation.grammar import Grammar

MAX_LOGPROBS = 20
_FLAGS = ("stop_on_repetition", "constrain")
_INTEGER_OPTIONS = ("max_new_tokens", "top_k", "seed", "logprobs", "priority")


class OptionKeywords(TypedDict, total=False):
    """The fields of GenerationOptions as keyword arguments."""

    max_new_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: Sequence[str]
    logprobs: int | None
    timeout_s: float | None
    stop_on_repetition: bool
    priority: int
    constrain: bool
    grammar: Grammar | None


# What other libraries call it, without case and underscores, and what to do here.
_FOREIGN_NAMES = {
    **dict.fromkeys(
        ("maxtokens", "maxlength", "npredict", "numpredict", "maxoutputtokens", "maxcompletiontokens", "maxgenlen"),
        "Use max_new_tokens.",
    ),
    "temp": "Use temperature.",
    **dict.fromkeys(("topksampling", "topkfilter"), "Use top_k, with a temperature above 0."),
    **dict.fromkeys(("toppsampling", "nucleus"), "Use top_p, with a temperature above 0."),
    **dict.fromkeys(
        ("dosample", "sample", "sampling", "greedy"), "Use temperature: 0 is greedy, a value above 0 samples."
    ),
    **dict.fromkeys(
        ("numreturnsequences", "n", "bestof", "numsequences", "numcompletions"),
        "A call returns one result: call it again, with another seed and a temperature above 0.",
    ),
    **dict.fromkeys(("numbeams", "beamsize", "beamwidth", "usebeamsearch"), "There is no beam search: leave it out."),
    **dict.fromkeys(
        ("stopsequences", "stopstrings", "stopwords", "stoptokens", "endsequence"), "Use stop, a list of strings."
    ),
    **dict.fromkeys(
        ("eostokenid", "stoptokenids", "padtokenid"), "The bundle holds the ids that end a text; stop adds strings."
    ),
    **dict.fromkeys(("timeout", "maxtime", "deadline", "timeoutms"), "Use timeout_s, in seconds."),
    **dict.fromkeys(("randomseed", "rngseed", "generator"), "Use seed, an integer."),
    **dict.fromkeys(
        ("toplogprobs", "returnlogprobs", "outputscores", "nprobs"), "Use logprobs, a number from 0 to 20."
    ),
    **dict.fromkeys(
        ("repetitionpenalty", "frequencypenalty", "presencepenalty", "repeatpenalty", "norepeatngramsize"),
        "There are no penalties; a text that goes in circles is ended, see stop_on_repetition.",
    ),
    **dict.fromkeys(("stream", "streaming", "streamer"), "Call stream() for pieces of text."),
    **dict.fromkeys(
        ("device", "threads", "numthreads", "nthreads", "verify"),
        "Give device, threads and verify to RubricModel.open.",
    ),
    **dict.fromkeys(
        ("messages", "system", "systemprompt", "history"), "Call generate_text(messages): a request has one text."
    ),
    "options": "Give it to generate() or stream().",
}


@dataclass(frozen=True)
class GenerationOptions:
    """Options of one generation. The defaults decode greedily, whatever the checkpoint's generation_config says.

    Attributes:
        max_new_tokens: Most tokens to generate; None takes the bundle's default (1024).
        temperature: 0 is greedy; otherwise, from 0.001, logits are divided by it.
        top_k: Keep the k most probable tokens; 0 keeps all.
        top_p: Keep the fewest most probable tokens that hold this much probability; 1 keeps all.
        min_p: Keep tokens at least this probable, relative to the most probable one; 0 keeps all.
        seed: Any integer from 0 to 2^64 - 1; None draws one and reports it.
        stop: Strings that end the text; they are not part of it.
        logprobs: None for none; n for the chosen token's and the n most probable tokens' log-probabilities.
        timeout_s: Seconds from the call after which what there is is returned, with finish_reason "timeout". Waiting
            for other requests counts; how fast a stream is read makes no difference.
        stop_on_repetition: End a text that goes in circles, with finish_reason "repetition"; the exact rule stands in
            `rubricrm.generation.repetition`. One that is held to a form takes the shortest way to a whole end. False
            lets it go on until another reason ends it.
        priority: Of requests that wait, those with the highest priority are computed first, 0 if not given.
        constrain: Hold a rubric to its form, whatever the model prefers; the result says how often that overruled it.
            Only for rubrics, of bundles that hold the form.
        grammar: Another form, for any text: what `RubricModel.compile_grammar` made of a regular expression. A dialect
            without regular expressions refuses it.

    Raises:
        OptionInvalid: A value is out of range or of another type.
        OptionUnknown: There is no such option; the message names the one that is meant.

    Example:
        >>> GenerationOptions(temperature=0.7, top_p=0.95, seed=1).is_greedy
        False
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    timeout_s: float | None = None
    stop_on_repetition: bool = True
    priority: int = 0
    constrain: bool = True
    grammar: Grammar | None = None

    def __new__(cls, *_: object, **options: object) -> Self:
        """Refuse unknown names, before Python does it without a remedy."""
        for name in options:
            if name not in cls.__dataclass_fields__:
                raise OptionUnknown(f"{name!r} is no option of a generation. {_remedy(name)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check types, then ranges."""
        for option in fields(self):
            if option.name not in ("stop", "grammar", *_FLAGS):
                _check_number(option.name, getattr(self, option.name), option.default is None)
        for name in _FLAGS:
            _require(isinstance(getattr(self, name), bool), name, "True or False", self)
        is_grammar = self.grammar is None or callable(getattr(self.grammar, "is_allowed", None))
        _require(is_grammar, "grammar", "what RubricModel.compile_grammar made", self)
        _require(self.max_new_tokens is None or self.max_new_tokens >= 1, "max_new_tokens", "at least 1", self)
        in_range = self.temperature == 0 or 0.001 <= self.temperature <= 100
        _require(in_range, "temperature", "0 (greedy) or in [0.001, 100]", self)
        _require(self.top_k >= 0, "top_k", "at least 0", self)
        _require(0 < self.top_p <= 1, "top_p", "in (0, 1]", self)
        _require(0 <= self.min_p <= 1, "min_p", "in [0, 1]", self)
        _require(self.seed is None or 0 <= self.seed < 2**64, "seed", "from 0 to 2^64 - 1", self)
        _require(self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS, "logprobs", f"0 to {MAX_LOGPROBS}", self)
        _require(self.timeout_s is None or self.timeout_s > 0, "timeout_s", "greater than 0", self)
        is_list = isinstance(self.stop, Sequence) and not isinstance(self.stop, str | bytes)
        valid = is_list and all(isinstance(item, str) and item for item in self.stop)
        _require(valid, "stop", "a list of strings that are not empty", self)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


def merge(options: GenerationOptions | None, keywords: OptionKeywords) -> GenerationOptions:
    """Return options with keywords in the place of their values.

    Raises:
        OptionInvalid: `options` is something else, or a value is out of range.
        OptionUnknown: A keyword is no option.
    """
    if options is None:
        return GenerationOptions(**keywords)
    if not isinstance(options, GenerationOptions):
        remedy = "Pass a dict's entries as keywords: generate(request, **options)." if isinstance(options, dict) else ""
        raise OptionInvalid(f"options must be GenerationOptions, got {options!r:.80}. {remedy}".rstrip())
    return replace(options, **keywords)


def _remedy(name: str) -> str:
    plain = re.sub(r"[\W_]", "", name).lower()
    names = list(GenerationOptions.__dataclass_fields__)
    if plain in _FOREIGN_NAMES:
        return _FOREIGN_NAMES[plain]
    near = get_close_matches(plain, [option.replace("_", "") for option in names], n=1)
    if near:
        return f"Did you mean {next(option for option in names if option.replace('_', '') == near[0])}?"
    return f"The options are {', '.join(names)}."


def _check_number(name: str, value: object, is_optional: bool) -> None:
    if value is None and is_optional:
        return
    kinds: tuple[type, ...] = (int,) if name in _INTEGER_OPTIONS else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        expected = "an integer" if kinds == (int,) else "a finite number"
        raise OptionInvalid(f"{name} must be {expected}, got {value!r}.")


def _require(condition: bool, name: str, expected: str, options: GenerationOptions) -> None:
    if not condition:
        raise OptionInvalid(f"{name} must be {expected}, got {getattr(options, name)!r}.")
