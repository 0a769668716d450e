"""Templates with slots, and the random phrases that fill the slots.

A template may hold alternatives, `(one|the other)`, and slots, `{kind}` or `{name:kind}`. A named slot keeps its
text for the rest of the pair, so a rule that writes `{name}` repeats exactly what the request says.
"""

import random
import re
from collections.abc import Callable

import words

ALTERNATIVES = re.compile(r"\(([^()|]*(?:\|[^()|]*)+)\)")
SLOT = re.compile(r"\{(?:(\w+):)?(\w+)\}")
NONSENSE_SHARE = 0.36
RANGE_SHARE = 0.22


class Filler:
    """Fills templates, and remembers the named slots of one pair."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bound: dict[str, str] = {}

    def fill(self, template: str) -> str:
        """The template with its alternatives chosen and its slots filled."""
        while (chosen := ALTERNATIVES.sub(self._choose, template)) != template:
            template = chosen
        return SLOT.sub(self._slot, template)

    def pick(self, *templates: str) -> str:
        """One of the templates, filled."""
        return self.fill(self.rng.choice(templates))

    def _choose(self, match: re.Match[str]) -> str:
        return self.rng.choice(str(match[1]).split("|"))

    def _slot(self, match: re.Match[str]) -> str:
        name, kind = match.groups()
        if name is None and kind in self.bound:
            return self.bound[kind]
        value = SLOTS[kind](self)
        if name is not None:
            self.bound[name] = value
        return value


def noun(f: Filler) -> str:
    return words.nonsense(f.rng) if f.rng.random() < NONSENSE_SHARE else f.rng.choice(words.NOUNS)


def adjective(f: Filler) -> str:
    return words.nonsense(f.rng) if f.rng.random() < NONSENSE_SHARE / 2 else f.rng.choice(words.ADJECTIVES)


def plurals(f: Filler) -> str:
    return words.plural(noun(f))


def name(f: Filler) -> str:
    return words.nonsense(f.rng).capitalize() if f.rng.random() < NONSENSE_SHARE else f.rng.choice(words.NAMES)


def place(f: Filler) -> str:
    return words.nonsense(f.rng).capitalize() if f.rng.random() < NONSENSE_SHARE else f.rng.choice(words.PLACES)


def language(f: Filler) -> str:
    return f.rng.choice(words.LANGUAGES)


def number(f: Filler) -> str:
    """A number of two to three digits, as limits have them."""
    if f.rng.random() < 0.6:
        return str(f.rng.choice((10, 25, 50)) * f.rng.randint(2, 30))
    return str(f.rng.randint(11, 999))


def large_number(f: Filler) -> str:
    return f.rng.choice(
        (str(f.rng.randint(1000, 99999)), f"{f.rng.randint(2, 900)},000", f"{f.rng.randint(2, 90)} million")
    )


def small_number(f: Filler) -> str:
    return str(f.rng.randint(2, 15))


def count(f: Filler) -> str:
    """A small number, in digits or as a word."""
    return f.rng.choice(words.NUMBER_WORDS) if f.rng.random() < 0.5 else str(f.rng.randint(2, 20))


def unit(f: Filler) -> str:
    if f.rng.random() < 0.25:
        return plurals(f)
    return f.rng.choice(words.UNITS).replace("_", " ")


def one_unit(f: Filler) -> str:
    return unit_singular(f.rng.choice(words.UNITS).replace("_", " "))


def unit_singular(text: str) -> str:
    return text[:-3] + "y" if text.endswith("ies") else text.removesuffix("s")


def number_range(f: Filler) -> str:
    low = f.rng.randint(2, 40) * f.rng.choice((1, 5, 10))
    high = low + f.rng.randint(1, 20) * f.rng.choice((1, 5, 10))
    return f.pick(f"{low} to {high}", f"{low} to {high}", f"between {low} and {high}", f"{low}-{high}")


def quantity(f: Filler) -> str:
    """A bound such as `no more than 150`, as the request and the rule both say it."""
    amount = number(f) if f.rng.random() < 0.5 else count(f)
    if f.rng.random() < RANGE_SHARE:
        return number_range(f)
    bounds = (
        "no more than",
        "at most",
        "under",
        "fewer than",
        "less than",
        "at least",
        "exactly",
        "up to",
        "around",
        "about",
        "more than",
        "only",
        "not more than",
        "a maximum of",
        "a minimum of",
        "precisely",
    )
    return f"{f.rng.choice(bounds)} {amount}" if f.rng.random() < 0.75 else amount


def simple_phrase(f: Filler) -> str:
    """A short noun phrase with an article."""
    kinds = (
        "{noun}",
        "{adj} {noun}",
        "{noun} {noun}",
        "{adj} {noun}",
        "{adj} {adj} {noun}",
        "{adj}-{noun} {noun}",
        "{noun} {noun} {noun}",
    )
    text = f.pick(*kinds)
    return f"the {text}" if f.rng.random() < 0.35 else words.with_article(text)


def gerunds(f: Filler) -> str:
    return words.gerund(f.rng.choice(words.VERBS))


def quoted(text: str, rng: random.Random) -> str:
    opening, closing = rng.choice(('""', '""', '""', "''", "“”", "‘’"))
    return opening + text + closing


def quoted_word(f: Filler) -> str:
    text = f.pick("{noun}", "{nonsense}", "{adj}", "{verb}", "{plurals}", "{name}", "{story_verb}", "{filler_word}")
    return quoted(text.capitalize() if f.rng.random() < 0.15 else text, f.rng)


def quoted_phrase(f: Filler) -> str:
    text = f.pick(
        "{adj} {noun}",
        "{clause}",
        "the {adj} {noun}",
        "{verb} the {noun}",
        "{noun} {noun}",
        "once upon {simple}",
        "{nonsense} {nonsense}",
        "thank you, {name}",
        "{filler_word} {noun}",
        "{noun} and {noun}",
    )
    return quoted(text[0].upper() + text[1:] if f.rng.random() < 0.4 else text, f.rng)


def clock(f: Filler) -> str:
    return f.pick(
        f"{f.rng.randint(1, 12)} (am|pm)", f"{f.rng.randint(6, 22)}:{f.rng.choice(('00', '15', '30', '45'))}", "noon"
    )


def words_of(options: list[str]) -> Callable[[Filler], str]:
    return lambda f: f.rng.choice(options)


def identifier(f: Filler) -> str:
    parts = [
        f.rng.choice((noun, noun, noun, lambda g: g.rng.choice(words.VERBS)))(f) for _ in range(f.rng.choice((1, 2, 2)))
    ]
    return "_".join(part.replace("-", "_") for part in parts)


def chinese_word(f: Filler) -> str:
    text = "".join(f.rng.choice(words.CHINESE_CHARACTERS) for _ in range(f.rng.choice((1, 2, 2))))
    return f.rng.choice(("“{}”", "「{}」", '"{}"')).format(text)


SLOTS: dict[str, Callable[[Filler], str]] = {
    "noun": noun,
    "plurals": plurals,
    "adj": adjective,
    "name": name,
    "place": place,
    "language": language,
    "number": number,
    "large": large_number,
    "small": small_number,
    "count": count,
    "unit": unit,
    "one_unit": one_unit,
    "quantity": quantity,
    "range": number_range,
    "simple": simple_phrase,
    "gerund": gerunds,
    "word": quoted_word,
    "phrase": quoted_phrase,
    "clock": clock,
    "identifier": identifier,
    "nonsense": lambda f: words.nonsense(f.rng),
    "verb": lambda f: words.nonsense(f.rng) if f.rng.random() < NONSENSE_SHARE / 3 else f.rng.choice(words.VERBS),
    "third": words_of(words.THIRD_PERSON),
    "story_verb": words_of(words.STORY_VERBS),
    "people": lambda f: plurals(f) if f.rng.random() < NONSENSE_SHARE else f.rng.choice(words.PEOPLE),
    "tone": words_of(words.TONES),
    "ordinal": words_of(words.ORDINALS),
    "plang": words_of(words.PROGRAMMING_LANGUAGES),
    "year": lambda f: str(f.rng.randint(1500, 2030)),
    "age": lambda f: f.rng.choice((str(f.rng.randint(4, 90)), f.rng.choice(words.NUMBER_WORDS))),
    "zh_word": chinese_word,
    "letter": lambda f: f.rng.choice("abcdefghijklmnopqrstuvwxyz"),
    "syllable": lambda f: f.rng.choice(words.FIRST_PIECES)[:3],
    "any_emoji": lambda f: words.emoji(f.rng),
    "emoticon": words_of(words.EMOTICONS),
    "strange": lambda f: words.strange(f.rng),
    "mash": lambda f: words.mashed(f.rng),
    "noise": lambda f: words.noise(f.rng),
    "marks": lambda f: f.rng.choice("?!.,;:-*#~") * f.rng.randint(1, 5),
}
