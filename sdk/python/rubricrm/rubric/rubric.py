"""Text becomes a typed rubric, and back: parse, stream, JSON, canonical text, weights. Standard library only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rubricrm.errors import OptionInvalid, RubricMalformed
from rubricrm.rubric.criterion import ISSUE_CODES, Criterion, Issue, Kind, Span
from rubricrm.rubric.form import check_form
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.parser import RubricParser

__all__ = ["ISSUE_CODES", "Criterion", "Issue", "Kind", "Rubric", "RubricReader", "Span", "parse"]

# Of the dictionaries that `to_dict` writes. It changes where a reader of the old form would read the new one wrongly.
SCHEMA_VERSION = 1
_OPENING = lazy_pattern(r"The response\b.", re.DOTALL)
# The validator of RUBRIC-ARROW cuts these out of a text before it reads the items.
_CUT_BY_VALIDATORS = ("</think>", "</answer>", "```")


@dataclass(frozen=True, slots=True)
class Rubric:
    """What was found in a text: its criteria in order, and every deviation from the canonical form.

    Attributes:
        criteria: The items that have a text, tagged or not.
        issues: Sorted by line, then code. Text that is in no criterion is quoted in one of them.
    """

    criteria: tuple[Criterion, ...]
    issues: tuple[Issue, ...] = ()

    @property
    def hard_rules(self) -> tuple[Criterion, ...]:
        """The criteria that the request states."""
        return tuple(criterion for criterion in self.criteria if criterion.kind is Kind.HARD_RULE)

    @property
    def principles(self) -> tuple[Criterion, ...]:
        """The criteria of good practice."""
        return tuple(criterion for criterion in self.criteria if criterion.kind is Kind.PRINCIPLE)

    def weights(self, hard_rule: float = 3.0, principle: float = 1.0) -> tuple[float, ...]:
        """The weight of each criterion, in order.

        The defaults are those of RUBRIC-ARROW, whose reward is sum(w * score) / sum(w). A criterion without kind
        weighs as a principle, as there: a lost tag must not make an item decide alone.

        Raises:
            OptionInvalid: A weight is no finite number >= 0, or both are 0.
        """
        for name, weight in (("hard_rule", hard_rule), ("principle", principle)):
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise OptionInvalid(f"weight {name} must be a finite number >= 0, got {weight!r}.")
        if not (hard_rule or principle):
            raise OptionInvalid("weights hard_rule and principle are both 0: give one of them a value above 0.")
        chosen = {Kind.HARD_RULE: float(hard_rule)}
        return tuple(chosen.get(criterion.kind or Kind.PRINCIPLE, float(principle)) for criterion in self.criteria)

    def to_weighted(self, *, hard: float = 3.0, principle: float = 1.0) -> list[dict[str, Any]]:
        """The criteria as other libraries take them: objects with `weight` and `requirement`, in order.

        `rubric`, `autorubric` and verl's rubric judge make their own criteria of these. A criterion without kind weighs
        as a principle.

        Args:
            hard: The weight of a hard rule.
            principle: The weight of a principle.

        Raises:
            OptionInvalid: As `weights`.
        """
        weights = self.weights(hard_rule=hard, principle=principle)
        return [
            {"weight": weight, "requirement": criterion.text}
            for weight, criterion in zip(weights, self.criteria, strict=True)
        ]

    def render(self) -> str:
        r"""The canonical text: a line `N. The response ... [Hard Rule]\n` a criterion, numbered from 1.

        The validators in use accept it, and parsing it gives the same texts and kinds, and no issue but `repetition`
        where criteria are equal. The cost is one parse of the result.

        Raises:
            RubricMalformed: There is no criterion, or one has no canonical form; the message says which and why.
        """
        if not self.criteria:
            raise RubricMalformed("the rubric has no criteria, expected at least 1. Generate it again.")
        for number, criterion in enumerate(self.criteria, 1):
            _check_canonical(number, criterion)
        lines = [f"{n}. {c.text} {c.kind.tag}\n" for n, c in enumerate(self.criteria, 1) if c.kind is not None]
        text = "".join(lines)
        _check_same(self.criteria, parse(text))
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the version of their schema.

        Spans are left out: they belong to the text, not to the rubric.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "criteria": [
                {"number": c.number, "text": c.text, "kind": None if c.kind is None else c.kind.value}
                for c in self.criteria
            ],
            "issues": [{"code": i.code, "line": i.line, "message": i.message} for i in self.issues],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """The JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)

    @classmethod
    def from_dict(cls, value: object) -> Rubric:
        """The rubric that `to_dict` described.

        Raises:
            RubricMalformed: The schema version is another one, or a key is missing, unknown or of a wrong type; the
                message says where, got and expected.
        """
        version = value.get("schema_version") if isinstance(value, Mapping) else SCHEMA_VERSION
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise RubricMalformed(
                f"rubric: schema_version is {version!r:.40}, expected {SCHEMA_VERSION}. Read it with the version of "
                "rubricrm that wrote it, or parse the text again."
            )
        _, criteria, issues = _fields(value, "rubric", ("schema_version", "criteria", "issues"))
        return cls(
            tuple(_criterion(item, f"criteria[{i}]") for i, item in enumerate(_list(criteria, "criteria"))),
            tuple(_issue(item, f"issues[{i}]") for i, item in enumerate(_list(issues, "issues"))),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Rubric:
        """The rubric that `to_json` wrote.

        Raises:
            RubricMalformed: The text is no JSON, or not that of a rubric.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RubricMalformed(f"expected the JSON of a rubric, got other text: {error}.") from error
        return cls.from_dict(value)


class RubricReader:
    """Reads a rubric while it is generated.

    A criterion is given out as soon as the line that ends with its tag is complete, or the next item starts; a title
    with a tag waits for the line after it. Nothing that follows changes a criterion, but one thing takes all of them
    back: the closing tag of a thought that nothing opened, which says that everything before it was thought. All
    criteria given out, in order and without the first `num_taken_back`, are those of `parse` on the whole text,
    wherever the pieces were cut. The cost is linear in the length of the text.

    Attributes:
        num_taken_back: How many of the criteria given out so far turned out to be thought.
    """

    def __init__(self, *, starts_in_thought: bool = False) -> None:
        """Start.

        Args:
            starts_in_thought: The prompt ended with the opening tag of a thought, so the text starts inside it.
        """
        self.num_taken_back = 0
        self._parser = RubricParser(starts_in_thought=starts_in_thought)
        self._pieces: list[str] = []  # of the line that is not complete yet
        self._num_given = 0
        self._num_restarts = 0

    def feed(self, piece: str) -> list[Criterion]:
        """Take the next piece of text; return the criteria that it closed."""
        after_return = bool(self._pieces) and self._pieces[-1].endswith("\r")
        if piece:
            self._pieces.append(piece)
        if after_return or len(f"{piece}.".splitlines()) > 1:
            self._read_lines()
        return self._take_new()

    def finish(self, *, truncated: bool = False) -> tuple[list[Criterion], Rubric]:
        """End the text; return the criteria not given out yet, and the rubric of the whole text.

        Args:
            truncated: The generator was cut (length, timeout, cancelled): an unfinished last item is no whole one.
        """
        for line in "".join(self._pieces).splitlines(keepends=True):
            self._parser.read_line(line)
        self._pieces.clear()
        self._parser.finish(truncated=truncated)
        return self._take_new(), Rubric(tuple(self._parser.criteria), tuple(self._parser.issues))

    def _read_lines(self) -> None:
        lines = "".join(self._pieces).splitlines(keepends=True)
        self._pieces.clear()
        # The last line waits for its break; one that ends with a carriage return, for the line feed that may follow.
        if lines and (lines[-1].endswith("\r") or len(f"{lines[-1]}.".splitlines()) == 1):
            self._pieces.append(lines.pop())
        for line in lines:
            self._parser.read_line(line)

    def _take_new(self) -> list[Criterion]:
        if self._parser.num_restarts > self._num_restarts:
            self._num_restarts = self._parser.num_restarts
            self.num_taken_back += self._num_given
            self._num_given = 0
        new = self._parser.criteria[self._num_given :]
        self._num_given += len(new)
        return new


def parse(text: str, *, truncated: bool = False, starts_in_thought: bool = False, strict: bool = False) -> Rubric:
    """Read the rubric in a text; the cost is linear in its length.

    Args:
        text: What the model wrote.
        truncated: The generator was cut (length, timeout, cancelled), so an untagged last item is unfinished.
        starts_in_thought: The prompt ended with the opening tag of a thought, so the text starts inside it.
        strict: Take only a text that is in the form (`rubricrm.rubric.form`) from its first character to its last.

    Raises:
        RubricMalformed: `strict`, and the text is not in the form. Without `strict` nothing is raised.
    """
    if strict:
        check_form(text)
    reader = RubricReader(starts_in_thought=starts_in_thought)
    reader.feed(text)
    return reader.finish(truncated=truncated)[1]


def _check_canonical(number: int, criterion: Criterion) -> None:
    text = criterion.text
    if not text.strip():
        raise RubricMalformed(f"criterion {number} has no text. Remove it.")
    if criterion.kind is None:
        raise RubricMalformed(f"criterion {number} has no kind: {text!r:.80}. Set it to a hard rule or a principle.")
    if len(f"{text}.".splitlines()) > 1:
        raise RubricMalformed(f"criterion {number} spans lines: {text!r:.80}. Join them by spaces.")
    if _OPENING.match(text) is None:
        raise RubricMalformed(f'criterion {number} must start with "The response ", got {text!r:.80}. Reword it.')
    found = next((mark for mark in _CUT_BY_VALIDATORS if mark in text.lower()), None)
    if found is not None:
        raise RubricMalformed(f"criterion {number} holds {found!r}, which validators cut out. Reword it.")


def _check_same(criteria: tuple[Criterion, ...], again: Rubric) -> None:
    """Refuse what would read differently: `The response ... [Hard Rule] 2. The response ...` is two items."""
    for number, criterion in enumerate(criteria, 1):
        read = again.criteria[number - 1] if number <= len(again.criteria) else None
        issue = next((issue for issue in again.issues if issue.line == number and issue.code != "repetition"), None)
        if issue is not None or read != Criterion(number, criterion.text, criterion.kind):
            why = f"{issue.code}, {issue.message}" if issue else f"{read.text!r:.80}" if read else "nothing"
            raise RubricMalformed(f"criterion {number} would not be read back as it is ({why}). Reword it.")


def _fields(value: object, where: str, names: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(value, Mapping):
        raise RubricMalformed(f"{where}: expected an object with {', '.join(names)}, got {_type_name(value)}.")
    if set(value) != set(names):
        raise RubricMalformed(f"{where}: expected the keys {sorted(names)}, got {sorted(map(str, value))}.")
    return tuple(value[name] for name in names)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RubricMalformed(f"{where}: expected a list, got {_type_name(value)}.")
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RubricMalformed(f"{where}: expected a string, got {_type_name(value)}.")
    return value


def _count(value: object, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RubricMalformed(f"{where}: expected an integer >= {least}, got {value!r:.40}.")
    return value


def _choice(value: object, where: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise RubricMalformed(f"{where}: expected one of {', '.join(choices)}, got {value!r:.40}.")
    return value


def _criterion(value: object, where: str) -> Criterion:
    number, text, kind = _fields(value, where, ("number", "text", "kind"))
    return Criterion(
        None if number is None else _count(number, f"{where}.number", 0),
        _string(text, f"{where}.text"),
        None if kind is None else Kind(_choice(kind, f"{where}.kind", tuple(Kind))),
    )


def _issue(value: object, where: str) -> Issue:
    code, line, message = _fields(value, where, ("code", "line", "message"))
    return Issue(
        _choice(code, f"{where}.code", tuple(ISSUE_CODES)),
        _count(line, f"{where}.line", 1),
        _string(message, f"{where}.message"),
    )


def _type_name(value: object) -> str:
    return type(value).__name__
