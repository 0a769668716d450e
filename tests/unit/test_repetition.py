"""A list that repeats itself is told from one in which two criteria happen to be equal."""

import pytest
from rubricrm.rubric.criterion import Criterion, Span
from rubricrm.rubric.repetition import find_repetition


def criteria(texts: str) -> list[Criterion]:
    """One criterion per letter, one per line."""
    return [Criterion(n, f"The response is {text}.", None, Span(n, n, n, 1)) for n, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ("aaa", 2),
        ("abab", 3),
        ("abcabc", 4),
        ("abcxabc", 5),
        ("abaca", 3),
        ("xaabaac", 3),
        ("a" * 60, 2),
        ("ab" * 30, 3),
    ],
)
def test_repetition(texts: str, line: int) -> None:
    issue = find_repetition(criteria(texts))
    assert issue is not None
    assert (issue.code, issue.line) == ("repetition", line)
    assert f"{len(texts) - len(set(texts))} of {len(texts)}" in issue.message


@pytest.mark.parametrize("texts", ["", "a", "aa", "abc", "abca", "abba", "aabb", "abcdefghij"])
def test_no_repetition(texts: str) -> None:
    assert find_repetition(criteria(texts)) is None


def test_case_and_white_space_do_not_count() -> None:
    texts = ("The response  is short.", "the response is short.", "The Response is short.")
    assert find_repetition([Criterion(None, text, None) for text in texts]) is not None


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        (f"The response is {'exactly ' * 1000}short.", True),
        (f"The response {'must be short and ' * 40}", True),
        (f"The response {'no ' * 20}", False),
        (" ".join(f"word{n % 30}" for n in range(120)), False),
    ],
)
def test_a_text_that_goes_in_circles(text: str, repeats: bool) -> None:
    assert (find_repetition([Criterion(1, text, None)]) is not None) == repeats
