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
NONSENSE_SHARE = 0.16


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
        return self.rng.choice(match[1].split("|"))

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
    return f.rng.choice((str(f.rng.randint(1000, 99999)), f"{f.rng.randint(2, 900)},000", f"{f.rng.randint(2, 90)} million"))


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


def quantity(f: Filler) -> str:
    """A bound such as `no more than 150`, as the request and the rule both say it."""
    amount = number(f) if f.rng.random() < 0.5 else count(f)
    if f.rng.random() < 0.18:
        low = f.rng.randint(2, 40) * f.rng.choice((1, 5, 10))
        high = low + f.rng.randint(1, 20) * f.rng.choice((1, 5, 10))
        return f.pick(f"{low} to {high}", f"between {low} and {high}", f"{low}-{high}")
    bounds = ("no more than", "at most", "under", "fewer than", "less than", "at least", "exactly", "up to", "around",
              "about", "more than", "only", "not more than", "a maximum of", "a minimum of", "precisely")
    return f"{f.rng.choice(bounds)} {amount}" if f.rng.random() < 0.75 else amount


def amount_phrase(f: Filler) -> str:
    return f.pick("{quantity} {unit}", "{quantity} {unit}", "{quantity} {unit}", "(one|a single|only one|just one) {one_unit}")


def simple_phrase(f: Filler) -> str:
    """A short noun phrase with an article."""
    kinds = ("{noun}", "{adj} {noun}", "{noun} {noun}", "{adj} {noun}", "{adj} {adj} {noun}", "{adj}-{noun} {noun}")
    text = f.pick(*kinds)
    return f"the {text}" if f.rng.random() < 0.35 else words.with_article(text)


def noun_phrase(f: Filler) -> str:
    """Something that a command can ask for."""
    return f.pick(
        "{simple}", "{simple}", "{simple}", "{simple}", "the {noun} of (the {noun}|{place}|{plurals})", "{count} {plurals}",
        "{adj} {plurals}", "{plurals}", "{simple} for {people}", "(at least|at most|exactly|no more than) {count} {plurals}",
        "{simple} with {count} {plurals}", "{simple} about {topic}", "{simple} of {adj} {plurals}", "{adj} {noun}",
        "(two|three|four) {adj} (reason|quote|source|example|fact|step|detail)s for {simple}", "the {ordinal} {noun}", "{usual}", "{usual}", "{usual}",
        "{name}'s {noun}", "(any|all|some|both) {plurals}", "(each|every) {noun}", "the {noun} (and|or) the {noun}", "{noun} {plurals}",
        "the {noun} that {subject_verb}", "one {adj} {adj} {noun}", "{plurals} and {plurals}", "{simple} {preposition} {simple}",
    )


def topic(f: Filler) -> str:
    """What a text may be about."""
    return f.pick(
        "{simple}", "{simple} who {story_verb} {simple}", "{simple} that {story_verb} {simple}", "the {noun} of {place}",
        "{adj} {plurals}", "{plurals} and {plurals}", "{plurals} in {place}", "the {adj} {noun} of the {noun}", "{name} and {simple}",
        "{simple} in {place}", "{gerund} {plurals}", "{gerund} {simple} {preposition} {simple}", "(life|work|living|growing up) in {place}",
        "{noun} {plurals}", "the last {noun} on the {noun}", "two {plurals} who {verb} {plurals}", "{name}", "{nonsense}",
        "{adj} {noun} {plurals}", "the {ordinal} {noun} of the {noun}", "{simple} {preposition} {simple}", "{concept}",
    )


def subject_verb(f: Filler) -> str:
    return f.pick("{story_verb} {simple}", "{third} {plurals}", "{third} {simple}", "(is|was) {adj}", "{third} {noun} {plurals}")


