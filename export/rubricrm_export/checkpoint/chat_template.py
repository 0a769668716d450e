"""A checkpoint's chat template, rendered in jinja2's sandbox here, so that the runtime needs no template engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rubricrm_export.checkpoint.files import TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.checkpoint.template_text import read_template_text
from rubricrm_export.errors import PromptTemplateInvalid

CHAT_TEMPLATE_FILE = "chat_template.jinja"
# What some judges of the family lack: the template that they were trained with, and the tokens that it needs.
QWEN3_TEMPLATE = Path(__file__).parent / "qwen3_chat.jinja"
QWEN3_TOKENS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")

# Messages: a system message, a user's, the model's and another of the user. Letters only: no chat template trims,
# escapes or branches on them.
MARKS = ("QXSYSTEMXQ", "QXUSERONEXQ", "QXASSISTANTXQ", "QXUSERTWOXQ")


class _GenerationBlock(Extension):
    """`{% generation %}`, with which templates mark the model's own text for training; it prints what is in it."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A chat template, compiled as Hugging Face compiles it; thinking is switched off.

    Attributes:
        where: Where it was found, for messages.
        refusal: What the last rendering said that failed, with a space before it; else empty.
    """

    def __init__(self, source: str, where: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, _GenerationBlock]
        )
        environment.globals["raise_exception"] = _raise_exception
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
        # The compiler also computes constant expressions, which may fail in any way.
        except Exception as error:
            raise PromptTemplateInvalid(f"{where}: not a valid jinja template ({error}).") from error
        self.where = where
        self.refusal = ""
        self._special_tokens = special_tokens

    @classmethod
    def read(cls, checkpoint: Path, template_file: Path | None = None) -> ChatTemplate:
        """Read the template of a checkpoint's directory, or a file that replaces it.

        Raises:
            PromptTemplateInvalid: There is none, or it is no jinja.
            CheckpointInvalid: tokenizer_config.json is damaged.
        """
        source, where = _chat_source(checkpoint, template_file)
        return cls(source, where, _special_tokens(checkpoint))

    def render(self, roles: str, *, generation: bool = False) -> str | None:
        """Render a conversation of marks, roles by their initials ("sua"); None where the template refuses it."""
        names = {"s": "system", "u": "user", "a": "assistant"}
        messages = [{"role": names[role], "content": mark} for role, mark in marked(roles)]
        try:
            text: str = self._template.render(
                messages=messages,
                tools=None,  # defined and None, as Hugging Face renders a conversation without
                documents=None,
                add_generation_prompt=generation,
                enable_thinking=False,
                **self._special_tokens,
            )
        # A template is somebody's program: it may raise anything, and each raise is its refusal.
        except Exception as error:
            self.refusal = f" ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            return None
        return text

    def after_answer(self, roles: str) -> str | None:
        """Return what follows the model's last message in a conversation ("ua"); None where it cannot be rendered."""
        text = self.render(roles)
        return None if text is None or MARKS[2] not in text else text.rpartition(MARKS[2])[2]


def marked(roles: str) -> list[tuple[str, str]]:
    """Return each role's initial of a conversation ("sua") with the mark that stands for its message."""
    marks = {"s": iter(MARKS[:1]), "u": iter(MARKS[1::2]), "a": iter(MARKS[2:3])}
    return [(role, next(marks[role])) for role in roles]


def _special_tokens(checkpoint: Path) -> dict[str, str]:
    """Return the texts of `bos_token` and its like; they are strings, or objects with the key content."""
    config, tokens = read_tokenizer_config(checkpoint), {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def has_chat_template(checkpoint: Path) -> bool:
    """Whether a checkpoint's directory holds a chat template."""
    return (checkpoint / CHAT_TEMPLATE_FILE).is_file() or bool(read_tokenizer_config(checkpoint).get("chat_template"))


def _chat_source(checkpoint: Path, template_file: Path | None) -> tuple[str, str]:
    path = template_file or checkpoint / CHAT_TEMPLATE_FILE
    if template_file is not None or path.is_file():
        return read_template_text(path), str(path)
    path = checkpoint / TOKENIZER_CONFIG
    template = read_tokenizer_config(checkpoint).get("chat_template")
    if isinstance(template, list):  # several named ones: [{"name": "default", "template": "..."}]
        named = (t for t in template if isinstance(t, dict) and t.get("name") == "default")
        template = next(named, {}).get("template")
    if not isinstance(template, str):
        raise PromptTemplateInvalid(
            f"{checkpoint}: neither {CHAT_TEMPLATE_FILE} nor a chat_template in {TOKENIZER_CONFIG}. "
            "Pass one: --chat-template FILE."
        )
    return template, str(path)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: object, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})
