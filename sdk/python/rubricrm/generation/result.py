"""What a generation gave: text or rubric, why it ended, what it cost; to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, TypeVar

from rubricrm.errors import ResultInvalid
from rubricrm.generation.constraint import Overrules
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.rubric.rubric import Rubric

SCHEMA_VERSION = 1
T = TypeVar("T")

# Why a generation ends. After all but the first, the text is cut.
FINISH_REASONS = {
    "stop": "the model ended it, or a stop string did",
    "length": "it has max_new_tokens, or the model's context is full",
    "cancelled": "cancel, close, or leaving the stream",
    "timeout": "timeout_s is over",
    "repetition": "the text goes in circles",
}


@dataclass(frozen=True)
class Usage:
    """Tokens of one generation. The end token is not counted, but by servers, whose own counts these are then.

    Attributes:
        prompt_tokens: Of the prompt.
        cached_prompt_tokens: How many of them were restored and not computed. Also 0 where a server does not say, as
            after a timeout or repetition, which end a text here.
        completion_tokens: That were generated.
        drafted_tokens: That were drafted and verified.
        accepted_tokens: How many of these came true.
    """

    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Milliseconds on one clock. How fast a stream is read makes no difference.

    Attributes:
        tokenize: Text to prompt ids.
        prefill: Restoring the prefix and computing the rest of the prompt; 0 if the generation ended before.
        first_token: From the call to the first token, tokenizing and waiting for other requests included.
        decode: From the first token to the end.
        total: From the call to the end.
    """

    tokenize: float
    prefill: float
    first_token: float | None
    decode: float
    total: float


@dataclass(frozen=True, repr=False)
class TextResult:
    """A finished generation.

    Attributes:
        text: What was generated, without end token and stop string.
        finish_reason: One of `FINISH_REASONS`: "stop", "length", "cancelled", "timeout" or "repetition".
        usage: Tokens.
        timings_ms: Milliseconds.
        seed: The seed that was used; with it the same call gives the same text.
        logprobs: One entry per token where they were asked for, else None.
        unconstrained: Whether a server was to hold the text to the option `grammar`, and it is not in it.
    """

    text: str
    finish_reason: str
    usage: Usage
    timings_ms: Timings
    seed: int
    logprobs: tuple[TokenLogprobs, ...] | None
    unconstrained: bool = False

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({_shortened(self.text)}, finish_reason={self.finish_reason!r}, "
            f"{self.usage.completion_tokens} tokens)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the version of their schema."""
        return {"schema_version": SCHEMA_VERSION, **_common_dict(self), "unconstrained": self.unconstrained}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Return the result that `to_dict` described.

        Raises:
            ResultInvalid: A key is missing, unknown or of a wrong type, or the schema version is another one.
        """
        document = _versioned(value, cls)
        unconstrained = document["unconstrained"]
        if not isinstance(unconstrained, bool):
            raise ResultInvalid(f"unconstrained: got {unconstrained!r:.40}, expected true or false.")
        return cls(**_common_fields(document), unconstrained=unconstrained)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the result that `to_json` wrote.

        Raises:
            ResultInvalid: The text is no JSON, or not that of a result.
        """
        return cls.from_dict(_document(text))


@dataclass(frozen=True, repr=False)
class RubricResult:
    """The rubric of a request, with the text it was read from.

    Attributes:
        request: What the user asked.
        text: What the model wrote, unchanged.
        rubric: Criteria, and issues where the text is not in the usual form. A malformed text is no exception.
        finish_reason: One of `FINISH_REASONS`: "stop", "length", "cancelled", "timeout" or "repetition"; after all but
            the first, the text is cut.
        usage: Tokens.
        timings_ms: Milliseconds.
        seed: The seed that was used; with it the same call gives the same text.
        logprobs: One entry per token where they were asked for, else None.
        grammar_overrules: How often the form of a rubric overruled the model; None where nothing held it to the form.
        model: Name, weights, device, kernels and manifest hash of the model that wrote it.
    """

    request: str
    text: str
    rubric: Rubric
    finish_reason: str
    usage: Usage
    timings_ms: Timings
    seed: int
    logprobs: tuple[TokenLogprobs, ...] | None
    grammar_overrules: Overrules | None
    model: Mapping[str, str]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({_shortened(self.request)}: {len(self.rubric.criteria)} criteria, "
            f"{len(self.rubric.issues)} issues, finish_reason={self.finish_reason!r}, "
            f"{self.usage.completion_tokens} tokens)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `rubricrm generate --json` prints; docs/CLI.md describes it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "request": self.request,
            "text": self.text,
            "rubric": self.rubric.to_dict(),
            **_common_dict(self),
            "grammar_overrules": None if self.grammar_overrules is None else asdict(self.grammar_overrules),
            "model": dict(self.model),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Return the result that `to_dict` described. The criteria's places in the text are not in it.

        Raises:
            ResultInvalid: A key is missing, unknown or of a wrong type, or the schema version is another one.
            RubricMalformed: The same, inside "rubric".
        """
        document = _versioned(value, cls)
        facts = _object(document["model"], "model", None)
        model = {name: _value(fact, f"model.{name}", str) for name, fact in facts.items()}
        request = _value(document["request"], "request", str)
        return cls(
            request=request,
            rubric=Rubric.from_dict(document["rubric"]),
            grammar_overrules=_overrules(document["grammar_overrules"]),
            model=model,
            **_common_fields(document),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the result that `to_json` wrote.

        Raises:
            ResultInvalid: The text is no JSON, or not that of a result.
            RubricMalformed: The same, inside "rubric".
        """
        return cls.from_dict(_document(text))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}\u2026")


def _common_dict(result: TextResult | RubricResult) -> dict[str, Any]:
    """Return what the results of texts and rubrics share."""
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "usage": asdict(result.usage),
        "timings_ms": asdict(result.timings_ms),
        "seed": result.seed,
        "logprobs": None if result.logprobs is None else [_logprobs_dict(entry) for entry in result.logprobs],
    }


