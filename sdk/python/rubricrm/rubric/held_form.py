"""Whether a rubric is in the form to which somebody else was to hold it."""

from __future__ import annotations

import re
from dataclasses import replace

from rubricrm.rubric.criterion import UNCONSTRAINED, Issue
from rubricrm.rubric.form import line_out_of_form
from rubricrm.rubric.report import quote
from rubricrm.rubric.rubric import Rubric
from rubricrm.rubric.thought import CLOSING


def with_form_checked(rubric: Rubric, text: str, *, is_cut: bool) -> Rubric:
    """Return a rubric with one more issue if a line of its text is not in the form: the first one is named.

    Args:
        rubric: What was read from the text.
        text: The text; up to a mark that closes a thought, it may say anything.
        is_cut: Whether the text may end anywhere.
    """
    thoughts = list(re.finditer(rf"(?:{CLOSING})[ \n]*", text, re.IGNORECASE))
    start = thoughts[-1].end() if thoughts else 0
    line = line_out_of_form(text[start:], is_cut=is_cut)
    if line is None:
        return rubric
    return _unconstrained(rubric, text, text.count("\n", 0, start) + line, "its form")


def out_of_grammar(rubric: Rubric, text: str, line: int) -> Rubric:
    """Return a rubric with one more issue, for the line of its text that leaves the grammar that was asked for."""
    return _unconstrained(rubric, text, line, "the option grammar")


def _unconstrained(rubric: Rubric, text: str, line: int, form: str) -> Rubric:
    quoted = quote(text.split("\n")[line - 1])
    message = f"the server was to hold the rubric to {form}, and this line is not in it: {quoted}"
    issues = [*rubric.issues, Issue(UNCONSTRAINED, line, message)]
    return replace(rubric, issues=tuple(sorted(issues, key=lambda issue: (issue.line, issue.code))))
