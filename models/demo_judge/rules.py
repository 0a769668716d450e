"""Plain hard rules: how a rubric words them, whether an answer meets them, and how a judge shows that it does.

A judge cannot see that a text has four sentences, but it can copy the text with a number before each of them. So the
evidence of a rule is written before the finding, and the finding follows from what was just written.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "at most": lambda found, number: found <= number,
    "fewer than": lambda found, number: found < number,
    "exactly": lambda found, number: found == number,
    "at least": lambda found, number: found >= number,
    "more than": lambda found, number: found > number,
}
SYNONYMS = {
    "no more than": "at most",
    "not more than": "at most",
    "up to": "at most",
    "a maximum of": "at most",
    "under": "fewer than",
    "less than": "fewer than",
    "precisely": "exactly",
    "only": "exactly",
    "no fewer than": "at least",
    "a minimum of": "at least",
    "over": "more than",
}
UNITS = {
    "words": "words",
    "sentences": "sentences",
    "lines": "lines",
    "items": "items",
    "list items": "items",
    "bullet points": "items",
}
NUMBER_WORDS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight"),
    *("nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen"),
)
NUMBERS = {word: number for number, word in enumerate(NUMBER_WORDS, 1)}
MARKS = {"a question mark": "?", "a question": "?", "an exclamation mark": "!", "a period": ".", "a full stop": "."}

QUOTED = r"""["'“‘](?P<text>[^"”]+?)["'”’]"""
TERM = r"the (?:words?|terms?|names?|phrases?|keywords?|expressions?)"
WORD = re.compile(rf"(?P<no>not )?(?:include|contain|use|mention|have) {TERM} {QUOTED}")
AVOIDED = re.compile(rf"avoid {TERM} {QUOTED}")
BEGINNING = re.compile(rf"(?:start|begin|open) with (?:{TERM} )?{QUOTED}")
ENDING = re.compile(rf"(?:end|finish|close|conclude) with (?:{TERM} )?{QUOTED}")
MARK = re.compile(rf"(?:end|finish|close|conclude) with (?P<mark>{'|'.join(MARKS)})")
AMOUNT = rf"(?P<number>\d{{1,3}}|{'|'.join(NUMBERS)}) (?P<unit>{'|'.join(UNITS)})(?: long)?"
COUNT = re.compile(
    rf"(?:have|use|contain|include|be|write|give|list|consist of) "
    rf"(?:(?P<bound>{'|'.join([*RELATIONS, *SYNONYMS])}) )?{AMOUNT}"
)
EXCESS = re.compile(rf"not (?:have|use|contain|include|exceed|write|be) (?:(?:more than|over) )?{AMOUNT}")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
LIST_MARK = re.compile(r"(?:[-*•]|\d+[.)])\s+")


@dataclass(frozen=True)
class Rule:
    """A rule that can be checked.

    Attributes:
        kind: `word`, `no_word`, `begin`, `end`, `mark`, or a unit that is counted.
        text: The quoted text, or the mark.
        relation: Of a count.
        number: Of a count.
    """

    kind: str
    text: str = ""
    relation: str = ""
    number: int = 0

    def is_met(self, answer: str) -> bool:
        """Whether an answer meets it."""
        if self.kind in ("word", "no_word"):
            return (found_at(self.text, answer) is not None) == (self.kind == "word")
        if self.kind in ("begin", "end"):
            return folded(edge(self, answer)) == folded(self.text)
        if self.kind == "mark":
            return answer.rstrip().endswith(self.text)
        return RELATIONS[self.relation](len(counted(self.kind, answer)), self.number)

    def justification(self, answer: str) -> str:
        """What a judge writes of an answer: the evidence, then the finding."""
        return f"{self._evidence(answer)}: {'met' if self.is_met(answer) else 'not met'}."

    def _evidence(self, answer: str) -> str:
        if self.kind in ("word", "no_word"):
            place = found_at(self.text, answer)
            found = "not there" if place is None else f"there, before {place}"
            return f'"{self.text}" is {found}, {"wanted" if self.kind == "word" else "unwanted"}'
        if self.kind in ("begin", "end", "mark"):
            side = "beginning" if self.kind == "begin" else "end"
            return f'the {side} is "{edge(self, answer)}", wanted "{self.text}"'
        units = counted(self.kind, answer)
        listed = " ".join(f"{number} {unit}" for number, unit in enumerate(units, 1)) or "none"
        return f"{listed}: {len(units)} {self.kind}, wanted {self.relation} {self.number}"


def parse(criterion: str) -> Rule | None:
    """The rule that a criterion's text states, None if it is none of those that can be checked."""
    text = criterion.removeprefix("The response must ").removesuffix(".")
    if match := WORD.fullmatch(text):
        return Rule("no_word" if match["no"] else "word", match["text"])
    if match := AVOIDED.fullmatch(text):
        return Rule("no_word", match["text"])
    if match := BEGINNING.fullmatch(text):
        return Rule("begin", match["text"])
    if match := ENDING.fullmatch(text):
        return Rule("end", match["text"])
    if match := MARK.fullmatch(text):
        return Rule("mark", MARKS[match["mark"]])
    return parse_count(text)


def parse_count(text: str) -> Rule | None:
    """A rule about a number of units."""
    match = COUNT.fullmatch(text)
    bound = (match["bound"] or "exactly") if match else "at most"
    match = match or EXCESS.fullmatch(text)
    if match is None:
        return None
    number = NUMBERS.get(match["number"]) or int(match["number"])
    return Rule(UNITS[match["unit"]], relation=SYNONYMS.get(bound, bound), number=number)


def counted(unit: str, answer: str) -> list[str]:
    """The words, sentences, lines or list items of an answer, without the marks of lists."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    plain = [LIST_MARK.sub("", line, count=1) if LIST_MARK.match(line) else line for line in lines]
    if unit == "lines":
        return plain
    if unit == "items":
        return [text for text, line in zip(plain, lines, strict=True) if LIST_MARK.match(line)]
    joined = " ".join(plain)
    return joined.split() if unit == "words" else SENTENCE_END.split(joined)


def found_at(text: str, answer: str) -> str | None:
    """The word or mark after the place where an answer holds a text; None where it does not."""
    match = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer, re.IGNORECASE)
    if match is None:
        return None
    following = re.match(r"\s*(\w+|[^\w\s])", answer[match.end() :])
    return f'"{following[1]}"' if following else "the end"


def edge(rule: Rule, answer: str) -> str:
    """The first or last words of an answer, as many as the rule names."""
    words = counted("words", answer)
    number = 1 if rule.kind == "mark" else len(rule.text.split())
    return " ".join(words[:number] if rule.kind == "begin" else words[-number:])


def folded(text: str) -> str:
    """A text without its case and its last marks."""
    return text.casefold().rstrip(".,;:!?")
