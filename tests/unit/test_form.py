"""The form of a rubric: one definition, and all that comes from it means the same."""

import json
import re
from functools import lru_cache
from pathlib import Path

import pytest
from form_reference import Reference
from gbnf import gbnf_matches
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import OptionInvalid, RubricMalformed
from rubricrm.rubric import form
from rubricrm.rubric.form import check_form, gbnf, regex
from rubricrm.rubric.rubric import parse

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "real_rubrics.jsonl"
HELD_OUT = ROOT / "export/rubricrm_export/calibrate/held_out_rubrics.jsonl"
FEW = 3  # items: enough for a first, a next and a last one

TEXTS = (
    "The response must rhyme.",
    "The response's tone is warm.",
    "The response, if short, is clear",
    "The response is under 3.5 pages (or 10:30 long).",
    "The response ends with the phrase: 'Any questions?'",
    'The response asks "Why?" and answers: it does not stop there.',
    "The response includes the keywords ‘cloud storage’ and ‘open-source’.",
    "The response names Zürich, 東京 and Москва 😀.",
    "The response holds the placeholder [address] and the list [[15, 6], [2, 5]].",
    "The response keeps a <= b, a -> b and i <5 for all i.",
    "The response uses `print(x)`, C++, C# or 100%",
    "The response is short. It ends with a question!",
)
OTHERS = (
    "Describe a character.",
    "The responses rhyme.",
    "The response",
    "The response ",
    "The response  rhymes.",
    "The response rhymes. 2. The response is short.",
    "The response rhymes: 2) it is short.",
    "The response rhymes. (Hard Rule) It is short.",
    "The response rhymes [Hard Rule].",
    "The response rhymes [principle] well.",
    "The response shows <think> blocks.",
    "The response ends.</think> It is short.",
    "The response ends.<|im_end|>",
    "The response uses \\n as a break.",
    "The response has\ta tab.",
    "The response hides a zero\u200bwidth space.",
    "The response holds \ufffd.",
    "The response is -",
    "The response is:",
)


def rubric_of(*texts: str) -> str:
    tags = ("[Hard Rule]", "[Principle]")
    return "\n".join(f"{number}. {text} {tags[number % 2]}" for number, text in enumerate(texts, 1))


@lru_cache
def compiled(max_items: int = FEW) -> re.Pattern[str]:
    return re.compile(regex(max_items))


def is_in_form(text: str, max_items: int = FEW) -> bool:
    """What all that comes from the definition says of a text; they must agree."""
    try:
        check_form(text, max_items)
        strict = True
    except RubricMalformed:
        strict = False
    assert strict == (compiled(max_items).fullmatch(text) is not None) == gbnf_matches(gbnf(max_items), text)
    return strict


def assert_read_whole(text: str) -> None:
    rubric = parse(text, strict=True)
    assert [issue for issue in rubric.issues if issue.code != "repetition"] == []
    lines = text.removesuffix("\n").split("\n")
    assert [f"{c.number}. {c.text} {c.kind.tag}" for c in rubric.criteria if c.kind] == [
        line.rstrip(" ") for line in lines
    ]
    assert parse(text) == rubric


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_a_criterion(text: str) -> None:
    for whole in (rubric_of(text), rubric_of(text, text), rubric_of(text) + " ", rubric_of(text, text) + " \n"):
        assert is_in_form(whole)
        assert_read_whole(whole)


