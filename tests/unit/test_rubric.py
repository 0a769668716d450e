"""Rubric parsing: shared cases, properties on any text, linear cost."""

from __future__ import annotations

import itertools
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rubricrm.errors import OptionInvalid, RubricMalformed
from rubricrm.rubric.criterion import UNCONSTRAINED
from rubricrm.rubric.rubric import ISSUE_CODES, Criterion, Issue, Kind, Rubric, RubricReader, parse

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((ROOT / "tests" / "cases" / "rubric").glob("*.json"))
PUBLISHED = ROOT.parent / "shared" / "data" / "real_rubrics.jsonl"

TAGS = {Kind.HARD_RULE: "[Hard Rule]", Kind.PRINCIPLE: "[Principle]"}
FRAGMENTS = (
    *(
        "1. ",
        "2. ",
        "3) ",
        "(4) ",
        "- ",
        "* ",
        "**5.** ",
        "**6. ",
        "７．",
        "2024. ",
        "The response must be short.",
        "the response",
    ),
    *(
        " [Hard Rule]",
        "[Principle]",
        "[hard rules].",
        "**[Principle]**",
        '"[Hard Rule]"',
        "［Hard Rule］",
        "[Hard",
        "Rule]",
        "[",
    ),
    *(
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\u2028",
        " ",
        "   ",
        "\t",
        "word",
        "Note:",
        ".",
        "?”",
        "：",
        "1.5",
        "### Hard Rules\n",
    ),
    *("**Principles:**", "<think>", "</think>", "```", "```text\n", "<rubric>", "</answer>", "<|im_end|>", "回答。"),
    *(
        "A. ",
        "ii) ",
        "①",
        "1\ufe0f\u20e3",
        "Criterion 1: ",
        "Rule 2 - ",
        "#3 ",
        "一、",
        "第一条",
        "1.1 ",
        "- [ ] ",
        "🔹 ",
    ),
    *("\u200b", "\u200e", "\u2066", "\ufeff", "\x1b[31m", "\ufe0f", "👩\u200d🚀", "\0", "\ufffd", "\udc80"),
    *(
        "(Hard Rule)",
        "<Principle>",
        "[[Hard Rule]]",
        "【硬性规则】",
        "\\[原则\\]",
        "<strong>",
        "</strong>",
        "Hard Rule: ",
    ),
    *(
        "\\n",
        "<br>",
        ", and ",
        " | ",
        " • ",
        "---\n",
        "**Rhyme**",
        "   ",
        "2. Principles (3)\n",
        "Human:",
        "Assistant: ",
    ),
    *("<reasoning a='b'>", "</Thinking>", "<s>", "</s>", "<|im_start|>user\n", "`", "</p><p>", "&nbsp;"),
)
hostile_texts = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)
any_texts = st.text(max_size=200) | hostile_texts


def summary(rubric: Rubric) -> dict[str, object]:
    plain = rubric.to_dict()
    return {
        "criteria": plain["criteria"],
        "issues": [{"code": issue["code"], "line": issue["line"]} for issue in plain["issues"]],
    }


# ---- cases ----


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    rubric = parse(case["text"], truncated=case["truncated"], starts_in_thought=case.get("starts_in_thought", False))
    found = summary(rubric)
    assert found == {"criteria": case["criteria"], "issues": case["issues"]}
    assert path.stem.startswith("issue_" if case["issues"] else "ok_")


def test_cases_are_there_and_show_every_issue() -> None:
    shown = {issue["code"] for path in CASES for issue in json.loads(path.read_text(encoding="utf-8"))["issues"]}
    assert len(CASES) >= 45
    assert shown == set(ISSUE_CODES) - {UNCONSTRAINED}