def clause(f: Filler) -> str:
    """A statement that a text may have to mention."""
    return f.pick(
        "{simple} (is|was) {adj}", "the {noun} (is|was) {adj} and {adj}", "the {noun} {subject_verb}", "{plurals} are {adj}",
        "(we|they) {verb} {plurals}", "it is the {ordinal} {noun}", "{name} {story_verb} {simple}", "the {noun} starts at {clock}",
        "the {noun} (costs|cost) {number} (euros|dollars|pounds)", "the {noun} will be {adj} (by|until|on) {day}", "{place} is {adj}",
        "the {noun} has been {adj} for {count} (days|weeks|months|years)", "there (is|was) {simple}", "no {noun} is {adj}",
    )


def concept(f: Filler) -> str:
    """What an explanation may explain."""
    return f.pick(
        *CONCEPTS, "how {plurals} {verb} {plurals}", "how {simple} works", "why {plurals} are {adj}", "what {simple} is", "the {noun} {noun}",
        "the {name} {noun}", "{nonsense}", "{adj} {nonsense}", "{noun} {plurals}", "how to {verb} {simple}", "the {adj} {noun}",
        "{nonsense} {noun}", "the history of {plurals}", "the role of {plurals} in {plurals}", "how {simple} {subject_verb}",
        "the causes of the {adj} {noun} of {year}", "{adj} {plurals}", "the {nonsense} {noun}", "{noun} {nonsense}", "{noun}",
    )


CONCEPTS = (
    "inflation", "black holes", "how vaccines work", "recursion", "the water cycle", "plate tectonics", "supply and demand",
    "how DNS works", "blockchain", "the greenhouse effect", "natural selection", "the French Revolution", "entropy", "relativity",
    "quantum entanglement", "how batteries work", "the stock market", "public-key cryptography", "Bayes' theorem", "the Doppler effect",
    "mitosis", "how a bill becomes law", "the placebo effect", "game theory", "neural networks", "hash tables", "machine learning",
    "the immune system", "how rainbows form", "why leaves change color", "why the sea is salty", "tides", "evolution", "gravity",
    "how airplanes fly", "big O notation", "dependency injection", "containers", "version control", "the central limit theorem",
)


def gerunds(f: Filler) -> str:
    return words.gerund(f.rng.choice(words.VERBS))


def quoted(text: str, rng: random.Random) -> str:
    opening, closing = rng.choice(('""', '""', '""', "''", "“”", "‘’"))
    return opening + text + closing


def quoted_word(f: Filler) -> str:
    text = f.pick("{noun}", "{nonsense}", "{adj}", "{verb}", "{plurals}", "{name}", "{story_verb}", "{filler_word}")
    return quoted(text.capitalize() if f.rng.random() < 0.15 else text, f.rng)


def quoted_phrase(f: Filler) -> str:
    text = f.pick("{adj} {noun}", "{clause}", "the {adj} {noun}", "{verb} the {noun}", "{noun} {noun}", "once upon {simple}", "{nonsense} {nonsense}",
                  "thank you, {name}", "{filler_word} {noun}", "{noun} and {noun}")
    return quoted(text[0].upper() + text[1:] if f.rng.random() < 0.4 else text, f.rng)


def clock(f: Filler) -> str:
    return f.pick(f"{f.rng.randint(1, 12)} (am|pm)", f"{f.rng.randint(6, 22)}:{f.rng.choice(('00', '15', '30', '45'))}", "noon")


def choice_of(options: str) -> Callable[[Filler], str]:
    """A slot that draws from alternatives, written as `one|other|third`."""
    return lambda f: f.fill(f.rng.choice(options.split("|")))


def words_of(options: list[str]) -> Callable[[Filler], str]:
    return lambda f: f.rng.choice(options)


def identifier(f: Filler) -> str:
    parts = [f.rng.choice((noun, noun, noun, lambda g: g.rng.choice(words.VERBS)))(f) for _ in range(f.rng.choice((1, 2, 2)))]
    return "_".join(part.replace("-", "_") for part in parts)


