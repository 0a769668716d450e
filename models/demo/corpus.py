"""Endless random pairs of a request and its rubric.

The words of a pair are drawn from large lists or made up on the spot. What a constraint asks for can therefore not be
guessed, only copied, and a small model that has learned to copy handles requests that it has never seen.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from constraints import Stated, bulleted, extended, merged, sentence, stated
from haste import in_haste
from pastes import PASTES
from phrases import Filler
from principles import principles_for
from templates import HERE, Template, lines, load

TASKS = load("tasks.txt")
SHORT = [(family, template) for family, templates in load("short.txt").items() for template in templates]
SHORT_WEIGHTS = [template.weight for _, template in SHORT]
SHORT_SHARE = 0.5
SHORT_TAIL_SHARE = 0.1
SHORT_SENTENCE_SHARE = 0.12
CUT_SHARE = 0.01
CUT = re.compile(r"(?:\S+ ){1,6}?(?:a|an|the|about|of|to|that|and|with|for|in|from|my|is|are|how|why|between)(?= )")
FOREIGN = load("foreign.txt")
FOREIGN_LANGUAGES = [language for language in FOREIGN if not language.endswith("+")]
FOREIGN_WEIGHTS = [{"zh": 5.0, "es": 3.0, "pt": 1.0, "it": 1.0}.get(language, 2.0) for language in FOREIGN_LANGUAGES]
FAMILY_WEIGHTS = {
    "general": 4.0,
    "explain": 2.0,
    "code": 2.0,
    "email": 1.5,
    "foreign": 7.0,
    "persona": 2.0,
    "json": 1.5,
    "poem": 1.5,
    "story": 1.5,
    "debug": 2.0,
    "press": 1.5,
    "names": 1.5,
    "meeting": 1.5,
    "travel": 1.5,
    "list": 1.5,
    "medical": 1.5,
    "small_talk": 0.7,
    "word_problem": 1.5,
    "sql": 1.5,
    "tests": 1.5,
}
BARE_FAMILIES = frozenset({"small_talk", "nonsense", "injection"})
MAX_HARD_RULES = 7
EMOJI_SHARE = 0.1
UNMARKED_SHARE = 0.12
POLITE_WORDS = frozenset(("please", "pls", "plz", "me"))
POLITE = (
    "Please {}.",
    "Please {}.",
    "Can you {}?",
    "Could you {}?",
    "Could you please {}?",
    "I want you to {}.",
    "I need you to {}.",
    "Can you please {}?",
    "I'd like you to {}.",
    "Would you {}?",
    "Your task is to {}.",
    "Help me: {}.",
)
NO_POLITE = re.compile(r"(I|Need|Want|You|As|TL;DR|tl;dr|TLDR|Imagine|Act|Pretend|Speak|Help)\b|[^A-Z]")
OUTSIDE_QUOTES = re.compile(r"""("[^"]*"|“[^”]*”|`[^`]*`)""")
WRONG_ARTICLE = re.compile(r"\b([aA]) (?=[aeioAEIO](?!ne\b))")
SPEAKERS = (
    ("your own", "its own"),
    ("yourself", "itself"),
    ("your", "its"),
    ("my", "the user's"),
    ("our", "the user's"),
    ("me", "the user"),
)


@dataclass(frozen=True)
class Pair:
    """A request, its rubric, and the family of tasks whose principles the rubric lists."""

    request: str
    rubric: str
    family: str


def key(request: str) -> str:
    """What stays of a request whatever its case, its marks and its politeness: equal keys are the same request."""
    words = re.findall(r"\w+", request.lower())
    return " ".join(word for word in words if word not in POLITE_WORDS) or request.strip()


HELD_OUT = frozenset(map(key, lines(HERE / "held_out.txt")))


def pairs(seed: int) -> Iterator[Pair]:
    """The pairs of a seed, without end and without the requests held out."""
    rng = random.Random(seed)
    families = sorted([*TASKS, "foreign"])
    weights = [FAMILY_WEIGHTS.get(family, 1.0) for family in families]
    while True:
        draw = rng.random()
        family = rng.choices(families, weights)[0]
        if draw < CUT_SHARE:
            pair = cut_pair(rng)
        elif draw < CUT_SHARE + SHORT_SHARE:
            pair = short_pair(rng)
        else:
            pair = foreign_pair(rng) if family == "foreign" else english_pair(rng, family)
        if pair is not None and key(pair.request) not in HELD_OUT:
            yield pair


