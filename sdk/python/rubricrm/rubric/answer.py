"""Which part of a text is the answer: no thought, nothing after the end of the model's turn.

Thoughts stand between <think> and </think> or their like. A closing tag that nothing opened ends a thought that the
prompt opened, or whose start was cut off: everything before it is thought, and the answer starts after it. Until such a
tag comes nobody can know, so it takes back what was read.

A control token of a chat template, or a line that starts somebody else's turn, ends the answer. Before the first words
of the answer such a token starts it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rubricrm.rubric.criterion import Issue
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.mark import read_mark
from rubricrm.rubric.phrase import ends_sentence
from rubricrm.rubric.report import QUOTED_CHARACTERS, quote
from rubricrm.rubric.tag import says_response, skip_tag
from rubricrm.rubric.thought import CLOSING, OPENING

_CONTROL = (
    r"<[|｜][^<>|｜]{1,48}[|｜]>|</s>|<(?:eos|bos|pad|eod|end_of_turn|start_of_turn|endoftext|end_of_text|s)>"
    r"|\[/?INST\]|\[EOS\]|<</?SYS>>|(?:(?<=[\])】])|(?<=[\])】]\s))(?:human|user|assistant|用户)\s*(?:[:：]|$)"
)
_EVENT = lazy_pattern(rf"(?P<opening>{OPENING})|(?P<closing>{CLOSING})|(?P<control>{_CONTROL})", re.IGNORECASE)
_MAY_BE_EVENT = lazy_pattern(r"[<◁]|\[/?[TIER]|&lt;|[\])】]\s?[hua用]", re.IGNORECASE)

_OWN_ROLE = lazy_pattern(r"\s*(?:assistant|model|bot|ai)\s*(?=$|<|[:：])[:：]?\s*", re.IGNORECASE)
_OTHER_ROLE = lazy_pattern(r"\s*(?:user|human|system|tool|developer)\s*(?=$|<|[:：])", re.IGNORECASE)
_TURN = lazy_pattern(
    r"[#*\s\[]{0,8}(?P<role>human|user|system|assistant|ai|用户|助手|(?<=#\s)(?:instruction|input|response))[\]*\s]{0,4}"
    r"(?:[:：][*\s]{0,4}|$)",
    re.IGNORECASE,
)
_OWN_TURNS = ("assistant", "ai", "助手", "response")

_QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』"}
# A sentence that goes on: "the </think> tag", "<think>, then".
_GOES_ON = lazy_pattern(r"\s+(?![Tt]he\s+response\b)[a-z]|\s*[.,;)]")
_ENDS_PART = tuple(")]）】］>}*_:：")
_WORD = lazy_pattern(r"\S|\Z")
_LOOKED_BACK = 200
_QUOTED_LINES = 3


class AnswerParts(NamedTuple):
    """What of a line is the answer.

    Attributes:
        parts: Where its parts start and end in the line.
        issues: What was left out.
        takes_back: Whether everything before these parts was thought.
    """

    parts: list[tuple[int, int]]
    issues: list[Issue]
    takes_back: bool


class _Line:
    """A line while its answer is looked for; what stands before `position` is done."""

    def __init__(self, text: str, number: int, *, is_inside: bool) -> None:
        self.text = text
        self.number = number
        self.is_inside = is_inside
        self.position = 0
        self.parts: list[tuple[int, int]] = []
        self.issues: list[Issue] = []
        self.takes_back = False
        self._word = -1

    def report(self, code: str, message: str) -> None:
        self.issues.append(Issue(code, self.number, message))

    def take(self, end: int) -> None:
        """Take what stands before `end` as part of the answer, and go on from there."""
        if self.position < end:
            self.parts.append((self.position, end))
        self.go_on(end)

    def go_on(self, position: int) -> None:
        self.position, self._word = position, -1

    @property
    def word(self) -> int:
        """Where the first word from `position` on starts."""
        if self._word < 0:
            self._word = _first_word(self.text, self.position)
        return self._word

    @property
    def is_item(self) -> bool:
        """Whether what stands from `position` on is text of an item."""
        is_start = starts_item(self.text, self.word)
        return is_start or (self.is_inside and self.position == 0)

    def is_quoted(self, match: re.Match[str]) -> bool:
        before, after = self.text[match.start() - 1 : match.start()], self.text[match.end() : match.end() + 1]
        return after != "" and _QUOTES.get(before) == after

    def is_blank_before(self, match: re.Match[str]) -> bool:
        return self.word >= match.start()

    def is_ended_before(self, match: re.Match[str]) -> bool:
        """Whether a sentence, a tag or a colon stands before a match."""
        start = match.start()
        return ends_sentence(self.text, start) or self.text[max(0, start - 16) : start].rstrip().endswith(_ENDS_PART)

    def goes_on_after(self, match: re.Match[str]) -> bool:
        return _GOES_ON.match(self.text, match.end()) is not None

    def is_tag_after(self, match: re.Match[str]) -> bool:
        """Whether a tag stands after a match, and nothing else."""
        after = _first_word(self.text, match.end())
        return _first_word(self.text, skip_tag(self.text, after)) == len(self.text) > after

    def is_empty_after(self, match: re.Match[str]) -> bool:
        return _first_word(self.text, match.end()) == len(self.text)


def starts_item(text: str, start: int) -> bool:
    """Whether an item starts at a position: a number, or "The response"."""
    return read_mark(text, 1, start).number is not None or says_response(text, start)


def _first_word(text: str, start: int) -> int:
    match = _WORD.search(text, start)
    return match.start() if match else len(text)


class AnswerReader:
    """Reads lines in order and finds the answer in them. The cost is linear."""

    def __init__(self, *, starts_in_thought: bool) -> None:
        """Start.

        Args:
            starts_in_thought: The prompt opened a thought, so that the text starts inside it.
        """
        self._thought: list[str] | None = [] if starts_in_thought else None  # its first lines, for the message
        self._thought_line = 0
        self._first_line = 0
        self._has_words = False
        self._is_ended = False

    def is_all_answer(self, text: str, number: int) -> bool:
        """Whether all of a line that is not blank is the answer, which is quick to tell of most lines.

        Args:
            text: The line as a reader sees it.
            number: Its number.
        """
        self._first_line = self._first_line or number
        is_answer = self._thought is None and not self._is_ended
        if is_answer and _MAY_BE_EVENT.search(text) is None and _TURN.match(text) is None:
            self._has_words = True
            return True
        return False

    def is_open(self, number: int) -> bool:
        """Whether a line that is an item, whatever its words, is the answer; it is then counted as its words.

        Args:
            number: Its number.
        """
        if self._thought is not None or self._is_ended:
            return False
        self._first_line = self._first_line or number
        self._has_words = True
        return True

    def read(self, text: str, number: int, *, is_inside: bool, has_criteria: bool) -> AnswerParts:
        """Find the answer in a line of which not all is.

        Args:
            text: The line.
            number: Its number.
            is_inside: Whether the line starts inside a sentence of an item, whose words may be about such marks.
            has_criteria: Whether a criterion stands before it, so that a next turn may follow.
        """
        line = _Line(text, number, is_inside=is_inside)
        turn = _TURN.match(text) if self._thought is None and not self._is_ended else None
        if turn is not None:
            self._meet_turn(line, turn, has_criteria=has_criteria)
        for match in _EVENT.finditer(text):
            if match.start() >= line.position and not self._is_ended:
                self._meet(line, match)
        self._read_rest(line)
        return AnswerParts(line.parts, line.issues, line.takes_back)

    def finish(self) -> list[Issue]:
        """Report a thought that nothing closed."""
        if self._thought is None:
            return []
        return [self._end_thought("no closing tag follows: nothing in it is read as a rubric")]

    def _meet_turn(self, line: _Line, match: re.Match[str], *, has_criteria: bool) -> None:
        """Meet a line such as `Human: write another`."""
        if not self._has_words and match["role"].lower() in _OWN_TURNS:
            line.report("wrapper", f"left out {quote(match.group())}")
            line.go_on(match.end())
        elif has_criteria and not line.is_inside:
            self._is_ended = True

    def _read_rest(self, line: _Line) -> None:
        if self._is_ended:
            if line.word < len(line.text):
                line.report("trailing_text", f"after the end of the answer: {quote(line.text[line.position :])}")
        elif self._thought is not None:
            self._quote_thought(line, len(line.text))
        else:
            self._has_words = self._has_words or line.word < len(line.text)
            line.take(len(line.text))

    def _meet(self, line: _Line, match: re.Match[str]) -> None:
        if self._thought is not None:
            self._meet_in_thought(line, match)
        elif match["opening"]:
            self._meet_opening(line, match)
        elif match["closing"]:
            self._meet_closing(line, match)
        else:
            self._meet_control(line, match)

    def _meet_in_thought(self, line: _Line, match: re.Match[str]) -> None:
        if match["opening"] or line.is_quoted(match):
            return
        if match["closing"]:
            self._quote_thought(line, match.end())
            line.issues.append(self._end_thought(f"it ends on line {line.number}"))
            line.go_on(match.end())
        elif not line.goes_on_after(match):
            line.issues.append(self._end_thought("no closing tag follows: nothing in it is read as a rubric"))
            self._end(line, match)

    def _meet_opening(self, line: _Line, match: re.Match[str]) -> None:
        if line.is_quoted(match):
            return
        if line.is_blank_before(match):
            is_word = line.is_inside and line.position == 0 and not line.is_empty_after(match)
        elif line.is_ended_before(match):
            is_word = line.goes_on_after(match)
        else:
            is_word = line.goes_on_after(match) or line.is_item
        if is_word:
            return
        self._has_words = self._has_words or not line.is_blank_before(match)
        line.take(match.start())
        self._thought, self._thought_line = [], line.number
        if match.group().endswith("/>"):
            self._thought.append(match.group())
            line.issues.append(self._end_thought("it is empty"))
            line.go_on(match.end())

    def _meet_closing(self, line: _Line, match: re.Match[str]) -> None:
        if self._is_closing_a_word(line, match):
            return
        line.parts.clear()
        line.issues.clear()
        line.takes_back = True
        self._has_words = False
        self._thought, self._thought_line = [line.text[line.position : match.end()]], self._first_line
        line.issues.append(
            self._end_thought(f"nothing opened what ends on line {line.number}: all before it is thought")
        )
        line.go_on(match.end())

    def _is_closing_a_word(self, line: _Line, match: re.Match[str]) -> bool:
        """Whether a closing tag is a word of a sentence."""
        if line.is_quoted(match):
            return True
        after = _first_word(line.text, match.end())
        if after == len(line.text) or starts_item(line.text, after):
            return False
        if line.is_blank_before(match):
            return line.is_inside and line.position == 0 and line.goes_on_after(match)
        if line.is_tag_after(match):
            return True
        return not line.is_ended_before(match) and (line.goes_on_after(match) or line.is_item)

    def _meet_control(self, line: _Line, match: re.Match[str]) -> None:
        if self._is_control_a_word(line, match):
            return
        if self._has_words or not line.is_blank_before(match):
            line.take(match.start())
            self._end(line, match)
            return
        line.report("wrapper", f"left out {quote(match.group())}")
        line.go_on(match.end())
        if _OTHER_ROLE.match(line.text, match.end()):
            self._is_ended = True
        elif role := _OWN_ROLE.match(line.text, match.end()):
            line.go_on(role.end())

    def _is_control_a_word(self, line: _Line, match: re.Match[str]) -> bool:
        token, start = match.group(), match.start()
        if line.is_quoted(match) or (token == "<s>" and not (line.is_blank_before(match) and not self._has_words)):
            return True
        if token == "</s>" and "<s>" in line.text[max(0, start - _LOOKED_BACK) : start]:
            return True  # text that is struck out
        if line.is_blank_before(match):
            return line.is_inside and line.position == 0 and line.goes_on_after(match)
        if not line.text[start - 1].isspace() or line.is_ended_before(match):
            return False
        return line.goes_on_after(match) or line.is_tag_after(match) or token.startswith("[")

    def _end(self, line: _Line, match: re.Match[str]) -> None:
        self._is_ended = True
        line.report("wrapper", f"the answer ends at {quote(match.group())}")
        line.go_on(match.end())

    def _quote_thought(self, line: _Line, end: int) -> None:
        self._thought_line = self._thought_line or line.number
        if self._thought is not None and len(self._thought) < _QUOTED_LINES:
            self._thought.append(line.text[line.position : end][: 2 * QUOTED_CHARACTERS])

    def _end_thought(self, how_it_ends: str) -> Issue:
        quoted, self._thought = quote(" ".join(self._thought or [])), None
        number, self._thought_line = max(1, self._thought_line), 0
        return Issue("think_block", number, f"left out {quoted}; {how_it_ends}")