@pytest.mark.parametrize("text", OTHERS)
def test_what_is_none_or_more_than_one(text: str) -> None:
    assert not is_in_form(rubric_of(text))
    with pytest.raises(RubricMalformed, match=r"RUBRIC_MALFORMED: line 2 is '2\. .*expected \"2\. The response"):
        parse(rubric_of(TEXTS[0], text), strict=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        " " + rubric_of(TEXTS[0]),
        "2. The response rhymes. [Principle]",
        rubric_of(TEXTS[0]).replace("1", "01"),
        rubric_of(TEXTS[0], TEXTS[1]).replace("2.", "3."),
        rubric_of(TEXTS[0], TEXTS[1]).replace("\n", " "),
        rubric_of(TEXTS[0], TEXTS[1]).replace("\n", "\n\n"),
        rubric_of(TEXTS[0]) + "  ",
        rubric_of(TEXTS[0]) + "\n\n",
        rubric_of(TEXTS[0]).lower(),
        rubric_of(TEXTS[0]) + "\n2. The response",
        rubric_of(*TEXTS[: FEW + 1]),
    ],
    ids=repr,
)
def test_what_is_no_rubric_in_the_form(text: str) -> None:
    assert not is_in_form(text)


def test_the_number_of_items_is_bounded() -> None:
    twelve = rubric_of(*TEXTS)
    assert is_in_form(twelve, 12)
    assert not is_in_form(twelve, 11)
    for wrong in (0, 65):
        with pytest.raises(OptionInvalid, match=f"max_items must be from 1 to 64, got {wrong}"):
            regex(wrong)
        with pytest.raises(OptionInvalid):
            gbnf(wrong)


def test_no_dialect_needs_what_others_lack() -> None:
    pattern = regex()
    assert pattern.isascii()
    assert not re.search(r"\(\?[^:]|\\[wWsSdDbBAZz]|[{^$](?<!\\.)", pattern)
    assert max(map(len, gbnf().splitlines())) < 5000


@settings(max_examples=200, deadline=None)
@given(st.from_regex(re.compile(regex(FEW)), fullmatch=True))
def test_every_text_in_the_form_is_read_as_it_is(text: str) -> None:
    assert is_in_form(text)
    assert_read_whole(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_all_that_comes_from_the_definition_agrees_on_damaged_texts(data: st.DataObject) -> None:
    text = rubric_of(*data.draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=FEW)))
    at = data.draw(st.integers(0, len(text)))
    new = data.draw(
        st.text(st.characters(codec="utf-8"), max_size=2) | st.sampled_from([" ", ".", ". ", "[", "]", "\n", "2"])
    )
    damaged = text[:at] + new + text[at + data.draw(st.integers(0, 2)) :]
    if is_in_form(damaged):
        assert_read_whole(damaged)


def test_the_reference_agrees() -> None:
    reference = Reference(form._rubric(FEW))
    for text in (*TEXTS, *OTHERS):
        read = reference.read(reference.start, b"", rubric_of(text).encode())
        assert (read is not None and reference.accepts(read[0]) and not read[1]) == is_in_form(rubric_of(text))


def test_every_rubric_that_the_demo_model_learned_from_is_in_the_form() -> None:
    from itertools import islice

    from corpus import pairs

    pattern = compiled(form.MAX_ITEMS)
    assert [pair.rubric for pair in islice(pairs(11), 2000) if pattern.fullmatch(pair.rubric) is None] == []


def test_held_out_rubrics_are_in_the_form() -> None:
    for line in HELD_OUT.read_text("utf-8").splitlines():
        assert_read_whole(json.loads(line)["rubric"])


# Figures and tables of papers, where the items lost "The response" or have it above them.
NOT_IN_THE_FORM = {"vivid_character", "negative_form"}


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"needs {PUBLISHED}")
def test_published_rubrics_are_in_the_form() -> None:
    """As a model writes them: a paper's table joins lines, a note wraps them, a single item has its number."""
    refused = set()
    for line in PUBLISHED.read_text("utf-8").splitlines():
        row = json.loads(line)
        text = re.sub(r"\] (?=\d+\. )", "]\n", re.sub(r"\n\s+", " ", row["rubric"]))
        if row["kind"].startswith("single item"):
            text = re.sub(r"^\d+", "1", text)
        if compiled(form.MAX_ITEMS).fullmatch(text) is None:
            refused.add(row["id"])
        else:
            assert_read_whole(text)
    assert refused == NOT_IN_THE_FORM