SLOTS: dict[str, Callable[[Filler], str]] = {
    "noun": noun, "plurals": plurals, "adj": adjective, "name": name, "place": place, "language": language,
    "number": number, "large": large_number, "small": small_number, "count": count, "unit": unit, "one_unit": one_unit,
    "quantity": quantity, "amount": amount_phrase, "simple": simple_phrase, "np": noun_phrase, "topic": topic,
    "clause": clause, "concept": concept, "gerund": gerunds, "word": quoted_word, "phrase": quoted_phrase, "clock": clock,
    "subject_verb": subject_verb, "identifier": identifier,
    "nonsense": lambda f: words.nonsense(f.rng),
    "verb": words_of(words.VERBS), "third": words_of(words.THIRD_PERSON), "story_verb": words_of(words.STORY_VERBS),
    "people": lambda f: plurals(f) if f.rng.random() < NONSENSE_SHARE else f.rng.choice(words.PEOPLE),
    "tone": words_of(words.TONES), "ordinal": words_of(words.ORDINALS), "plang": words_of(words.PROGRAMMING_LANGUAGES),
    "year": lambda f: str(f.rng.randint(1500, 2030)),
    "age": lambda f: f.rng.choice((str(f.rng.randint(4, 90)), f.rng.choice(words.NUMBER_WORDS))),
    "letter": lambda f: f.rng.choice("abcdefghijklmnopqrstuvwxyz"),
    "day": choice_of("Monday|Tuesday|Wednesday|Thursday|Friday|Sunday|tomorrow|the 3rd of May|March 12|next week"),
    "preposition": choice_of("in|on|under|behind|before|after|near|without|for|from|beyond|next to|inside"),
    "currency": choice_of("euros|dollars|pounds|francs|yen|USD|EUR"),
    "filler_word": choice_of("very|really|just|actually|basically|however|therefore|always|never|maybe|today|again|suddenly|hope"),
    "relation": choice_of("boss|sister|brother|neighbor|colleague|friend|teacher|mother|father|client|customer|manager|cousin|aunt|professor|team|supplier"),
}


def paired(options: dict[str, str], partner: str) -> Callable[[Filler], str]:
    """A slot in another language that binds its English meaning to the slot `partner`."""

    def draw(f: Filler) -> str:
        text = f.rng.choice(list(options))
        f.bound[partner] = options[text]
        return text

    return draw


def chinese_word(f: Filler) -> str:
    text = "".join(f.rng.choice(CHINESE_CHARACTERS) for _ in range(f.rng.choice((1, 2, 2))))
    return f.rng.choice(("“{}”", "「{}」", '"{}"')).format(text)


CHINESE_CHARACTERS = "爱家春秋风雨花月山水天地人心梦光夜星路门书车马鸟鱼猫狗红绿黑白大小高低新旧快慢东西南北老师朋友学校城市时间问题音乐电影"

SLOTS |= {
    "zh_word": chinese_word,
    "zh_topic": choice_of("春天|友谊|人工智能|健康饮食|秋天的雨|故乡|环境保护|量子力学|旅行|猫|黑洞|读书|时间管理|音乐|城市|月亮|经济|运动"),
    "zh_letter": paired({"感谢信": "a thank-you letter", "邀请信": "an invitation letter", "道歉信": "an apology letter", "求职信": "a cover letter",
                         "邮件": "an email", "请假信": "a leave request", "投诉信": "a complaint letter", "信": "a letter"}, "en_letter"),
    "zh_person": paired({"老师": "the teacher", "客户": "the customer", "同事": "the colleagues", "朋友": "the friends", "家人": "the family",
                         "公司": "the company", "读者": "the readers", "团队": "the team", "经理": "the manager"}, "en_person"),
    "es_n": paired({"dos": "two", "tres": "three", "cuatro": "four", "cinco": "five", "seis": "six", "ocho": "eight", "diez": "ten"}, "en_n"),
}
