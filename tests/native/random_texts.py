"""Texts for comparisons of the C++ parser with the Python one: rubrics, damaged in every way that may matter."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "real_rubrics.jsonl"

BREAKS = ("\n", "\n", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\n\n")
SPACES = (" ", "  ", "\t", "\x1f", "\xa0", "\u2003", "\u3000", "\u205f", "\u1680")
HIDDEN = (
    "\0", "\x07", "\x7f", "\x9f", "\u200b", "\u200c", "\u200d", "\u200e", "\u2066", "\ufeff", "\ufe0f",
    "\u180e", "\x1b[31m", "\x1b[", "\x1b]8;;x\x07", "\\x1b[0m", "\\e[1m", "^[[0m", "␛[m", "\xad", "\u034f",
    "\u0600", "\u06dd", "\u3164", "\u2800", "\U000e0067", "\U000e0101", "\u180b", "\U000110bd", "\ufff9",
    "\x9d", "\x9b",
)  # fmt: skip
CHARACTERS = (
    "e\u0301", "\u0301", "ß", "ẞ", "İ", "ı", "ſ", "K", "Å", "ŉ", "ǆ", "Σ", "ς", "ﬁ", "é", "ё", "京", "。", "？",
    "！", "：", "，", "👩\u200d🚀", "🏴\U000e0067\U000e0062\U000e007f", "🇩🇪", "1\ufe0f\u20e3", "🔟", "☀\ufe0f", "▪",
    "🔹", "✅", "→", "०", "٣", "７", "𝟏", "²", "½", "①", "⓪", "⑳", "㈠", "㊿", "Ⅳ", "ⅽ", "⑴", "⒈", "⒜", "Ⓐ", "🄐",
    "🅐", "🄁", "❶", "➓", "一", "十二", "贰", "〇", "第三条", "其二", "α", "б", "ב", "ب", "ก", "가", "ア", "甲",
    "Ａ", "ｚ",
    "\ufffd", "\U0010ffff", "नि\u200dक", "ക്\u200d", "葛\U000e0101", "ᠠ\u180b", "\u0600٣", "ﾄ", "ﬄ", "ǰ",
    "\u1e9e", "\U0001e900", "\U00010400",
)  # fmt: skip
MARKS = (
    "1. ", "2. ", "3) ", "(4) ", "- ", "* ", "**5.** ", "**6. ", "７．", "2024. ", "1", "0. ", "007. ",
    "999999999. ", "A. ", "ii) ", "IV. ", "Criterion 1: ", "Rule 2 - ", "#3 ", "一、", "1.1 ", "- [ ] ", "> ",
    "### 4. ", "Step 3: ", "[2] ", "<3> ", "\\[4\\] ", "2\\. ", "<li>", "No. 7: ", "Hard Rule 1: ",
    "principle #2. ", "six. ", "Dimension 2 (x): ",
)  # fmt: skip
TAGS = (
    " [Hard Rule]", " [Principle]", "[hard rules].", "**[Principle]**", '"[Hard Rule]"', "［Hard Rule］", "[Hard",
    "Rule]", "(Hard Rule)", "<Principle>", "[[Hard Rule]]", "【硬性规则】", "\\[原则\\]", "Hard Rule: ",
    " - Principle.", "{principle}", "[HARD_RULE, weight 3]", "[Prınciple]", "[PRİNCIPLE]", "[hard ruleſ]",
    "`[Principle]`", "[Type: Hard Rule]", "하드 룰", "[원칙]", "[Hard\nRule]", "[", "]", "$\\text{[Principle]}$",
    "<!-- [Hard Rule] -->", "Type: [Principle]", "[Gut]", "[ハードルール]",
)  # fmt: skip
OTHERS = (
    "The response", "the response must be short.", "The response's ", "THE RESPONSE ", "“The response",
    "**Rhyme**", "Note: ", "### Hard Rules\n", "**Principles:**", "2. Principles (3)\n",
    "Hard Rules - explicit ones\n", "---\n", "II. Form\n", "<think>", "</think>", "<reasoning a='b'>",
    "</Thinking>", "[THINK]", "◁/think▷", "<think/>", "&lt;/think&gt;", "```", "```text\n", "<rubric>",
    "</answer>", "<|im_end|>", "<|im_start|>user\n", "<s>", "</s>", "[INST]", "<｜end｜>", "Human:",
    "Assistant: ", "\nuser: ", "# Response\n", "用户：", "\\n", "\\n\\n", "<br>", "</p><p>", "&nbsp;", "&#10;",
    ", and ", " | ", " • ", ";", "word", "Reason:", ".", "?”", "1.5", "e.g. ", "=", "~", "_", "`", '"', "'",
    "’", "\\",
)  # fmt: skip
# Bytes that start a character, go on with one, and stand in none.
BYTES = (0xC0, 0xE2, 0xED, 0xA0, 0xF0, 0xF4, 0x80, 0xFF)
POOLS = (BREAKS, SPACES, HIDDEN, CHARACTERS, MARKS, TAGS, OTHERS)


@cache
def written_texts() -> tuple[str, ...]:
    """The texts of the shared cases and, where they lie beside the checkout, the published rubrics."""
    cases = sorted((ROOT / "tests" / "cases" / "rubric").glob("*.json"))
    texts = [json.loads(path.read_text(encoding="utf-8"))["text"] for path in cases]
    if PUBLISHED.is_file():
        texts += [json.loads(line)["rubric"] for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    # A lone surrogate is no text of UTF-8.
    return tuple(text.encode("utf-8", "replace").decode("utf-8") for text in texts)


def pieces(numbers: random.Random) -> str:
    return "".join(numbers.choice(numbers.choice(POOLS)) for _ in range(numbers.randint(0, 40)))


def any_character(numbers: random.Random) -> str:
    code = int(0x110000 ** numbers.random())
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(min(code, 0x10FFFF))


def insert(text: str, numbers: random.Random) -> str:
    at = numbers.randint(0, len(text))
    new = any_character(numbers) if numbers.random() < 0.2 else numbers.choice(numbers.choice(POOLS))
    return text[:at] + new + text[at:]


def delete(text: str, numbers: random.Random) -> str:
    at = numbers.randint(0, len(text))
    return text[:at] + text[at + numbers.randint(1, 12) :]


def splice(text: str, numbers: random.Random) -> str:
    other = numbers.choice(written_texts())
    return text[: numbers.randint(0, len(text))] + other[numbers.randint(0, len(other)) :]


def repeat(text: str, numbers: random.Random) -> str:
    start = numbers.randint(0, len(text))
    end = min(len(text), start + numbers.randint(1, 120))
    return text[:end] + text[start:end] * numbers.randint(1, 3) + text[end:]


def rebreak(text: str, numbers: random.Random) -> str:
    return text.replace("\n", numbers.choice((*BREAKS, " ", "", "\\n", "<br>", " | ")))


def recase(text: str, numbers: random.Random) -> str:
    return numbers.choice((str.upper, str.lower, str.title, str.swapcase))(text)


def renumber(text: str, numbers: random.Random) -> str:
    digits = numbers.choice(
        ("０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "⓪①②③④⑤⑥⑦⑧⑨", "jabcdefghi", "〇一二三四五六七八九", "1234567890")
    )
    return text.translate({ord("0") + value: digit for value, digit in enumerate(digits)})


CHANGES = (insert, insert, insert, insert, delete, delete, splice, splice, repeat, rebreak, recase, renumber)


def random_texts(count: int, seed: int) -> Iterator[str]:
    """So many texts; the same for the same seed."""
    numbers = random.Random(seed)
    for _ in range(count):
        text = pieces(numbers) if numbers.random() < 0.25 else numbers.choice(written_texts())
        for _ in range(numbers.randint(0, 8)):
            text = numbers.choice(CHANGES)(text, numbers)
        yield text[:4000]


def random_bytes(count: int, seed: int) -> Iterator[bytes]:
    """Texts of UTF-8, some of whose bytes are changed, added or taken away."""
    numbers = random.Random(seed)
    for text in random_texts(count, seed):
        data = bytearray(text.encode("utf-8"))
        for _ in range(numbers.randint(1, 6)):
            at = numbers.randint(0, len(data))
            data[at : at + numbers.randint(0, 2)] = bytes(numbers.choices(BYTES, k=numbers.randint(0, 3)))
        yield bytes(data)
