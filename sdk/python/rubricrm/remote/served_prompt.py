"""The prompt of a model on a server, with what else of its bundle a client needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC, PromptFacts
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class ServedPrompt:
    """One prompt of a bundle, opened without its graphs.

    Attributes:
        bundle: What it is of: a prompt directory, or a bundle.
        name: Which of its prompts it is.
        prompt: Encodes values.
    """

    bundle: Bundle
    name: str
    prompt: Prompt

    @classmethod
    def open(cls, bundle: Bundle, name: str) -> Self:
        """Open the tokenizer; errors as `Bundle.open`."""
        tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
        return cls(bundle, name, Prompt(bundle.manifest.prompt_of(name), bundle.manifest.chat, tokenizer, name))

    @property
    def facts(self) -> PromptFacts:
        """What the manifest says of it."""
        return self.prompt.facts

    @property
    def has_form(self) -> bool:
        """Whether its answers are rubrics in the form."""
        return self.name == RUBRIC and self.facts.grammar is not None

    def ids(self, value: str) -> list[int]:
        """Return the ids of the prompt with the same value in every field."""
        return self.prompt.encode_alike(value)

    def text(self, value: str) -> str:
        """Return the text that these ids stand for, if the value spells no control token and no placeholder."""
        chat, message = self.bundle.manifest.chat, self.facts.template
        for placeholder in self.facts.fields.values():
            message = message.replace(placeholder, value)
        return f"{chat.opening}{chat.user.before}{message}{chat.user.after}{chat.generation}"
