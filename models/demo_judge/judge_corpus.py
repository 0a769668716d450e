"""Endless random cases: a request, its rubric, two answers, and the judgment of them.

Requests, words and made-up words are those of the demo model's corpus in `../demo`. What a rule asks for can therefore
not be guessed, only copied and looked up.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import corpus
import words
from answers import answer
from pastes import capitalized
from phrases import Filler, quoted
from rules import NUMBERS, Rule, parse

KINDS = ("word", "no_word", "begin", "end", "mark", "words", "sentences", "lines", "items")
KIND_WEIGHTS = (5, 5, 8, 8, 4, 3, 4, 3, 3)
FORMS = {
    "word": ("{include} the (word|word|word|word|term|name|keyword) {quoted}",),
    "no_word": ("not {include} the (word|word|word|word|term|name) {quoted}", "avoid the (word|word|term) {quoted}"),
    "begin": ("(start|begin|start|open) with {quoted}", "(start|begin) with the (word|phrase|words) {quoted}"),
    "end": ("(end|end|finish|close|conclude) with {quoted}", "end with the (word|phrase|words) {quoted}"),
    "mark": ("end with (a question mark|a question|an exclamation mark|a period)",),
}
COUNT_FORMS = (
    "(have|use|contain|have|be|write|give) {bound}{number} {unit}",
    "(have|use|contain|have) {bound}{number} {unit}",
    "not (exceed|use more than|have more than) {number} {unit}",
)
BOUNDS = (
    "at most",
    "no more than",
    "at least",
    "exactly",
    "",
    "fewer than",
    "more than",
    "up to",
    "under",
    "less than",
)
UNIT_FORMS = {
    "words": ("words",),
    "sentences": ("sentences",),
    "lines": ("lines",),
    "items": ("items", "bullet points", "bullet points", "list items"),
}
LARGEST = {"words": 10, "sentences": 5, "lines": 5, "items": 6}
SHORT_REQUEST = 45
PLAIN_SHARE = 0.8
STATED_SHARE = 0.25
TIE_SHARE = 0.6
HELD_OUT_SHARE = 12  # every so many-th word of the lists
WORD_LISTS = (words.NOUNS, words.ADJECTIVES, words.SPLICEABLE)
HELD_OUT_WORDS = frozenset(
    word for words_ in (words.NOUNS, words.ADJECTIVES) for word in sorted(words_)[7::HELD_OUT_SHARE]
)


@dataclass(frozen=True)
class Case:
    """What a judge reads: the fields of its prompt."""

    instruction: str
    rubric: str
    response_a: str
    response_b: str

    def criteria(self) -> list[tuple[str, str]]:
        """The (text, tag) of each criterion."""
        found = re.findall(r"^\d+\. (.*?)\s+\[(Hard Rule|Principle)\]$", self.rubric, re.MULTILINE)
        return [(text, tag) for text, tag in found]

    def rules(self) -> list[Rule | None]:
        """The rule of each criterion, None where it cannot be checked."""
        return [parse(text) if tag == "Hard Rule" else None for text, tag in self.criteria()]

    def num_met(self) -> tuple[int, int]:
        """How many rules each answer meets."""
        checked = [rule for rule in self.rules() if rule is not None]
        return sum(r.is_met(self.response_a) for r in checked), sum(r.is_met(self.response_b) for r in checked)

    def swapped(self) -> "Case":
        """The same case with the answers in the other order."""
        return Case(self.instruction, self.rubric, self.response_b, self.response_a)

    def judgment(self) -> str:
        """What the judge is to write. Equal answers go to A, so that both orders together give a tie."""
        rules = self.rules()
        gatekeeper = next((number for number, rule in enumerate(rules, 1) if rule is not None), None)
        named = "none" if gatekeeper is None else f"Criterion {gatekeeper}"
        parts = [f"Identified Gatekeeper Criterion: {named}", ""]
        for name, text in (("A", self.response_a), ("B", self.response_b)):
            parts.append(f"**Response {name}:**")
            for number, rule in enumerate(rules, 1):
                finding = "not checked." if rule is None else rule.justification(text)
                parts.append(f"- Criterion {number}: {finding}")
            parts.append("")
        met_a, met_b = self.num_met()
        parts.append(f"Response A meets {met_a}, Response B meets {met_b}.")
        parts.append(f"Winner: Response {'A' if met_a >= met_b else 'B'}")
        return "\n".join(parts)


def cases(seed: int, kinds: tuple[str, ...] = KINDS) -> Iterator[Case]:
    """The cases of a seed without end, and without the words held out.

    Most of them are never drawn if `hold_out_words` was called before; a case that holds one all the same is dropped.
    """
    rng = random.Random(seed)
    held_out = re.compile(rf"\b(?:{'|'.join(HELD_OUT_WORDS)})s?\b", re.IGNORECASE)
    for drawn in drawn_cases(rng, kinds):
        if not held_out.search(f"{drawn.instruction}\n{drawn.rubric}\n{drawn.response_a}\n{drawn.response_b}"):
            yield drawn


def hold_out_words() -> None:
    """Takes the words held out from the lists of the demo's corpus, in this process."""
    for words_ in WORD_LISTS:
        words_[:] = [word for word in words_ if word not in HELD_OUT_WORDS]