def _logprobs_dict(entry: TokenLogprobs) -> dict[str, Any]:
    return {"token_id": entry.token_id, "logprob": entry.logprob, "top": [list(pair) for pair in entry.top]}


def _document(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResultInvalid(f"expected the JSON of a result, got other text: {error}.") from error


def _versioned(value: object, kind: type) -> Mapping[str, Any]:
    """Check the version before the keys: another version may have others."""
    version = value.get("schema_version") if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and version != SCHEMA_VERSION:
        raise ResultInvalid(
            f"schema_version is {version!r:.40}, expected {SCHEMA_VERSION}. Read it with the version of rubricrm that "
            "wrote it, or generate it again."
        )
    return _object(value, "result", ("schema_version", *(field.name for field in fields(kind))))


def _common_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the results of texts and rubrics share."""
    reason = _value(document["finish_reason"], "finish_reason", str)
    if reason not in FINISH_REASONS:
        raise ResultInvalid(f"finish_reason: got {reason!r:.40}, expected one of {', '.join(FINISH_REASONS)}.")
    usage = _object(document["usage"], "usage", [field.name for field in fields(Usage)])
    timings = dict(_object(document["timings_ms"], "timings_ms", [field.name for field in fields(Timings)]))
    first = timings.pop("first_token")
    times = {name: _number(time, f"timings_ms.{name}") for name, time in timings.items()}
    logprobs = document["logprobs"]
    return {
        "text": _value(document["text"], "text", str),
        "finish_reason": reason,
        "usage": Usage(**{name: _value(count, f"usage.{name}", int) for name, count in usage.items()}),
        "timings_ms": Timings(first_token=None if first is None else _number(first, "timings_ms.first_token"), **times),
        "seed": _value(document["seed"], "seed", int),
        "logprobs": None if logprobs is None else tuple(map(_logprobs, _value(logprobs, "logprobs", list))),
    }


def _overrules(value: object) -> Overrules | None:
    if value is None:
        return None
    facts = _object(value, "grammar_overrules", [field.name for field in fields(Overrules)])
    return Overrules(
        _value(facts["count"], "grammar_overrules.count", int),
        _number(facts["probability"], "grammar_overrules.probability"),
    )


def _logprobs(value: object) -> TokenLogprobs:
    where = "logprobs[]"
    entry = _object(value, where, ("token_id", "logprob", "top"))
    top = _value(entry["top"], f"{where}.top", list)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in top):
        raise ResultInvalid(f"{where}.top: got {top!r:.40}, expected pairs of a token's id and its log-probability.")
    return TokenLogprobs(
        _value(entry["token_id"], f"{where}.token_id", int),
        _number(entry["logprob"], f"{where}.logprob"),
        tuple((_value(token, f"{where}.top", int), _number(score, f"{where}.top")) for token, score in top),
    )


def _object(value: object, where: str, names: Collection[str] | None) -> Mapping[str, Any]:
    """Check an object, and that it has exactly these keys; None: any strings."""
    if not isinstance(value, Mapping):
        raise ResultInvalid(f"{where}: got {type(value).__name__}, expected an object.")
    if names is not None and set(value) != set(names):
        raise ResultInvalid(f"{where}: got the keys {sorted(map(str, value))}, expected {sorted(names)}.")
    return value


def _value(value: object, where: str, kind: type[T]) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ResultInvalid(f"{where}: got {value!r:.40}, expected {kind.__name__}.")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResultInvalid(f"{where}: got {value!r:.40}, expected a number.")
    return float(value)
