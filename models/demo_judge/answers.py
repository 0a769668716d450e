"""Random answers that meet or miss given rules by little."""

import random
import re

import words
from pastes import capitalized
from phrases import Filler
from rules import RELATIONS, Rule

# Sentences by their number of words; longer ones are put together of two.
SHAPES = {
    1: ("{noun}", "{plurals}", "{name}"),
    2: ("{adj} {noun}", "{plurals} {verb}", "{noun} {noun}", "{adj} {plurals}", "{name} waits"),
    3: (
        "the {adj} {noun}",
        "{name} {story_verb} {plurals}",
        "{plurals} and {plurals}",
        "we {verb} it",
        "it was {adj}",
        "{verb} the {noun}",
        "a {noun} waits",
    ),
    4: (
        "the {noun} is {adj}",
        "{name} {story_verb} the {noun}",
        "{plurals} {verb} in {place}",
        "you can {verb} it",
        "I like the {noun}",
        "there are {adj} {plurals}",
        "{verb} it with {plurals}",
        "do not {verb} {plurals}",
    ),
    5: (
        "a {adj} {noun} {story_verb} {plurals}",
        "the {noun} was very {adj}",
        "{name} and {name} {verb} {plurals}",
        "we {verb} the {adj} {noun}",
        "my {noun} is in {place}",
        "it {story_verb} all the {plurals}",
        "this is a {adj} {noun}",
    ),
    6: (
        "the {noun} in {place} is {adj}",
        "{name} {story_verb} a {adj} {noun} today",
        "you should {verb} the {adj} {plurals}",
        "every {noun} of the {noun} {story_verb}",
        "there is a {noun} for {name}",
    ),
    7: (
        "the {adj} {noun} {story_verb} a {adj} {noun}",
        "when it is {adj} the {noun} {story_verb}",
        "{name} {story_verb} the {noun} of the {noun}",
        "I have {adj} {plurals} and a {noun}",
        "it is not the {noun} of {name}",
    ),
}
JOINTS = ("and", "but", "because", "so", "while", "when", "or")
END_MARKS = (".", ".", ".", ".", "!", "?")
END = re.compile(r"[.!?]")
WILD = ("{clause}", "{command}", "{np}", "{never}", "{everyday}", "{idea}", "{np} {preposition}")
WILD_SHARE = 0.4
COMMA_SHARE = 0.05
DECOY_SHARE = 0.25
NEAR_SHARE = 0.5


def phrase(f: Filler, size: int) -> list[str]:
    """Words that look like a sentence, exactly so many."""
    if f.rng.random() < WILD_SHARE:
        return wild(f, size)
    if size in SHAPES:
        return f.pick(*SHAPES[size]).split()
    first = f.rng.randint(2, min(7, size - 2))
    return [*phrase(f, first), f.rng.choice(JOINTS), *phrase(f, size - first - 1)]


def wild(f: Filler, size: int) -> list[str]:
    """The first words of what the demo's requests are made of: more kinds of words and numbers than in the shapes."""
    found: list[str] = []
    while len(found) < size:
        text = Filler(f.rng).pick(*WILD)
        found += [word for word in (word.strip(".,!?:;") for word in text.split()) if word and not END.search(word)]
    return found[:size]


def answer(rng: random.Random, rules: list[Rule], wanted: list[bool]) -> str:
    """An answer that mostly meets the rules which are wanted, and misses the others."""
    f = Filler(rng)
    counts = [pair for pair in zip(rules, wanted, strict=True) if pair[0].relation]
    rule, is_wanted = counts[0] if counts else (Rule("sentences", relation="at most", number=2), True)
    number = aimed(rng, rule, is_wanted)
    sizes = (
        split(rng, number) if rule.kind == "words" else [rng.choice((2, 3, 3, 4, 4, 5, 6, 7)) for _ in range(number)]
    )
    layout = {"lines": "lines", "items": "list"}.get(rule.kind, "prose")
    if not counts and rng.random() < 0.25:
        layout = rng.choice(("lines", "list"))
    if layout == "list":
        sizes = [rng.choice((1, 1, 2, 3, 4)) for _ in sizes]
    units = [phrase(f, size) for size in sizes]
    put_texts(f, units, rules, wanted)
    return laid_out(rng, units, layout, mark_of(rng, rules, wanted))