def drawn_cases(rng: random.Random, kinds: tuple[str, ...]) -> Iterator[Case]:
    """Cases."""
    tasks = short_tasks(rng)
    weights = [KIND_WEIGHTS[KINDS.index(kind)] for kind in kinds]
    while True:
        chosen: list[str] = []
        for kind in rng.choices(kinds, weights, k=rng.choices((1, 2, 3), (60, 32, 8))[0]):
            if not any(clash(kind, other) for other in chosen):
                chosen.append(kind)
        case = one_case(rng, [rule_text(Filler(rng), kind) for kind in chosen], next(tasks))
        met_a, met_b = case.num_met()
        if met_a != met_b or rng.random() < TIE_SHARE:
            yield case


def clash(kind: str, other: str) -> bool:
    """Whether two kinds of rules are about the same, or about the form of the whole answer."""
    counts = ("words", "sentences", "lines", "items")
    return kind == other or (kind in counts and other in counts) or {kind, other} == {"end", "mark"}


def short_tasks(rng: random.Random) -> Iterator[corpus.Pair]:
    """Short requests with the rubrics that the demo model learns for them."""
    while True:
        pair = corpus.short_pair(rng)
        if pair is None or len(pair.request) >= SHORT_REQUEST or not pair.request.isascii():
            continue
        if corpus.key(pair.request) not in corpus.HELD_OUT:
            yield pair


def rule_text(f: Filler, kind: str) -> str:
    """A rule of a kind, to be read after `must`."""
    if kind in UNIT_FORMS:
        return count_text(f, kind)
    if kind in ("word", "no_word"):
        text = f.pick("{noun}", "{noun}", "{nonsense}", "{nonsense}", "{adj}", "{plurals}", "{name}", "{verb}")
        f.bound["include"] = f.fill("(include|contain|use|mention|include|use)")
    else:
        texts = (
            "{adj} {noun}",
            "{noun}",
            "{name}",
            "the {noun} is",
            "{plurals} {verb}",
            "{noun} and {noun}",
            "I {verb}",
        )
        text = f.pick(*texts)
    f.bound["quoted"] = quoted(capitalized(text) if kind == "begin" else text, f.rng)
    return f.pick(*FORMS[kind])


def count_text(f: Filler, unit: str) -> str:
    """A rule about a number of units."""
    number = f.rng.randint(3 if unit == "words" else 2, LARGEST[unit])
    word = next(word for word, value in NUMBERS.items() if value == number)
    bound = f.rng.choice(BOUNDS)
    f.bound["bound"] = bound + " " if bound else ""
    f.bound["number"] = word if f.rng.random() < 0.4 else str(number)
    f.bound["unit"] = f.rng.choice(UNIT_FORMS[unit])
    return f.pick(*COUNT_FORMS)


def one_case(rng: random.Random, texts: list[str], task: corpus.Pair) -> Case:
    """A case of given rules: its rubric holds them alone, or among those of a task."""
    rules = [rule for text in texts if (rule := parse(f"The response must {text}.")) is not None]
    assert len(rules) == len(texts), texts
    wanted = [rng.random() < 0.5 for _ in rules]
    # Each answer misses what the other one meets, mostly.
    others = [not want if rng.random() < 0.5 else rng.random() < 0.5 for want in wanted]
    response_a, response_b = answer(rng, rules, wanted), answer(rng, rules, others)
    items = [f"The response must {text}. [Hard Rule]" for text in texts]
    if rng.random() > PLAIN_SHARE:
        found = [line.partition(". ")[2] for line in task.rubric.splitlines()]
        hard = [item for item in found if item.endswith("[Hard Rule]")][:1]
        principles = [item for item in found if item.endswith("[Principle]")][: rng.randint(0, 1)]
        items = [*hard, *items, *principles]
    rubric = "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    instruction = " ".join([task.request, *(capitalized(text) + "." for text in texts if rng.random() < STATED_SHARE)])
    return Case(instruction, rubric, response_a, response_b)
