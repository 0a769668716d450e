"""The constraints of a request: how they are worded, and the hard rules that they amount to."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import words
from pastes import capitalized
from phrases import SLOTS, Filler, quantity
from templates import Template, load

TEMPLATES = load("constraints.txt")
BOUNDS = (
    "no more than",
    "at most",
    "under",
    "below",
    "fewer than",
    "less than",
    "at least",
    "exactly",
    "up to",
    "between",
    "over",
)
CAPITALIZED_SHARE = 0.9
TAIL_SHARE = 0.12
COMMAND_OPENINGS = (
    "Please {}.",
    "You must {}.",
    "You should {}.",
    "Make sure to {}.",
    "Be sure to {}.",
    "It must {}.",
    "It should {}.",
    "It has to {}.",
    "It needs to {}.",
    "Must {}.",
    "Should {}.",
    "Remember to {}.",
    "I want it to {}.",
    "I want you to {}.",
    "The answer must {}.",
    "The response should {}.",
    "The text must {}.",
    "The result should {}.",
    "Also {}.",
    "Then {}.",
    "Finally, {}.",
    "Don't forget to {}.",
    "Also, please {}.",
    "Always {}.",
    "I'd like you to {}.",
    "Your answer should {}.",
)
PROHIBITION_OPENINGS = (
    "Do not {}.",
    "Do not {}.",
    "Do not {}.",
    "Don't {}.",
    "Don't {}.",
    "Never {}.",
    "Please do not {}.",
    "Please don't {}.",
    "You must not {}.",
    "It must not {}.",
    "It should not {}.",
    "Must not {}.",
    "The answer should not {}.",
    "The text must not {}.",
    "It may not {}.",
)
HEADINGS = (
    "Requirements:",
    "Rules:",
    "Constraints:",
    "Please:",
    "Requirements",
    "The answer must:",
    "It should:",
    "Conditions:",
    "Notes:",
)


@dataclass(frozen=True)
class Stated:
    """A piece of a request and the rules that it states, each to be read after `must`."""

    text: str
    rules: tuple[str, ...]


def draw(f: Filler, mode: str, only_verbatim: bool = False) -> Template:
    """A template of a mode by weight."""
    pool = [t for t in TEMPLATES[mode] if not (only_verbatim and t.rules)]
    return f.rng.choices(pool, [t.weight for t in pool])[0]


def stated(f: Filler, mode: str) -> Stated:
    """A constraint of a mode, filled; a template without rules is its own rule."""
    own = Filler(f.rng)
    template = draw(f, mode)
    text = own.fill(template.text)
    rules = tuple(own.fill(rule) for rule in template.rules) or (text,)
    if mode == "sentence" and f.rng.random() < CAPITALIZED_SHARE:
        text = capitalized(text)
    return Stated(text, tuple("not " + rule for rule in rules) if mode == "never" else rules)


def sentence(f: Filler) -> Stated:
    """A constraint, or two or three of them, as a sentence."""
    shape = f.rng.choices(("command", "never", "sentence", "and", "and_not", "must"), (42, 16, 23, 8, 9, 6))[0]
    if shape == "sentence":
        return stated(f, "sentence")
    if shape == "never":
        part = stated(f, "never")
        return Stated(prohibition(part.text, f.rng), part.rules)
    parts = [stated(f, "command") for _ in range({"command": 1, "must": f.rng.choice((2, 3))}.get(shape, 2))]
    if shape == "and_not":
        parts[1] = stated(f, "never")
        text = f"{parts[0].text} and do not {parts[1].text}"
        return Stated(capitalized(text) + ".", parts[0].rules + parts[1].rules)
    if f.rng.random() < TAIL_SHARE:
        parts[-1] = extended(parts[-1], stated(f, "tail"))
    rules = merged(parts)
    if shape == "must":
        last = f.rng.choice((" and ", ", and "))
        text = ", ".join(part.text for part in parts[:-1]) + last + parts[-1].text
        return Stated(f.fill("(Must|It must|It should|The text must|Should|You must) ") + text + ".", rules)
    return Stated(command(" and ".join(part.text for part in parts), f.rng), rules)


def extended(part: Stated, tail: Stated) -> Stated:
    """A constraint with another one appended, as in `give five reasons, one per line`."""
    return Stated(part.text + tail.text, part.rules + tail.rules)


def command(text: str, rng: random.Random) -> str:
    if rng.random() < 0.55:
        return capitalized(text) + "."
    return rng.choice(COMMAND_OPENINGS).format(text)


def prohibition(text: str, rng: random.Random) -> str:
    verb, _, rest = text.partition(" ")
    if rng.random() < 0.15 and verb != "be":
        return f"Avoid {words.gerund(verb)} {rest}."
    return rng.choice(PROHIBITION_OPENINGS).format(text)


def bulleted(f: Filler, num_constraints: int) -> Stated:
    """Constraints as a list of their own below the request."""
    mark = f.rng.choice(("- ", "* ", "- ", "• "))
    parts = [stated(f, f.rng.choice(("command", "command", "never"))) for _ in range(num_constraints)]
    lines = [mark + bullet(f, part) for part in parts]
    return Stated("\n".join([f.rng.choice(HEADINGS), *lines]), merged(parts))


def bullet(f: Filler, part: Stated) -> str:
    if part.rules[0].startswith("not "):
        return f.pick("do not ", "Do not ") + part.text
    return f.rng.choice((part.text, capitalized(part.text)))


def merged(parts: Sequence[Stated]) -> tuple[str, ...]:
    return tuple(rule for part in parts for rule in part.rules)


def bounded(f: Filler) -> str:
    """An amount that begins with a bound, as in `keep it under 100 words`."""
    while not (text := quantity(f)).startswith(BOUNDS):
        pass
    return f.fill(f"{text} {{unit}}")


def any_gerund(f: Filler) -> str:
    """A command in its -ing form; the base form is bound to `base`."""
    text = f.fill(draw(f, "command", only_verbatim=True).text)
    f.bound["base"] = text
    verb, space, rest = text.partition(" ")
    return words.gerund(verb) + space + rest


def each_gerund(f: Filler) -> str:
    f.bound["base"] = f.rng.choice(words.VERBS)
    return words.gerund(f.bound["base"])


def many_unit(f: Filler) -> str:
    """A unit in the plural; its singular is bound to `one`."""
    f.bound["one"] = f.fill("{one_unit}") if f.rng.random() < 0.75 else f.fill("{noun}")
    return words.plural(f.bound["one"])


def cap_np(f: Filler) -> str:
    f.bound["uncap"] = f.fill("{simple}")
    return capitalized(f.bound["uncap"])


SLOTS |= {
    "bounded": bounded,
    "any_gerund": any_gerund,
    "each_gerund": each_gerund,
    "many_unit": many_unit,
    "cap_np": cap_np,
    "command": lambda f: f.fill(draw(f, "command", only_verbatim=True).text),
    "never": lambda f: f.fill(draw(f, "never", only_verbatim=True).text),
}
