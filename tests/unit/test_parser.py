"""Kinds of deviations, each in many members: whatever the member, the same two criteria are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.rubric.rubric import Kind, Rubric, RubricReader, parse

RHYMES, VIVID, SHORT = "The response must rhyme.", "The response should be vivid.", "The response must be short."
WANTED = [(RHYMES, Kind.HARD_RULE), (VIVID, Kind.PRINCIPLE)]
THREE = [(RHYMES, Kind.HARD_RULE), (SHORT, Kind.HARD_RULE), (VIVID, Kind.PRINCIPLE)]
LIST = f"1. {RHYMES} [Hard Rule]\n2. {VIVID} [Principle]\n"
DRAFT = "1. The response must be a draft. [Hard Rule]\n2. It is one, too. [Principle]\n"


def found(rubric: Rubric) -> list[tuple[str, Kind | None]]:
    return [(criterion.text, criterion.kind) for criterion in rubric.criteria]


def codes(rubric: Rubric) -> set[str]:
    return {issue.code for issue in rubric.issues}


# ---- thoughts ----

THOUGHTS = (
    "think",
    "Thinking",
    "REASONING",
    "analysis",
    "thought",
    "scratchpad",
    "reflection",
    "seed:think",
    "inner_thoughts",
)
THOUGHT_TEXTS = (
    "<{0}>\n{1}</{0}>\n\n{2}",
    "<{0}>{1}</{0}>{2}",
    '<{0} effort="high" n=1>\n{1}</{0}>\n{2}',
    "{1}</{0}>\n\n{2}",
    "Let me draft.\n{1}That will do.</{0}>{2}",
    "{1}That will do </{0}>\n{2}",
    "Sure.\n<{0}>\n{1}</{0}>\n{2}",
    "Sure. <{0}>\n{1}</{0}>\n{2}",
    "<{0}>\n<{0}>\n{1}</{0}>\n{2}",
    "<{0}>\n{1}<{0}>\n{1}</{0}>\n{1}</{0}>\n{2}",
    "<{0}>\n{1}</{0}>\n<{0}>\n{1}</{0}>\n{2}",
    "<{0}>\nI close with `</{0}>` here.\n{1}</{0}>\n{2}",
    '<{0}>\nI close with "</{0}>", so:\n{1}</{0}>\n{2}',
    "<{0}>\nI close with </{0}> and go on.\n{1}</{0}>\n{2}",
    "<{0}/>\n{2}",
    "&lt;{0}&gt;\n{1}&lt;/{0}&gt;\n{2}",
)


@pytest.mark.parametrize("name", THOUGHTS)
@pytest.mark.parametrize("form", THOUGHT_TEXTS)
def test_no_thought_is_a_criterion(name: str, form: str) -> None:
    text = form.format(name, DRAFT, LIST)
    for starts_in_thought in (False, "{1}" in form):
        rubric = parse(text, starts_in_thought=starts_in_thought)
        assert found(rubric) == WANTED
        assert "think_block" in codes(rubric)


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts_between_items(name: str) -> None:
    first, second = LIST.splitlines()
    assert found(parse(f"{first}\n<{name}>\n{DRAFT}</{name}>\n{second}\n")) == WANTED
    assert found(parse(f"{first} <{name}>hm, 2. The response must x. [Hard Rule]</{name}> {second}\n")) == WANTED


@pytest.mark.parametrize("text", [DRAFT, f"<think>\n{DRAFT}", f"<reasoning>{LIST}", f"{LIST}</think>\n"])
def test_a_thought_alone_holds_no_criteria(text: str) -> None:
    rubric = parse(text, starts_in_thought=text == DRAFT)
    assert rubric.criteria == ()
    assert codes(rubric) == {"think_block", "no_criteria"}


@pytest.mark.parametrize("opening", ["[THINK]", "◁think▷", "<|begin_of_thought|>", "<|START_THINKING|>"])
def test_tokens_of_thoughts(opening: str) -> None:
    closing = {"[THINK]": "[/THINK]", "◁think▷": "◁/think▷", "<|begin_of_thought|>": "<|end_of_thought|>"}
    end = closing.get(opening, "<|END_THINKING|>")
    assert found(parse(f"{opening}\n{DRAFT}{end}\n{LIST}")) == WANTED
    assert found(parse(f"{DRAFT}{end}\n{LIST}")) == WANTED


@pytest.mark.parametrize(
    "sentence",
    [
        *(
            "The response must not show <{}> blocks.",
            "The response must not show </{}> tags.",
            "The response may end </{}>.",
        ),
        *(
            "The response must write `<{}>` and `</{}>`.",
            "The response must say “</{}>” and rhyme.",
            "Never write <{}>, please.",
        ),
    ],
)
@pytest.mark.parametrize("name", THOUGHTS)
def test_words_about_thoughts_are_text(name: str, sentence: str) -> None:
    sentence = sentence.replace("{}", name)
    rubric = parse(f"1. {sentence} [Hard Rule]\n2. {VIVID} [Principle]")
    assert found(rubric) == [(sentence, Kind.HARD_RULE), WANTED[1]]
    assert "think_block" not in codes(rubric)


def test_a_stream_takes_back_what_was_thought() -> None:
    reader = RubricReader()
    draft = reader.feed(DRAFT)
    assert [criterion.text for criterion in draft] == ["The response must be a draft.", "It is one, too."]
    assert (reader.feed("</think>"), reader.num_taken_back) == ([], 0)  # the tag's line is not complete
    assert (reader.feed("\n"), reader.num_taken_back) == ([], 2)
    assert [criterion.text for criterion in reader.feed(LIST)] == [RHYMES, VIVID]
    rest, rubric = reader.finish()
    assert (rest, found(rubric), reader.num_taken_back) == ([], WANTED, 2)


def test_a_stream_that_starts_in_a_thought_gives_out_nothing_too_early() -> None:
    reader = RubricReader(starts_in_thought=True)
    assert reader.feed(DRAFT + "</think>\n") == []
    assert [criterion.text for criterion in reader.feed(LIST)] == [RHYMES, VIVID]
    assert reader.num_taken_back == 0


# ---- joints ----

ESCAPED = ("\\n", "\\r\\n", "\\n\\n", "\\\\n", "<br>", "<br/>", " <br /> ", "</p><p>", "&#10;")
SEPARATORS = (
    "",
    " ",
    "  ",
    "\t",
    "; ",
    ", ",
    ", and ",
    " and ",
    " | ",
    " || ",
    " • ",
    " · ",
    " / ",
    " - ",
    " — ",
    " → ",
    " *** ",
    ".",
    "。",
)


@pytest.mark.parametrize("joint", [*ESCAPED, *SEPARATORS])
@pytest.mark.parametrize("number", ["{}. ", "{}) ", "({}) ", "**{}.** ", "{} - ", "#{}: ", "Criterion {}: "])
def test_joined_items(number: str, joint: str) -> None:
    rubric = parse(f"{number.format(1)}{RHYMES} [Hard Rule]{joint}{number.format(2)}{VIVID} [Principle]{joint}")
    assert found(rubric) == WANTED
    assert "joined_line" in codes(rubric)


@pytest.mark.parametrize("joint", [*ESCAPED, "; ", " | ", " • "])
def test_joined_items_without_numbers_or_full_stops(joint: str) -> None:
    assert found(parse(f"{RHYMES} [Hard Rule]{joint}{VIVID} [Principle]")) == WANTED
    rubric = parse(f"1. Rhyme [Hard Rule]{joint}2. Be vivid [Principle]")
    assert found(rubric) == [("Rhyme", Kind.HARD_RULE), ("Be vivid", Kind.PRINCIPLE)]
    rubric = parse(f"Rhyme well [Hard Rule]{joint}Be vivid [Principle]")
    assert rubric.criteria == () or [kind for _, kind in found(rubric)] == [Kind.HARD_RULE, Kind.PRINCIPLE]


@pytest.mark.parametrize("joint", ESCAPED)
def test_escaped_texts(joint: str) -> None:
    lines = ("Here it is:", "### Hard Rules", f"1. {RHYMES}", f"2. {SHORT}", "### Principles", f"3. {VIVID}", "")
    rubric = parse(joint.join(lines))
    assert found(rubric) == THREE
    assert "joined_line" in codes(rubric)


def test_two_tags_of_two_sentences_are_never_one_item() -> None:
    for joint, sentence in itertools.product(
        (" ", ", ", "; and "), ("Be vivid.", "Vividness counts.", "回答应当生动。")
    ):
        rubric = parse(f"1. {RHYMES} [Hard Rule]{joint}{sentence} [Principle]")
        assert found(rubric)[0] == WANTED[0]
        assert codes(rubric) >= {"joined_line"}


# ---- the end of the answer ----

TOKENS = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "</s>",
    "<end_of_turn>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|im_start|>",
)
AFTER_THE_END = (
    "{}1. The response must be JSON. [Hard Rule]\n",
    " {} 3. The response must be JSON. [Hard Rule]\n",
    "\n{}\n3. The response must be JSON. [Hard Rule]\n",
    "\n{}user\nMore\n{}assistant\n3. The response must be JSON. [Hard Rule]\n",
)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("after", AFTER_THE_END)
def test_a_control_token_ends_the_answer(token: str, after: str) -> None:
    text = LIST.rstrip() + after.replace("{}", token)
    rubric = parse(text)
    assert found(rubric) == WANTED
    assert {"wrapper", "trailing_text"} <= codes(rubric)
    assert {issue.line for issue in rubric.issues} >= set(range(3, len(text.splitlines()) + 1))


@pytest.mark.parametrize("token", TOKENS)
def test_a_control_token_alone_is_reported(token: str) -> None:
    assert codes(parse(LIST.rstrip() + token)) == {"wrapper"}
    rubric = parse(f"1. {RHYMES} [Hard Rule]\n2. The response should be{token}The quick fox. [Principle]\n")
    assert found(rubric) == [WANTED[0], ("The response should be", None)]
    rubric = parse(f"1. The response must explain the {token} token. [Hard Rule]\n2. {VIVID} [Principle]\n")
    assert found(rubric) == [(f"The response must explain the {token} token.", Kind.HARD_RULE), WANTED[1]]


@pytest.mark.parametrize(
    "start",
    [
        *(
            "<|im_start|>assistant\n",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<s>",
            "<bos><start_of_turn>model\n",
        ),
        *(
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
            "<｜Assistant｜>",
            "Assistant: ",
            "assistant\n",
            "### Response:\n",
        ),
    ],
)
def test_what_starts_the_answer(start: str) -> None:
    rubric = parse(start + LIST)
    assert found(rubric) == WANTED
    assert codes(rubric) <= {"wrapper", "think_block"}


@pytest.mark.parametrize(
    "turn", ["Human:", "User:", "USER:", "**User:**", "### Human:", "### Instruction:", "user", "用户："]
)
@pytest.mark.parametrize("before", ["\n", "\n\n"])
def test_the_next_turn_is_no_rubric(turn: str, before: str) -> None:
    answer = "Assistant: 1. The response must be JSON. [Hard Rule]\n3. x. [Principle]"
    rubric = parse(f"{LIST.rstrip()}{before}{turn}\nWrite another\n{answer}")
    assert found(rubric) == WANTED
    assert codes(rubric) == {"trailing_text"}


# ---- marks and wrapped lines ----

MARKS = (
    *(("A.", "B."), ("a)", "b)"), ("(i)", "(ii)"), ("I.", "II."), ("①", "②"), ("❶", "❷"), ("⑴", "⑵"), ("1️⃣", "2️⃣")),
    *(
        ("Criterion 1:", "Criterion 2:"),
        ("**Rule 1** -", "**Rule 2** -"),
        ("Item 1.", "Item 2."),
        ("#1", "#2"),
        ("١.", "٢."),
    ),
    *(
        ("一、", "二、"),
        ("（一）", "（二）"),
        ("第一条", "第二条"),
        ("标准一：", "标准二："),
        ("１．", "２．"),
        ("1.1", "1.2"),
    ),
    *(
        ("- [ ] 1.", "- [x] 2."),
        ("- [ ]", "- [ ]"),
        ("[1]", "[2]"),
        ("1 -", "2 -"),
        ("🔹", "🔹"),
        ("### Criterion 1:", "### Criterion 2:"),
    ),
    *(
        ("α)", "β)"),
        ("а)", "б)"),
        ("No. 1:", "No. 2:"),
        ("Criterion One:", "Criterion Two:"),
        ("※甲", "※乙"),
        ("Erstens:", "Zweitens:"),
    ),
)


@pytest.mark.parametrize(("first", "second"), MARKS)
def test_marks_and_lines(first: str, second: str) -> None:
    is_known = first[0] not in "※E"
    left = (f"{first} ", f"{second} ") if not is_known else ("", "")
    rubric = parse(f"{first} {RHYMES} [Hard Rule]\n{second} {VIVID} [Principle]\n")
    assert found(rubric) == [(left[0] + RHYMES, Kind.HARD_RULE), (left[1] + VIVID, Kind.PRINCIPLE)]
    assert ("not_the_response" in codes(rubric)) != is_known
    assert "numbering_style" in codes(rubric)
    rubric = parse(
        f"{first} The response must rhyme in every\n   second line. [Hard Rule]\n"
        f"{second} The response should name Paris and\nLondon. [Principle]\n"
    )
    assert found(rubric) == [
        (f"{left[0]}The response must rhyme in every second line.", Kind.HARD_RULE),
        (f"{left[1]}The response should name Paris and London.", Kind.PRINCIPLE),
    ]


# ---- headings and titles ----

HEADINGS = (
    *(
        ("## Hard Rules (2)", "## Principles (1)"),
        ("### 1. Hard Rules", "### 2. Principles"),
        ("I. Hard Rules", "II. Principles"),
    ),
    *(
        ("## 硬性规则", "## 原则"),
        ("**一、硬性规则（2条）**", "**二、原则**"),
        ("【硬性规则】", "【原则】"),
        ("A. Hard Rules:", "B. Principles:"),
    ),
    *(
        ("HARD RULES", "PRINCIPLES"),
        ("# Part 1: Hard Rules", "# Part 2: Principles"),
        ("--- Hard Rules ---", "--- Principles ---"),
    ),
    *(
        ("<h3>Hard Rules</h3>", "<h3>Principles</h3>"),
        ("🔒 Hard Rules", "💡 Principles"),
        ("> **Hard Rules**", "> **Principles**"),
    ),
    *(
        ("Hard Rules:\n---", "Principles:\n---"),
        ("**Hard Rules** – from the request", "**Principles** – good practice"),
    ),
    *(
        ("- **Hard Rules:**", "- **Principles:**"),
        ("Hard Rules: 2 items", "Principles: 1 item"),
        ("[Hard Rules]", "[Principles]"),
    ),
)


@pytest.mark.parametrize(("first", "second"), HEADINGS)
@pytest.mark.parametrize(
    "numbers", [("1. ", "2. ", "3. "), ("1. ", "2. ", "1. "), ("- ", "- ", "- "), ("A. ", "B. ", "C. ")]
)
@pytest.mark.parametrize("blank", ["", "\n"])
def test_headings_that_carry_the_kind(first: str, second: str, numbers: tuple[str, ...], blank: str) -> None:
    one, two, three = (f"{number}{text}\n" for number, text in zip(numbers, (RHYMES, SHORT, VIVID), strict=True))
    rubric = parse(f"{first}\n{blank}{one}{two}{blank}{second}\n{blank}{three}")
    assert found(rubric) == THREE
    assert codes(rubric) >= {"heading", "tag_style"}


SECTIONS = (
    ("## Form", "## Style"),
    ("### 1. Form", "### 2. Style"),
    ("**Form**", "**Style**"),
    ("Form:", "Style:"),
    ("I. Form", "II. Style"),
    ("Part 1: Form", "Part 2: Style"),
)


@pytest.mark.parametrize(("first", "second"), SECTIONS)
@pytest.mark.parametrize("tags", [("[Hard Rule]", "[Hard Rule]", "[Principle]"), ("", "", "")])
def test_headings_of_sections_are_in_no_text(first: str, second: str, tags: tuple[str, ...]) -> None:
    texts = (RHYMES, SHORT, VIVID)
    one, two, three = (f"{number}. {text} {tag}\n" for number, text, tag in zip((1, 2, 3), texts, tags, strict=True))
    assert [text for text, _ in found(parse(f"{first}\n{one}{two}{second}\n{three}"))] == list(texts)


TITLES = (
    *(
        ("1. **Rhyme** [Hard Rule]", "2. **Imagery** [Principle]"),
        ("### 1. Rhyme [Hard Rule]", "### 2. Imagery [Principle]"),
    ),
    *(
        ("**1. Rhyme** [Hard Rule]", "**2. Imagery** [Principle]"),
        ("**1. Rhyme [Hard Rule]**", "**2. Imagery [Principle]**"),
    ),
    *(("1. Rhyme [Hard Rule]", "2. Imagery [Principle]"), ("1. [Hard Rule] **Rhyme**", "2. [Principle] **Imagery**")),
    *(
        ("A. **Rhyme:** (Hard Rule)", "B. **Imagery:** (Principle)"),
        ("**Rhyme** [Hard Rule]", "**Imagery** [Principle]"),
    ),
    *(
        ("1. 押韵 [硬性规则]", "2. 生动 [原则]"),
        ("### Criterion 1: Rhyme [Hard Rule]", "### Criterion 2: Imagery [Principle]"),
    ),
)


@pytest.mark.parametrize(("first", "second"), TITLES)
@pytest.mark.parametrize("lead", ["\n   ", "\n", "\n\n", "\n   - "])
def test_a_description_belongs_to_its_title(first: str, second: str, lead: str) -> None:
    rubric = parse(f"{first}{lead}{RHYMES}\n{second}{lead}{VIVID}\n")
    assert found(rubric) == WANTED
    assert "heading" in codes(rubric)


# ---- tags ----

TAGS = (
    *(
        "**[{}]**",
        "***[{}]***",
        "_[{}]_",
        "`[{}]`",
        "**`[{}]`**",
        "~~[{}]~~",
        "[**{}**]",
        "[`{}`]",
        "[[{}]]",
        "\\[{}\\]",
        "\\[\\[{}\\]\\]",
    ),
    *(
        "<strong>[{}]</strong>",
        "<em>[{}]</em>",
        '<span class="tag">[{}]</span>',
        "<b><i>[{}]</i></b>",
        "【{}】",
        "［{}］",
        "〔{}〕",
    ),
    *(
        "({})",
        "（{}）",
        "{{{}}}",
        "<{}>",
        "〈{}〉",
        "[ {} ]",
        "[{}].",
        "[{}]:",
        "[{}](#tags)",
        "- [{}]",
        "— [{}]",
        "→ [{}]",
        "| [{}]",
    ),
    *("[{} 1]", "**{}**", "— {}", "<br>[{}]", "\\n[{}]", "[{}]\\n", "&nbsp;[{}]"),
)
NAMES = (("Hard Rule", "Principle"), ("HARD RULES", "PRINCIPLES"), ("硬性规则", "原则"))


@pytest.mark.parametrize("form", TAGS)
@pytest.mark.parametrize(("hard_rule", "principle"), NAMES)
def test_tags_leave_no_debris(form: str, hard_rule: str, principle: str) -> None:
    one, two = form.format(hard_rule), form.format(principle)
    for gap in (" ", "" if "*" not in form[:1] else " "):
        rubric = parse(f"1. {RHYMES}{gap}{one}\n2. {VIVID}{gap}{two}\n")
        assert found(rubric) == WANTED
        assert codes(rubric) == {"tag_style"}
    if form[0] not in "-—→|&\\<" or form.startswith("<{"):
        assert found(parse(f"1. {one} {RHYMES}\n2. {two} {VIVID}\n")) == WANTED
        assert found(parse(f"{one}: {RHYMES}\n{two}: {VIVID}\n")) == WANTED


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The response must name the law (principle) of Ohm.",
            "The response must follow its principles.",
            "The response is a <b>bold</b> one.",
        ),
        *(
            "The response must tell a rule from a principle.",
            "The response must end with “Principle”.",
            "The response must use 【marks】.",
        ),
        *(
            "The response must list A. Smith, B. Jones and C. Brown.",
            "The response must cite 1.1 and [2].",
            "The response must use \\n twice.",
        ),
        *(
            "The response must follow rule 2. It is short.",
            "The response must have User: and Assistant: turns.",
            "The response uses a | b.",
        ),
        *(
            "The response must use $x_1 * y_2$.",
            "The response must use C:\\new\\temp.",
            "The response must show <s>old</s> prices.",
        ),
    ],
)
def test_text_is_not_damaged(text: str) -> None:
    rubric = parse(f"1. {text} [Hard Rule]\n2. {VIVID} [Principle]\n")
    assert (found(rubric), rubric.issues) == ([(text, Kind.HARD_RULE), WANTED[1]], ())
    words = text.split(" ")
    for place in range(3, len(words)):
        wrapped = f"{' '.join(words[:place])}\n   {' '.join(words[place:])}"
        assert found(parse(f"1. {wrapped} [Hard Rule]\n2. {VIVID} [Principle]\n")) == [
            (text, Kind.HARD_RULE),
            WANTED[1],
        ]


# ---- where a text was cut ----


@pytest.mark.parametrize(
    "end", ["", ".", "!", "。", "؟", "।", ". [Gut]", ". (good)", "。【好】", " [Princ", ". [", ". **[Pri"]
)
@pytest.mark.parametrize("line_break", ["", "\n"])
def test_truncated_means_truncated(end: str, line_break: str) -> None:
    rubric = parse(f"1. {RHYMES} [Hard Rule]\n2. The response should be vivid{end}{line_break}")
    is_cut = end in ("", " [Princ", ". [", ". **[Pri")
    assert ("truncated" in codes(rubric), "missing_tag" in codes(rubric)) == (is_cut, not is_cut)
    assert rubric.criteria[1].text == "The response should be vivid" + (end if not is_cut else end[:1].strip())


# ---- all of them together ----

SENTENCES = (
    RHYMES,
    VIVID,
    SHORT,
    "The response must name Paris.",
    "The response should use pictures.",
    "The response ends well.",
)
NUMBERED: tuple[Callable[[int], str], ...] = (
    *("{}. ".format, "{}) ".format, "({}) ".format, "**{}.** ".format, "[{}] ".format, "{} - ".format, "#{} ".format),
    *("Criterion {}: ".format, "1.{} ".format, "{}\ufe0f\u20e3 ".format, lambda n: f"{'ABCDEF'[n - 1]}. "),
    *(lambda n: f"{('i', 'ii', 'iii', 'iv', 'v', 'vi')[n - 1]}) ", lambda n: f"{'一二三四五六'[n - 1]}、"),
    *(lambda n: f"{chr(0x245F + n)} ", lambda _: "- ", lambda _: "• ", lambda _: ""),
)
TAGGED = ("[{}]", "**[{}]**", "({})", "【{}】", "[[{}]]", "`[{}]`", "<strong>[{}]</strong>", "<{}>", "— {}")
BETWEEN = ("\n", "\n\n", "\r\n", "\u2028", "\\n", " ", "; ", "<br>", " | ")
tagged_sentences = st.lists(st.sampled_from(SENTENCES), min_size=2, max_size=6, unique=True).flatmap(
    lambda texts: st.lists(st.sampled_from(Kind), min_size=len(texts), max_size=len(texts)).map(
        lambda kinds: list(zip(texts, kinds, strict=True))
    )
)


@settings(max_examples=400)
@given(
    tagged_sentences,
    st.sampled_from(NUMBERED),
    st.sampled_from(TAGGED),
    st.sampled_from(BETWEEN),
    st.booleans(),
    st.sampled_from(("", "Here is the rubric:\n", "<think>\n" + DRAFT + "</think>\n", DRAFT + "</think>\n")),
    st.sampled_from(("", "\n<|im_end|>\n" + DRAFT, "\nHuman: more\n" + DRAFT)),
    st.randoms(use_true_random=False),
)
def test_any_style_gives_the_same_criteria(
    rubric: list[tuple[str, Kind]],
    mark: Callable[[int], str],
    tag: str,
    between: str,
    tag_first: bool,
    before: str,
    after: str,
    random: Random,
) -> None:
    items = []
    for number, (sentence, kind) in enumerate(rubric, 1):
        name = tag.format("Hard Rule" if kind is Kind.HARD_RULE else "Principle")
        is_first = tag_first and not tag.startswith("—")
        items.append(mark(number) + (f"{name} {sentence}" if is_first else f"{sentence} {name}"))
    text = before + between.join(items) + after
    assert found(parse(text)) == rubric
    hidden = "".join(character + random.choice(("", "", "\u200b", "\u200e")) for character in text)
    assert found(parse(hidden)) == rubric