def test_the_documentation_lists_every_issue() -> None:
    documented = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    assert [
        f"| `{code}` | {text} |" for code, text in ISSUE_CODES.items() if f"| `{code}` | {text} |" not in documented
    ] == []


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="shared/data/real_rubrics.jsonl does not lie beside the checkout")
def test_published_rubrics() -> None:
    rows = [json.loads(line) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    counted = [row for row in rows if "n_items" in row]
    assert counted
    for row in counted:
        rubric = parse(row["rubric"])
        found = (len(rubric.criteria), len(rubric.hard_rules), len(rubric.principles))
        assert found == (row["n_items"], row["n_hard"], row["n_principle"]), row["id"]


# ---- any text ----


@settings(max_examples=300)
@given(any_texts, st.booleans())
def test_any_text_is_read(text: str, truncated: bool) -> None:
    rubric = parse(text, truncated=truncated)
    assert bool(rubric.criteria) != any(issue.code == "no_criteria" for issue in rubric.issues)
    assert {issue.code for issue in rubric.issues} <= set(ISSUE_CODES)
    num_lines = len(text.splitlines())
    assert all(1 <= issue.line <= max(1, num_lines) for issue in rubric.issues)
    assert list(rubric.issues) == sorted(rubric.issues, key=lambda issue: (issue.line, issue.code))
    if truncated:
        assert any(issue.code == "truncated" for issue in rubric.issues)


@settings(max_examples=300)
@given(any_texts)
def test_spans_are_ordered_and_their_lines_right(text: str) -> None:
    end = 0
    for criterion in parse(text).criteria:
        span = criterion.span
        assert end <= span.start < span.end <= len(text)
        end = span.end
        before = f"{text[: span.start]}.".splitlines()
        assert (span.line, span.column) == (len(before), len(before[-1]))


def seen(text: str) -> str:
    """A hostile text without what nobody sees in it."""
    return re.sub("[\u200b\u200e\u2066\ufeff\ufe0f\0]", "", text)


@settings(max_examples=500)
@given(hostile_texts.filter(lambda text: not any(name in text.lower() for name in ("think", "reasoning", "\x1b"))))
@example("[Hard\n Rule]")
@example("\r\u200b\n1. ")
@example("[**Principles:**\n2. Principles (3)\n")
def test_no_text_is_lost(text: str) -> None:
    """A line is in a criterion or has an issue; lines without issue are their criterion, number and tag, exactly."""
    rubric = parse(text)
    accounted = {issue.line for issue in rubric.issues}
    for criterion in rubric.criteria:
        first = criterion.span.line
        lines = range(first, first + len(text[criterion.span.start : criterion.span.end].splitlines()))
        if accounted.isdisjoint(lines):
            assert criterion.kind is not None
            expected = f"{criterion.number}. {criterion.text} {TAGS[criterion.kind]}"
            assert seen(text[criterion.span.start : criterion.span.end]).split() == seen(expected).split()
        accounted.update(lines)
    for number, line in enumerate(text.splitlines(), 1):
        words = " ".join(seen(line).split())
        goes_on = number - 1 in accounted and words.startswith("Rule]")  # a tag that wraps
        is_quoted = any(issue.line == number - 1 and words in issue.message for issue in rubric.issues)
        if goes_on or is_quoted or not seen(line).strip():
            accounted.add(number)
    assert accounted >= set(range(1, len(text.splitlines()) + 1))


# ---- well-formed items in any style ----

WORDS = st.sampled_from(
    ("be", "short", "name", "every", "city", "in", "2", "lists", "“open”", "and", "é", "明", "C++", "a-b")
)
OPENINGS = st.sampled_from(("The response must", "The response should", "Use", "Die Antwort soll"))
sentences = st.tuples(OPENINGS, st.lists(WORDS, min_size=1, max_size=8)).map(
    lambda pair: f"{pair[0]} {' '.join(pair[1])}."
)
items = st.lists(st.tuples(st.sampled_from(Kind), sentences), min_size=1, max_size=12)

NUMBERS = ("{}. ", "{}) ", "({}) ", "**{}.** ", "**{}**. ", "{}.  ", "  {}. ", "### {}. ", "- {}. ")
ENDS = (" {}", "  {}", " **{}**", " *{}*", "{}.", " {} ", "\n{}", " {}\t")
SPELLINGS = (
    str,
    str.lower,
    str.upper,
    lambda tag: tag.replace("]", "s]"),
    lambda tag: tag.replace("[", "［").replace("]", "］"),
)
LINE_BREAKS = ("\n", "\r\n", "\r", "\n\n", "\u2028")


@settings(max_examples=300)
@given(items, st.data())
def test_no_tagged_item_is_lost_on_lines(rubric: list[tuple[Kind, str]], data: st.DataObject) -> None:
    text, line_break = "", data.draw(st.sampled_from(LINE_BREAKS))
    number_style = data.draw(st.sampled_from(NUMBERS))
    # In Markdown a heading ends with its line.
    wrap = data.draw(st.sampled_from((" ", "\n", "\n   "))) if "#" not in number_style else " "
    for number, (kind, sentence) in enumerate(rubric, 1):
        tag = data.draw(st.sampled_from(SPELLINGS))(TAGS[kind])
        # A number at the start of a wrapped line is a number in a list to any reader: wrap elsewhere.
        body = (
            re.sub(r" (?![\d-])(?=\w+[ .])", wrap, sentence, count=data.draw(st.integers(1, 3)))
            if wrap != " "
            else sentence
        )
        text += number_style.format(number) + body + data.draw(st.sampled_from(ENDS)).format(tag) + line_break
    found = [(c.number, c.kind, c.text) for c in parse(text).criteria]
    assert found == [(number, kind, sentence) for number, (kind, sentence) in enumerate(rubric, 1)]


@settings(max_examples=200)
@given(items, st.sampled_from((" ", "", "  ")), st.sampled_from(NUMBERS[:5]))
def test_no_tagged_item_is_lost_on_one_line(rubric: list[tuple[Kind, str]], gap: str, number_style: str) -> None:
    text = gap.join(f"{number_style.format(n)}{sentence} {TAGS[kind]}" for n, (kind, sentence) in enumerate(rubric, 1))
    found = parse(text)
    assert [(c.number, c.kind, c.text) for c in found.criteria] == [(n, k, s) for n, (k, s) in enumerate(rubric, 1)]
    assert any(issue.code == "joined_line" for issue in found.issues) == (len(rubric) > 1)


@settings(max_examples=200)
@given(items)
def test_no_early_tagged_item_is_lost(rubric: list[tuple[Kind, str]]) -> None:
    text = "\n".join(f"{n}. {TAGS[kind]} {sentence}" for n, (kind, sentence) in enumerate(rubric, 1))
    assert [(c.number, c.kind, c.text) for c in parse(text).criteria] == [
        (n, k, s) for n, (k, s) in enumerate(rubric, 1)
    ]


@settings(max_examples=200)
@given(items)
def test_numbers_or_bullets_without_tags_are_items_too(rubric: list[tuple[Kind, str]]) -> None:
    found = parse("\n".join(f"{n}. {sentence}" for n, (_, sentence) in enumerate(rubric, 1)))
    assert [(c.number, c.kind, c.text) for c in found.criteria] == [(n, None, s) for n, (_, s) in enumerate(rubric, 1)]
    assert [issue.line for issue in found.issues if issue.code == "missing_tag"] == list(range(1, len(rubric) + 1))


# ---- streams ----


def read_in_pieces(text: str, cuts: list[int], *, truncated: bool) -> tuple[list[Criterion], Rubric]:
    """The criteria that were given out and not taken back, and the rubric."""
    reader, given_out = RubricReader(), []
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(bounds):
        given_out += reader.feed(text[start:end])
    rest, rubric = reader.finish(truncated=truncated)
    return (given_out + rest)[reader.num_taken_back :], rubric


@settings(max_examples=300)
@given(any_texts, st.lists(st.integers(0, 400), max_size=10), st.booleans())
def test_reader_equals_parse(text: str, cuts: list[int], truncated: bool) -> None:
    given_out, rubric = read_in_pieces(text, cuts, truncated=truncated)
    whole = parse(text, truncated=truncated)
    assert rubric == whole
    assert tuple(given_out) == whole.criteria
    assert [c.span for c in given_out] == [c.span for c in whole.criteria]


@given(any_texts)
def test_reader_takes_single_characters(text: str) -> None:
    given_out, rubric = read_in_pieces(text, list(range(len(text))), truncated=False)
    assert rubric == parse(text)
    assert tuple(given_out) == rubric.criteria


@settings(max_examples=300)
@given(hostile_texts, hostile_texts)
def test_a_criterion_given_out_never_changes(text: str, rest: str) -> None:
    """Only a thought's end that nothing opened takes criteria back, all of them."""
    reader = RubricReader()
    given_out = reader.feed(text + "\n")
    num_taken_back = reader.num_taken_back
    reader.feed(rest)
    whole = reader.finish()[1]
    assert whole == parse(text + "\n" + rest)
    if reader.num_taken_back == num_taken_back:
        assert tuple(given_out[num_taken_back:]) == whole.criteria[: len(given_out) - num_taken_back]
    else:
        assert reader.num_taken_back >= len(given_out)


def test_an_item_is_given_out_with_its_line_break() -> None:
    reader = RubricReader()
    assert reader.feed("1. The response must rhyme. [Hard Rule]") == []
    assert reader.feed("\n2. The re") == [Criterion(1, "The response must rhyme.", Kind.HARD_RULE)]
    rest, rubric = reader.finish(truncated=True)
    assert rest == [Criterion(2, "The re", None)]
    assert [issue.code for issue in rubric.issues if issue.code != "not_the_response"] == ["truncated"]


# ---- canonical text ----

CANONICAL_LINE = re.compile(r"^(\d+)\.\s+(The response\b.+?)\s+\[(Hard Rule|Principle)\]\s*$")


def is_valid_by_line(text: str) -> bool:
    """The earlier strict validator: one line per item."""
    return all(CANONICAL_LINE.match(line) for line in text.strip().split("\n"))


def is_valid_by_item(text: str) -> bool:
    """The rule of RUBRIC-ARROW's trainer: strip wrappers, join continuation lines, check every item."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    text = re.sub(r"</?answer>", "", re.sub(r"```\w*", "", text))
    found: list[tuple[int, str]] = []
    for line in text.split("\n"):
        match = re.match(r"^\s*(\d+)\.\s*(.*)$", line)
        if match:
            found.append((int(match[1]), match[2]))
        elif line.strip():
            if not found:
                return False
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return [number for number, _ in found] == list(range(1, len(found) + 1)) and all(
        re.search(r"(?i)\[(Hard Rule|Principle)\]\s*$", item) and re.match(r"(?i)^the response\b", item)
        for _, item in found
    )


contents = st.text(max_size=60) | hostile_texts | st.lists(WORDS, min_size=1).map(" ".join)
criteria = st.builds(
    Criterion,
    st.none() | st.integers(0, 99),
    contents.map(lambda text: f"The response {text}")
    | contents
    | contents.map(lambda text: f"The response {text}".strip()),
    st.sampled_from(Kind) | st.sampled_from(Kind) | st.none(),
)


@settings(max_examples=500)
@given(st.lists(criteria, max_size=5).map(tuple))
def test_what_renders_reads_back_and_validates(given_criteria: tuple[Criterion, ...]) -> None:
    try:
        text = Rubric(given_criteria).render()
    except RubricMalformed:
        return
    again = parse(text)
    assert [(c.text, c.kind) for c in again.criteria] == [(c.text, c.kind) for c in given_criteria]
    assert [c.number for c in again.criteria] == list(range(1, len(given_criteria) + 1))
    assert {issue.code for issue in again.issues} <= {"repetition"}
    assert again.render() == text
    assert is_valid_by_line(text)
    assert is_valid_by_item(text)


@given(st.lists(st.tuples(st.sampled_from(Kind), sentences), min_size=1, max_size=12))
def test_plain_criteria_render(pairs: list[tuple[Kind, str]]) -> None:
    texts = [f"The response must say so: {sentence}" for _, sentence in pairs]
    rubric = Rubric(tuple(Criterion(None, text, kind) for (kind, _), text in zip(pairs, texts, strict=True)))
    assert [c.text for c in parse(rubric.render()).criteria] == texts


def test_more_than_a_thousand_criteria_render() -> None:
    rubric = Rubric(tuple(Criterion(None, f"The response must hold fact {n}.", Kind.PRINCIPLE) for n in range(1100)))
    assert len(parse(rubric.render()).criteria) == 1100


@pytest.mark.parametrize(
    ("criterion", "reason"),
    [
        (Criterion(1, "The response must rhyme.", None), "no kind"),
        (Criterion(1, " ", Kind.PRINCIPLE), "no text"),
        (Criterion(1, "Rhyme.", Kind.PRINCIPLE), 'start with "The response "'),
        (Criterion(1, "The response", Kind.PRINCIPLE), 'start with "The response "'),
        (Criterion(1, "The responses rhyme.", Kind.PRINCIPLE), 'start with "The response "'),
        (Criterion(1, "The response\nmust rhyme.", Kind.PRINCIPLE), "spans lines"),
        (Criterion(1, "The response must not show </think>.", Kind.PRINCIPLE), "cut out"),
        (
            Criterion(1, "The response must A. [Hard Rule] 3. The response must B.", Kind.PRINCIPLE),
            "would not be read back",
        ),
        (Criterion(1, "The response must write [Hard Rule] there.", Kind.PRINCIPLE), "would not be read back"),
        (Criterion(1, "The response must rhyme. ", Kind.PRINCIPLE), "would not be read back"),
    ],
)
def test_render_refuses(criterion: Criterion, reason: str) -> None:
    sound = Criterion(1, "The response must be short.", Kind.HARD_RULE)
    with pytest.raises(RubricMalformed, match=r"criterion 2 ") as caught:
        Rubric((sound, criterion)).render()
    assert reason in str(caught.value)


def test_render_refuses_an_empty_rubric() -> None:
    with pytest.raises(RubricMalformed, match="no criteria"):
        Rubric(()).render()


# ---- JSON and weights ----


@given(any_texts)
def test_json_round_trip(text: str) -> None:
    rubric = parse(text)
    assert Rubric.from_json(rubric.to_json()) == rubric
    assert Rubric.from_dict(rubric.to_dict()) == rubric


def test_json_form() -> None:
    rubric = Rubric(
        (Criterion(1, "The response must rhyme.", Kind.HARD_RULE),), (Issue("preamble", 1, "in no criterion"),)
    )
    assert rubric.to_dict() == {
        "schema_version": 1,
        "criteria": [{"number": 1, "text": "The response must rhyme.", "kind": "hard_rule"}],
        "issues": [{"code": "preamble", "line": 1, "message": "in no criterion"}],
    }


CRITERION = {"number": 1, "text": "x", "kind": None}
ISSUE = {"code": "preamble", "line": 1, "message": "x"}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"criteria": [], "issues": []},
        *({"schema_version": v, "criteria": [], "issues": []} for v in (0, 2, "1", True)),
    ],
)
def test_from_dict_refuses_another_schema(value: object) -> None:
    with pytest.raises(RubricMalformed, match=r"rubric: schema_version is .*, expected 1\. Read it with the version"):
        Rubric.from_dict(value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([], "rubric: expected an object"),
        ({"criteria": []}, "rubric: expected the keys"),
        ({"criteria": {}, "issues": []}, "criteria: expected a list, got dict"),
        ({"criteria": ["x"], "issues": []}, r"criteria\[0\]: expected an object"),
        (
            {"criteria": [CRITERION, CRITERION | {"number": True}], "issues": []},
            r"criteria\[1\].number: expected an integer",
        ),
        (
            {"criteria": [CRITERION | {"number": -1}], "issues": []},
            r"criteria\[0\].number: expected an integer >= 0, got -1",
        ),
        ({"criteria": [CRITERION | {"text": None}], "issues": []}, r"criteria\[0\].text: expected a string"),
        (
            {"criteria": [CRITERION | {"kind": "rule"}], "issues": []},
            r"criteria\[0\].kind: expected one of hard_rule, principle",
        ),
        ({"criteria": [CRITERION | {"weight": 1}], "issues": []}, r"criteria\[0\]: expected the keys"),
        ({"criteria": [], "issues": [ISSUE | {"code": "odd"}]}, r"issues\[0\].code: expected one of"),
        ({"criteria": [], "issues": [ISSUE | {"line": 0}]}, r"issues\[0\].line: expected an integer >= 1, got 0"),
    ],
)
def test_from_dict_refuses(value: object, where: str) -> None:
    with pytest.raises(RubricMalformed, match=where):
        Rubric.from_dict(value | {"schema_version": 1} if isinstance(value, dict) else value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff"])
def test_from_json_refuses_other_text(text: str | bytes) -> None:
    with pytest.raises(RubricMalformed, match="expected the JSON of a rubric"):
        Rubric.from_json(text)


def test_weights() -> None:
    rubric = Rubric(tuple(Criterion(None, "x", kind) for kind in (Kind.HARD_RULE, Kind.PRINCIPLE, None)))
    assert rubric.weights() == (3.0, 1.0, 1.0)
    assert rubric.weights(hard_rule=1, principle=0) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("weights", [(-1, 1), (float("nan"), 1), (1, float("inf")), (0, 0), (True, 1), ("3", 1)])
def test_weights_refuse(weights: tuple[float, float]) -> None:
    with pytest.raises(OptionInvalid, match="weight"):
        Rubric(()).weights(*weights)


def test_to_weighted_is_what_other_libraries_take() -> None:
    rubric = parse(
        "1. The response is short. [Hard Rule]\n2. The response rhymes. [Principle]\n3. The response ends.\n"
    )
    assert rubric.to_weighted() == [
        {"weight": 3.0, "requirement": "The response is short."},
        {"weight": 1.0, "requirement": "The response rhymes."},
        {"weight": 1.0, "requirement": "The response ends."},
    ]
    assert [item["weight"] for item in rubric.to_weighted(hard=10, principle=0)] == [10.0, 0.0, 0.0]
    assert Rubric(()).to_weighted() == []
    with pytest.raises(OptionInvalid, match="weight principle"):
        rubric.to_weighted(principle=-1)


# ---- cost ----

MEGABYTE = 1_000_000
HOSTILE_UNITS = (
    *(
        "[",
        "]",
        "7",
        "\n",
        "\r",
        " ",
        "*",
        ".",
        "(",
        '"',
        "`",
        "#",
        "\0",
        "回",
        "- ",
        "1. ",
        "1.1",
        ". 1",
        "<think>",
        "</rubric>",
    ),
    *(
        "[Hard Rule]",
        "[Hard\nRule] ",
        "[Hard\n",
        "[ ",
        "1. [Hard Rule]\n",
        '."',
        "the ",
        "x. 1. The response ",
        "1. a [Hard Rule] ",
    ),
    *(
        "1. The response must be x. [Hard Rule]\n",
        "2. The response must be x.\n",
        "- x. [Principle]\n",
        "1.\n" + 7 * "word\n",
    ),
    *("\u200b", "\ufe0f", "a\u200db", "\x1b[", "\x1b]", "\x9d", "\x1b[1m", "\\x1b[", "\u3164", "\U000e0020"),
    *(
        "<think>a</think>",
        "<think",
        "</think> a",
        "a </think> b ",
        "a <think> b ",
        "<think>",
        "</s>x ",
        "<s>a </s> b ",
        "<|",
        "<|a|> b ",
    ),
    *(
        "[Hard Rule]" + "-" * 24,
        "[Hard Rule]\\n",
        "(Hard Rule) ",
        "<Hard Rule>",
        "[[[[Hard Rule",
        "**[Hard Rule]**",
        "=" * 85 + "[Hard Rule]",
    ),
    *(
        "A. ",
        "i) ",
        "①",
        "1\u20e3",
        "一、",
        "第一",
        "Criterion 1: ",
        "#1 ",
        "1.1 ",
        "- [ ] ",
        "🔹 ",
        "| ",
        "\\n",
        "<br>",
        "\\n1. ",
        "&#1",
    ),
    *(
        "A. Rhyme\n",
        "1. Rhyme [Hard Rule]\n",
        "1. **Rhyme** [Hard Rule]\n   - a b c d\n",
        "some words without an end\n",
    ),
    *(
        "Hard Rules (",
        "## Hard Rules\n",
        "?" * 159 + "\n",
        "**a\n",
        "Human: ",
        "Assistant: x\n",
        "- x y z w\n",
        "<answer>",
        "<a b>\n",
    ),
    *(
        "1. The response must be x.\n   - a\n",
        "x. [Hard Rule] y. [Principle] ",
        "[Hard Rule",
        "Hard Rule ",
        "x Hard Rule\n",
    ),
    *(
        "x. Hard Rules: 1. y. ",
        "Hard Rules: ",
        "Type: [Hard Rule] ",
        "$\\text{[Hard Rule]}",
        "a 1 (b) The response ",
        "[Hard Rule]user",
        "Hard&nbsp;",
    ),
)
HOSTILE_STARTS = (
    *("", "1. The response must be ", "[", "[Hard", "1. [Hard Rule]\n", "x."),
    *("<think>", "1. **Rhyme** [Hard Rule]\n", "<|im_end|>", "- ", "(", "some words without an end "),
)


@pytest.mark.parametrize("unit", HOSTILE_UNITS, ids=ascii)
def test_a_long_text_is_read_in_linear_time(unit: str) -> None:
    """The cap is far above a linear cost (a second at most) and far below a quadratic one (minutes)."""
    start = time.process_time()
    parse(unit * (MEGABYTE // 16 // len(unit)))
    for prefix in HOSTILE_STARTS[1:]:
        parse(prefix + unit * (MEGABYTE // 80 // len(unit)) + "x")
    assert time.process_time() - start < 4


def test_a_megabyte_is_streamed_in_linear_time() -> None:
    line = "1. The response must be x. [Hard Rule]\n"
    start = time.process_time()
    reader = RubricReader()
    num_given = sum(len(reader.feed(line)) for _ in range(MEGABYTE // len(line)))
    for _ in range(MEGABYTE // 2):
        reader.feed("x")
    reader.finish()
    assert num_given == MEGABYTE // len(line)
    assert time.process_time() - start < 10
