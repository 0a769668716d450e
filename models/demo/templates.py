"""Reads the template files: slots, tasks, constraints and requests in other languages."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import words
from phrases import SLOTS, Filler

HERE = Path(__file__).parent
ADJECTIVE_SHARE = 0.3
LENGTH_SHARE = 0.06


@dataclass(frozen=True)
class Template:
    """A text, the rules that it states, and the kind of text pasted below it."""

    text: str
    rules: tuple[str, ...] = ()
    paste: str | None = None
    weight: float = 1.0


def lines(path: Path) -> list[str]:
    """The lines that are neither empty nor a comment."""
    found = path.read_text(encoding="utf-8").splitlines()
    return [line for line in found if line.strip() and not line.startswith("# ")]


def sections(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (section, line) for each line of a section."""
    section = ""
    for line in lines(path):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        else:
            yield section, line


def parse(line: str) -> Template:
    """A template from `weight text => rule; rule @paste`, of which only the text is required."""
    text, _, rest = line.partition(" => ")
    body, at, paste = (rest or text).rpartition(" @")
    if at and " " not in paste:
        text, rest = (text, body) if rest else (body, "")
    else:
        paste = ""
    weight = re.match(r"(\d+) ", text)
    if weight:
        text = text[weight.end() :]
    return Template(text, tuple(rest.split("; ")) if rest else (), paste or None, float(weight[1]) if weight else 1.0)


def load(name: str) -> dict[str, list[Template]]:
    """The templates of a file by section."""
    found: dict[str, list[Template]] = {}
    for section, line in sections(HERE / name):
        found.setdefault(section, []).append(parse(line))
    return found


def split_options(text: str) -> list[str]:
    """Splits at the bars outside of parentheses."""
    options, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            options.append("")
        else:
            options[-1] += char
    return options


def choice_slot(options: list[str]) -> Callable[[Filler], str]:
    return lambda f: f.fill(f.rng.choice(options)).replace("¦", "|")


def form_slot(options: list[str]) -> Callable[[Filler], str]:
    """A slot that puts an article before a form of text, often with an adjective or a length."""

    def form(f: Filler) -> str:
        text = f.fill(f.rng.choice(options))
        draw = f.rng.random()
        if draw < ADJECTIVE_SHARE:
            text = f.pick("{adj} ", "{adj} ", "{tone} ", "{adj}, {adj} ", "{nonsense} ") + text
        elif draw < ADJECTIVE_SHARE + LENGTH_SHARE:
            text = f.pick("{number}-word ", "{small}-{one_unit} ", "{count}-{one_unit} ") + text
        return words.with_article(text)

    return form


def paired_slot(partner: str, options: list[str]) -> Callable[[Filler], str]:
    """A slot that binds the English meaning of what it draws to its partner."""

    def draw(f: Filler) -> str:
        text, meaning = f.rng.choice(options).split("/")
        f.bound[partner] = meaning
        return text

    return draw


def install_slots() -> None:
    """Adds the slots of `slots.txt` to those written in code."""
    for _, line in sections(HERE / "slots.txt"):
        name, sign, options = line.split(" ", 2)
        name, _, partner = name.partition("/")
        if partner:
            SLOTS[name] = paired_slot(partner, options.split("|"))
        else:
            SLOTS[name] = (form_slot if sign == "~" else choice_slot)(split_options(options))


install_slots()
