"""Values to prompt tokens. Template text may hold control tokens; what a user typed is ordinary text, always."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rubricrm.errors import BundleInvalid, OptionInvalid, RequestInvalid
from rubricrm.runtime.manifest import PROMPT_FIELDS, REQUEST, RUBRIC, ChatFacts, PromptFacts, RoleFacts
from rubricrm.runtime.tokenizer import Tokenizer

Segment = int | str

# First characters that merge with the text before them in different ways: a token that is the same under all of them
# does not depend on the request. A line break is the one that reaches furthest back in byte-level BPE.
_PROBES = ("\n", "\r\n", " ", "  \n", "a", "A", "1", ".", "?", "'s", "\u00e9", "\u0301", "\u4e2d", "\U0001f642")


class Prompt:
    """Encodes values and conversations the way that the bundle's model was trained on.

    Attributes:
        name: Which prompt it is, a key of `PROMPT_FIELDS`.
        facts: Its template, stop ids and grammar.
        tokenizer: What it encodes with.

    Raises:
        BundleInvalid: The prompt has other fields than its name asks for.
    """

    def __init__(self, facts: PromptFacts, chat: ChatFacts, tokenizer: Tokenizer, name: str = RUBRIC) -> None:
        """Cut the templates into pieces.

        Args:
            facts: The prompt.
            chat: The chat template around it.
            tokenizer: Of the bundle.
            name: Which prompt it is, a key of `PROMPT_FIELDS`.
        """
        expected = PROMPT_FIELDS[name].keys()
        if facts.fields.keys() != expected:
            alone = " alone" if len(expected) == 1 else ""
            raise BundleInvalid(
                f'"fields" of the prompt from {facts.template_source} are {", ".join(facts.fields)}, expected '
                f"{', '.join(expected)}{alone}. Export the bundle again."
            )
        self.name = name
        self.facts = facts
        self._chat = chat
        self.tokenizer = tokenizer
        split = tokenizer.split_control
        places = sorted(facts.fields.items(), key=lambda field: facts.template.index(field[1]))
        head, *texts = _texts_between(facts.template, [placeholder for _, placeholder in places])
        ending = split(chat.user.after) + split(chat.generation)
        self._before = split(chat.opening) + split(chat.user.before) + split(head)
        # Each field in the order of the template, and what follows its value.
        self._places = [(field, split(text)) for (field, _), text in zip(places, texts, strict=True)]
        self._places[-1][1].extend(ending)

    def encode(self, values: Mapping[str, str]) -> list[int]:
        """Return the whole prompt's ids for the value of each field. A value that holds a placeholder is text.

        Raises:
            OptionInvalid: A field is missing or unknown.
            RequestInvalid: A value is blank, or holds NUL or a lone surrogate.
        """
        if values.keys() != {field for field, _ in self._places}:
            raise OptionInvalid(
                f"the fields of the prompt {self.name}: got {', '.join(sorted(values)) or 'none'}, expected "
                f"{', '.join(sorted(field for field, _ in self._places))}, each once."
            )
        for field, _ in self._places:
            check_text(values[field], field)
        return self._encode(values)

    def encode_request(self, request: str) -> list[int]:
        """Return the whole prompt's ids for a request; errors as `encode`."""
        return self.encode({REQUEST: request})

    def encode_alike(self, text: str) -> list[int]:
        """Return the whole prompt's ids with one text in every field, for trials; errors as `encode`."""
        return self.encode({field: text for field, _ in self._places})

    def encode_messages(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation, ready for the model's turn.

        Args:
            messages: Objects with `role` (system, user, assistant) and `content`; the last one is the user's.

        Raises:
            OptionInvalid: No message, an unknown role, one that the chat template cannot place, or a wrong order.
            RequestInvalid: A message is blank, or holds NUL or a lone surrogate.
        """
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping):
                raise OptionInvalid(f"messages[{index}]: got {message!r:.40}, expected an object of role and content.")
        if not messages or messages[-1].get("role") != "user":
            raise OptionInvalid("messages: the last message must have the role user. Add the user's message.")
        split = self.tokenizer.split_control
        segments: list[Segment] = []
        if messages[0].get("role") != "system":
            segments += split(self._chat.opening)
        for index, message in enumerate(messages):
            role, content = self._role(index, message), message.get("content")
            if not isinstance(content, str):
                raise OptionInvalid(f"messages[{index}].content: got {content!r:.40}, expected a string.")
            check_text(content, f"messages[{index}].content")
            segments += [*split(role.before), content, *split(role.after)]
        return self.tokenizer.encode_segments([*segments, *split(self._chat.generation)])

    def fixed_prefix(self) -> list[int]:
        """Return the ids that begin every prompt, whatever the values are."""
        prompts = [self._encode({field: probe for field, _ in self._places}) for probe in _PROBES]
        return prompts[0][: min(common_prefix(prompts[0], other) for other in prompts)]

    def _encode(self, values: Mapping[str, str]) -> list[int]:
        segments = list(self._before)
        for field, after in self._places:
            segments += [values[field], *after]
        return self.tokenizer.encode_segments(segments)

    def _role(self, index: int, message: Mapping[str, str]) -> RoleFacts:
        role = message.get("role")
        pieces = {"system": self._chat.system, "user": self._chat.user, "assistant": self._chat.assistant}
        if not isinstance(role, str) or role not in pieces:
            raise OptionInvalid(f"messages[{index}].role: got {role!r}, expected one of {', '.join(pieces)}.")
        if role == "system" and index > 0:
            raise OptionInvalid(f"messages[{index}].role: system may only come first. Move it to the front.")
        piece = pieces[role]
        if piece is None:
            raise OptionInvalid(f"messages[{index}].role: this model's chat template cannot place a {role} message.")
        return piece


def _texts_between(template: str, placeholders: Sequence[str]) -> list[str]:
    """Return the texts of a template around its placeholders, which are given in their order."""
    texts = []
    for placeholder in placeholders:
        text, _, template = template.partition(placeholder)
        texts.append(text)
    return [*texts, template]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading items two sequences share."""
    length = min(len(left), len(right))
    return next((n for n in range(length) if left[n] != right[n]), length)


def check_text(text: str, name: str) -> None:
    """Raise RequestInvalid for text that no model should get: blank, or with NUL or lone surrogates."""
    if not isinstance(text, str):
        raise RequestInvalid(f"{name}: got {text!r:.40}, expected a string.")
    if not text.strip():
        raise RequestInvalid(f"{name}: is empty or only whitespace. Say what the response should do.")
    position = text.find("\0")
    if position >= 0:
        raise RequestInvalid(f"{name}: holds NUL at character {position}. Remove it: it is binary data, not text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = error.start
        raise RequestInvalid(
            f"{name}: holds the lone surrogate U+{ord(text[position]):04X} at character {position}, which UTF-8 cannot "
            "express. Decode the input with errors='replace'."
        ) from None