def short_pair(rng: random.Random) -> Pair | None:
    """A request of a few words, now and then with a constraint, as people type it."""
    f = Filler(rng)
    family, template = rng.choices(SHORT, SHORT_WEIGHTS)[0]
    request = f.fill(template.text)
    rules = tuple(f.fill(rule) for rule in template.rules)
    if rules:
        request, rules = asked(f, Stated(request, rules))
    request, rules = in_haste(with_articles(request), rules, rng)
    return finished(request, rules, family)


def asked(f: Filler, task: Stated) -> tuple[str, tuple[str, ...]]:
    """A short task as a request, with at most one constraint."""
    draw = f.rng.random()
    if draw < SHORT_TAIL_SHARE:
        task = extended(task, stated(f, "tail"))
    request = phrased("", task.text, True, f.rng)
    if draw < 1 - SHORT_SENTENCE_SHARE:
        return request, task.rules
    constraint = sentence(f)
    return f"{request} {constraint.text}", task.rules + constraint.rules


def cut_pair(rng: random.Random) -> Pair | None:
    """A request that was sent before it was finished."""
    pair = english_pair(rng, rng.choice(list(TASKS)))
    match = CUT.match(pair.request) if pair else None
    return finished(*in_haste(match[0], (), rng), "missing") if match else None


def english_pair(rng: random.Random, family: str) -> Pair | None:
    """A pair of a family, or None when the draw states too many rules."""
    f = Filler(rng)
    template = rng.choice(TASKS[family])
    if family in BARE_FAMILIES:
        return finished(f.fill(template.text), (), family)
    request, rules = composed(f, template)
    if rng.random() < 0.04:
        request, rules = request.lower(), tuple(rule.lower() for rule in rules)
    if rng.random() < UNMARKED_SHARE:
        request = request.removesuffix(".").removesuffix("?")
    return finished(request, rules, family)


def composed(f: Filler, template: Template) -> tuple[str, tuple[str, ...]]:
    """A request around a task, and the rules in the order in which the request states them."""
    rng = f.rng
    mid, lead, tails = appended(f, template)
    f.bound["mid"] = mid.text
    body = f.fill(template.text)
    rules = tuple(f.fill(rule) for rule in template.rules)
    body = phrased(lead.text, body + "".join(tail.text for tail in tails), bool(template.rules), rng)
    before, after = surrounding(f, is_question=not template.rules)
    pasted = PASTES[template.paste](f) if template.paste else ""
    request = joined(before, body, after, pasted, rng)
    if rng.random() < 0.25:
        request = f.fill("{context}") + rng.choice((" ", " ", "\n\n")) + request
    elif rng.random() < 0.06:
        request += " " + f.fill("{context}")
    return request, (*merged(before), *lead.rules, *rules, *mid.rules, *merged(tails), *merged(after))


def appended(f: Filler, template: Template) -> tuple[Stated, Stated, list[Stated]]:
    """What interrupts, precedes and follows the task within its own sentence."""
    rng, nothing = f.rng, Stated("", ())
    mid = stated(f, "mid") if "{mid}" in template.text and rng.random() < 0.3 else nothing
    if not template.rules:
        return mid, nothing, []
    takes_lead = not NO_POLITE.match(template.text.replace("{write}", "Write"))
    lead = stated(f, "lead") if rng.random() < 0.06 and takes_lead else nothing
    num_tails = rng.choices((0, 1, 2), (58, 32, 10))[0]
    return mid, lead, [stated(f, "tail") for _ in range(num_tails)]


def phrased(lead: str, body: str, is_command: bool, rng: random.Random) -> str:
    """The task as a command, a polite question or after its lead, with a final mark."""
    if lead:
        body = f"{lead} {body[0].lower()}{body[1:]}"
    elif is_command and not NO_POLITE.match(body) and rng.random() < 0.2:
        return rng.choice(POLITE).format(body[0].lower() + body[1:])
    return body if body.endswith((".", "?", "!")) else body + "."