def aimed(rng: random.Random, rule: Rule, is_wanted: bool) -> int:
    """A number of units at which a count is met or missed, mostly by little."""
    numbers = [n for n in range(1, rule.number + 3) if RELATIONS[rule.relation](n, rule.number) == is_wanted]
    numbers = [n for n in numbers if abs(n - rule.number) < 7] or numbers or [rule.number]
    return rng.choices(numbers, [1 / (1 + abs(n - rule.number)) for n in numbers])[0]


def split(rng: random.Random, number: int) -> list[int]:
    """The sizes of sentences with so many words in all."""
    sizes = []
    while number > 0:
        size = min(number, rng.randint(2, 8))
        sizes.append(size)
        number -= size
    return sizes


def put_texts(f: Filler, units: list[list[str]], rules: list[Rule], wanted: list[bool]) -> None:
    """Puts quoted texts in the place of words: where they are wanted, and near misses where they are not."""
    taken: set[tuple[int, int]] = set()
    order = sorted(zip(rules, wanted, strict=True), key=lambda pair: pair[0].kind in ("word", "no_word"))
    for rule, is_wanted in order:
        if rule.kind not in ("begin", "end", "word", "no_word"):
            continue
        text = rule.text.split()
        if rule.kind in ("word", "no_word"):
            if is_wanted == (rule.kind == "word"):
                put(f.rng, units, text, taken)
            elif f.rng.random() < DECOY_SHARE:
                put(f.rng, units, near(f, text), taken)
        elif is_wanted or f.rng.random() < NEAR_SHARE:
            unit = 0 if rule.kind == "begin" else len(units) - 1
            shown = text if is_wanted else near(f, text)
            start = 0 if rule.kind == "begin" else max(0, len(units[unit]) - len(shown))
            units[unit][start : start + len(shown)] = shown
            taken |= {(unit, start + index) for index in range(len(shown))}


def put(rng: random.Random, units: list[list[str]], text: list[str], taken: set[tuple[int, int]]) -> None:
    """Puts a text where no other one stands, rather not at the beginning of a unit, where it would be capitalized."""
    places = [
        (unit, start)
        for unit, words_ in enumerate(units)
        for start in range(min(1, len(words_) - len(text)), len(words_) - len(text) + 1)
        if start >= 0 and not taken & {(unit, start + index) for index in range(len(text))}
    ]
    if places:
        unit, start = rng.choice(places)
        units[unit][start : start + len(text)] = text
        taken |= {(unit, start + index) for index in range(len(text))}


def near(f: Filler, text: list[str]) -> list[str]:
    """A text that differs in one word, or in the end of a word."""
    place = f.rng.randrange(len(text))
    word = text[place].rstrip(".,!?")
    other = f.pick("{noun}", "{adj}", "{name}")
    if f.rng.random() < 0.4 and len(word) > 4:
        other = word[: f.rng.randint(2, len(word) - 2)] + words.nonsense(f.rng)[-3:]
    if word[:1].isupper():
        other = capitalized(other)
    return [*text[:place], other, *text[place + 1 :]]


def mark_of(rng: random.Random, rules: list[Rule], wanted: list[bool]) -> str:
    """The answer's last mark."""
    for rule, is_wanted in zip(rules, wanted, strict=True):
        if rule.kind == "mark":
            return rule.text if is_wanted else rng.choice([mark for mark in ".!?" if mark != rule.text])
    return rng.choice(END_MARKS)


def laid_out(rng: random.Random, units: list[list[str]], layout: str, last_mark: str) -> str:
    """The units as sentences, lines or a list."""
    has_marks = layout == "prose" or rng.random() < 0.4 or last_mark == "?"
    has_capitals = layout == "prose" or rng.random() < 0.7
    texts = []
    for index, unit in enumerate(units):
        text = " ".join(w + "," if rng.random() < COMMA_SHARE and i < len(unit) - 1 else w for i, w in enumerate(unit))
        text = text.rstrip(".,!?") if has_marks else text
        is_last = index == len(units) - 1
        mark = last_mark if is_last else rng.choice(END_MARKS) if layout == "prose" else rng.choice((".", ",", "."))
        texts.append((capitalized(text) if has_capitals else text) + (mark if has_marks else ""))
    if layout == "prose":
        return " ".join(texts)
    if layout == "lines":
        return "\n".join(texts)
    mark = rng.choice(("- ", "- ", "* ", "{}. "))
    return "\n".join(mark.format(number) + text for number, text in enumerate(texts, 1))
