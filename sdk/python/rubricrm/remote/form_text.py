"""The form of a rubric as a server takes it, from its one definition in `rubric.form`; a small form to try it with."""

from __future__ import annotations

import re

from rubricrm.remote.dialects import GBNF, NAMED, REGEX, Dialect
from rubricrm.rubric import form
from rubricrm.rubric.expression import Characters, Expression, Literal
from rubricrm.rubric.thought import closing_mark, until_closing
from rubricrm.runtime.manifest import RUBRIC, ChatFacts

# What no model says of itself where a rubric is expected.
_TRIAL: Expression = Literal("Held: ") + Characters.of("0-9") + Characters.of("0-9")
TRIAL_REQUEST = "Write a haiku about rain."
TRIAL_TOKENS = 16


def rubric_form(dialect: Dialect, chat: ChatFacts) -> str | None:
    """Return the form in the dialect's own; None: it takes none, or none that begins with a thought."""
    if dialect.grammar_form == NAMED:
        return RUBRIC
    if dialect.grammar_form == GBNF:
        return None if chat.starts_in_thought else form.gbnf()
    if dialect.grammar_form != REGEX:
        return None
    if not chat.starts_in_thought:
        return form.regex()
    mark = closing_mark(chat.generation)
    return None if mark is None else until_closing(mark) + form.regex()


def trial_form(dialect: Dialect) -> str:
    """Return a form that a model keeps only if it is held to it."""
    return f"root ::= {_TRIAL.gbnf()}\n" if dialect.grammar_form == GBNF else _TRIAL.regex()


def is_trial_kept(text: str) -> bool:
    """Whether a text has the form of `trial_form`."""
    return re.fullmatch(_TRIAL.regex(), text) is not None