def surrounding(f: Filler, is_question: bool) -> tuple[list[Stated], list[Stated]]:
    """Sentences with constraints before and after the task."""
    rng = f.rng
    shares = (50, 28, 15, 6, 1) if is_question else (30, 32, 22, 12, 4)
    number = rng.choices(range(5), shares)[0]
    if number >= 2 and rng.random() < 0.15:
        return [], [bulleted(f, number)]
    found = [sentence(f) for _ in range(number)]
    num_before = 1 if found and rng.random() < 0.1 else 0
    return found[:num_before], found[num_before:]


def joined(before: list[Stated], body: str, after: list[Stated], pasted: str, rng: random.Random) -> str:
    """The parts of a request, with the pasted text last, first or between."""
    space = "\n" if rng.random() < 0.08 else " "
    emoji = " {emoji}" if rng.random() < EMOJI_SHARE else ""
    opening = " ".join([part.text for part in before] + [body])
    opening += Filler(rng).fill(emoji + "{emoji}" if emoji else "")
    listed = [("\n" if "\n" in part.text else space) + part.text for part in after]
    if not pasted:
        return opening + "".join(listed)
    is_short = "\n" not in pasted and len(pasted) < 200
    gap = " " if is_short and rng.random() < 0.6 else "\n\n"
    where = rng.random()
    if where < 0.15:
        return pasted + "\n\n" + opening + "".join(listed)
    if where < 0.55 or not after:
        if opening.endswith(".") and not after:
            return opening[:-1] + ":" + gap + pasted
        return opening + "".join(listed) + gap + pasted
    if opening.endswith("."):
        opening = opening[:-1] + ":"
    return opening + gap + pasted + ("\n\n" if gap != " " else " ") + "".join(listed).lstrip()


def foreign_pair(rng: random.Random) -> Pair | None:
    """A request in another language."""
    language = rng.choices(FOREIGN_LANGUAGES, FOREIGN_WEIGHTS)[0]
    f = Filler(rng)
    template = rng.choice(FOREIGN[language])
    body = f.fill(template.text)
    rules = [f.fill(rule) for rule in template.rules]
    texts = []
    for constraint in rng.sample(FOREIGN[language + " +"], rng.choices((0, 1, 2, 3), (30, 35, 25, 10))[0]):
        own = Filler(rng)
        texts.append(own.fill(constraint.text))
        rules += [own.fill(rule) for rule in constraint.rules]
    family = "foreign_question" if body.endswith("?") else "foreign"
    request = chinese(body, texts, rng) if language == "zh" else european(body, texts, rng)
    return finished(request, tuple(rules), family)


def chinese(body: str, texts: list[str], rng: random.Random) -> str:
    """The task and its constraints with Chinese marks between them."""
    mark = rng.choice((",", ",", "。"))
    if not texts:
        return body if body.endswith("?") else body + "。"
    return body + ("" if body.endswith("?") else mark) + mark.join(texts) + "。"


def european(body: str, texts: list[str], rng: random.Random) -> str:
    """The task and its constraints as sentences, or as one sentence with commas."""
    if body.endswith("?"):
        return " ".join([body, *texts])
    if texts and rng.random() < 0.4:
        return ", ".join([body, *(text[0].lower() + text[1:].rstrip(".") for text in texts)]) + "."
    return " ".join([body + ".", *texts])


def finished(request: str, rules: tuple[str, ...], family: str) -> Pair | None:
    """The pair, or None when a rule is empty or there are too many of them."""
    request = with_articles(request)
    texts = list(dict.fromkeys(with_articles(third_person(rule)) for rule in rules))
    if len(texts) > MAX_HARD_RULES or not all(texts):
        return None
    items = [f"The response must {text}. [Hard Rule]" for text in texts]
    items += [f"The response {text}. [Principle]" for text in principles_for(family, len(texts))]
    return Pair(request, "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1)), family)


def third_person(rule: str) -> str:
    """The rule as said about a response to a user: `thank my team` becomes `thank the user's team`."""
    parts = OUTSIDE_QUOTES.split(rule.strip().rstrip(".!?,;: "))
    for index in range(0, len(parts), 2):
        for speaker, other in SPEAKERS:
            parts[index] = re.sub(rf"\b{speaker}\b", other, parts[index])
    text = " ".join("".join(parts).split())
    return text[:1].lower() + text[1:]


def with_articles(text: str) -> str:
    """The text with `an` before vowels; request and rules are corrected alike."""
    return WRONG_ARTICLE.sub(r"\1n ", text)
