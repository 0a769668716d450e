"""Requests as people type them in haste: without marks, in one case, with typos, with a word of thanks."""

import random
import re

WORD = re.compile(r"[A-Za-z]{4,}")
LETTERS = re.compile(r"[^\W\d_]+")
NEIGHBORS = {"a": "s", "e": "r", "i": "o", "o": "p", "t": "r", "n": "m", "s": "d", "r": "t", "l": "k", "h": "j"}
AFTER = (" please", " pls", " plz", " thanks", " thx", "!", "!!", "...", " :)", "??", " now", ", please.", " ok?")
BEFORE = ("please ", "pls ", "hi, ", "hey, ", "hello, ", "Hi! ", "ok ", "so ", "um, ", "Hey ", "plz ", "and ", "now ")

Typed = tuple[str, tuple[str, ...]]


def in_haste(request: str, rules: tuple[str, ...], rng: random.Random) -> Typed:
    """The request as somebody may type it, and its rules in the case in which the request now says them."""
    if rng.random() < 0.55:
        request = request.removesuffix(".").removesuffix("?").rstrip()
    case = rng.random()
    if case < 0.3:
        request = request[:1].lower() + request[1:]
    elif case < 0.5:
        request, rules = request.lower(), tuple(rule.lower() for rule in rules)
    elif case < 0.55:
        request, rules = request.upper(), tuple(in_capitals(rule, request) for rule in rules)
    if rng.random() < 0.1:
        request = with_typo(request, " ".join(rules).lower(), rng)
    if rng.random() < 0.06:
        request = rng.choice(BEFORE) + request
    if rng.random() < 0.09:
        request += rng.choice(AFTER)
    return request, rules


def in_capitals(rule: str, request: str) -> str:
    """The rule with the words that it copies from the request in capitals, as they were typed; never its verb."""
    typed = {word.lower() for word in LETTERS.findall(request)}
    verb, space, rest = rule.partition(" ")
    return verb + space + LETTERS.sub(lambda word: word[0].upper() if word[0].lower() in typed else word[0], rest)


def with_typo(request: str, rules: str, rng: random.Random) -> str:
    """The request with a word mistyped: the first one, or one that no rule repeats, so that the rules stay right."""
    found = [m for m in WORD.finditer(request) if m.start() == 0 or m[0].lower() not in rules]
    if not found:
        return request
    match = rng.choice(found)
    return request[: match.start()] + mistyped(match[0], rng) + request[match.end() :]


def mistyped(word: str, rng: random.Random) -> str:
    """The word with two letters swapped, or with one left out, doubled or replaced by its neighbor on the keyboard."""
    i = rng.randrange(1, len(word) - 1)
    return rng.choice(
        (
            word[:i] + word[i + 1] + word[i] + word[i + 2 :],
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
            word[:i] + NEIGHBORS.get(word[i], word[i]) + word[i + 1 :],
        )
    )
