"""Where a checkpoint's prompt comes from: the rubric template of its model card, and its chat template in pieces.

Nothing of the checkpoint is executed: the card's Python block is parsed and its one assignment read as a literal; the
chat template runs in jinja2's sandbox, once, here, so that the runtime needs no template engine.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rubricrm.runtime.manifest import REQUEST_FIELD, ChatFacts, RoleFacts

from rubricrm_export.checkpoint.files import TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.errors import PromptTemplateInvalid

CARD = "README.md"
VARIABLE = "RUBRIC_PROMPT_TEMPLATE"
CHAT_TEMPLATE_FILE = "chat_template.jinja"

_CODE_BLOCK = re.compile(r"^```[ \t]*(?:python|py)[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
_FIELD = r"^{}:[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*(?:#.*)?$"
_ASSIGNMENT = re.compile(rf"^[ \t]*{VARIABLE}[ \t]*(?::[^=\n]*)?[-+*/%|&^@<>]*=(?!=)", re.MULTILINE)
# Letters only: no chat template trims, escapes or branches on them.
_MARKS = ("QXSYSTEMXQ", "QXUSERONEXQ", "QXASSISTANTXQ", "QXUSERTWOXQ")


def read_prompt_template(checkpoint: Path, template_file: Path | None) -> tuple[str, str]:
    """Return the rubric template, with `{prompt}` once, and where it was found.

    Raises:
        PromptTemplateInvalid: None was found, several differ, it is no literal, or has no single field `prompt`.
    """
    if template_file is not None:
        return _checked_template(_read_text(template_file), str(template_file)), template_file.name
    card = checkpoint / CARD
    if not card.is_file():
        raise PromptTemplateInvalid(
            f"{checkpoint}: no {CARD}, where a model card assigns {VARIABLE}. "
            f"Pass the template in a file: --prompt-template FILE, with {REQUEST_FIELD} where the request goes."
        )
    found = list(dict.fromkeys(_assignments(_read_text(card), card)))
    if len(found) != 1:
        raise PromptTemplateInvalid(
            f"{card}: {len(found)} different assignments of {VARIABLE} in its Python blocks, expected 1. "
            f"Pass the template in a file: --prompt-template FILE, with {REQUEST_FIELD} where the request goes."
        )
    return _checked_template(found[0], str(card)), CARD


def template_sha256(template: str) -> str:
    """Return the hash by which a template is recognized."""
    return hashlib.sha256(template.encode()).hexdigest()


def read_card_field(checkpoint: Path, field: str) -> str | None:
    """Return a one-line field of the model card's front matter ("license", "model_name"), None if not declared."""
    card = checkpoint / CARD
    front = _FRONT_MATTER.match(_read_text(card)) if card.is_file() else None
    match = re.search(_FIELD.format(field), front.group(1), re.MULTILINE) if front else None
    return match.group(1) or None if match else None


def read_chat(checkpoint: Path, template_file: Path | None, control_tokens: Collection[str]) -> ChatFacts:
    """Return the chat template in pieces, thinking switched off.

    A role is left out if the template refuses it or does not place it piece by piece. No piece begins or ends inside
    one of `control_tokens`, the texts of the tokenizer's added tokens.

    Raises:
        PromptTemplateInvalid: None was found, it fails, or it does not place a user's message.
    """
    source, where = _chat_source(checkpoint, template_file)
    render = _Renderer(source, where, _special_tokens(checkpoint))
    return _pieces(render, where, control_tokens)


def _assignments(card: str, path: Path) -> Iterator[str]:
    for block in _CODE_BLOCK.findall(card):
        # Other blocks are often sketches, and no Python.
        if not _ASSIGNMENT.search(block):
            continue
        try:
            tree = ast.parse(block)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _unusable(path, f"the block that assigns {VARIABLE} is not valid Python ({error})") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.AugAssign) and _is_variable(node.target):
                raise _unusable(path, f"{VARIABLE} is changed in place, not assigned a literal")
            if isinstance(node, ast.Assign) and any(map(_is_variable, node.targets)):
                yield _literal(node.value, path)
            if isinstance(node, ast.AnnAssign) and node.value and _is_variable(node.target):
                yield _literal(node.value, path)


def _is_variable(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == VARIABLE


def _literal(value: ast.expr, path: Path) -> str:
    try:
        template = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _unusable(path, f"{VARIABLE} is assigned an expression, not a literal") from error
    if not isinstance(template, str):
        raise _unusable(path, f"{VARIABLE} is assigned a {type(template).__name__}, not a string")
    return template


def _unusable(path: Path, finding: str) -> PromptTemplateInvalid:
    return PromptTemplateInvalid(f"{path}: {finding}. Pass the template in a file: --prompt-template FILE.")


def _checked_template(template: str, where: str) -> str:
    """Return the template with `{{` and `}}` unescaped, as `str.format` would, and `{prompt}` kept."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise PromptTemplateInvalid(f"{where}: {error}. Write a literal brace twice.") from error
    fields = [name for _, name, _, _ in pieces if name is not None]
    if fields != ["prompt"] or any(spec or conversion for _, _, spec, conversion in pieces):
        raise PromptTemplateInvalid(
            f"{where}: the fields are {fields}, expected {REQUEST_FIELD} exactly once. Write a literal brace twice."
        )
    text = "".join(literal + (REQUEST_FIELD if name is not None else "") for literal, name, _, _ in pieces)
    if text.count(REQUEST_FIELD) != 1:
        raise PromptTemplateInvalid(f"{where}: the literal text {REQUEST_FIELD} stands in it too. Reword the template.")
    return _storable(text, where)


def _storable(text: str, where: str) -> str:
    """Return the text itself, once it is known that UTF-8 can hold it: an escape in a literal may name a surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = f"U+{ord(text[error.start]):04X}"
        raise PromptTemplateInvalid(f"{where}: holds the lone surrogate {surrogate}. Remove it.") from None
    return text


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # an editor's byte order mark is no part of a prompt
    except (OSError, UnicodeDecodeError) as error:
        raise PromptTemplateInvalid(f"{path}: cannot be read as UTF-8 text ({error}). Check the file.") from error


def _special_tokens(checkpoint: Path) -> dict[str, str]:
    """Return the texts of `bos_token` and its like; they are strings, or objects with the key content."""
    config, tokens = read_tokenizer_config(checkpoint), {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _chat_source(checkpoint: Path, template_file: Path | None) -> tuple[str, str]:
    path = template_file or checkpoint / CHAT_TEMPLATE_FILE
    if template_file is not None or path.is_file():
        return _read_text(path), str(path)
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


class _GenerationBlock(Extension):
    """`{% generation %}`, with which templates mark the model's own text for training; it prints what is in it."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Renderer:
    """The template, compiled as Hugging Face compiles it. `refusal` is what the last failed call said."""

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
        self.refusal = ""
        self._special_tokens = special_tokens

    def __call__(self, roles: str, *, generation: bool = False) -> str | None:
        """Render a conversation of marks, roles by their initials ("sua"); None where the template refuses it."""
        names = {"s": "system", "u": "user", "a": "assistant"}
        messages = [{"role": names[role], "content": mark} for role, mark in _marked(roles)]
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


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: object, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _pieces(render: _Renderer, where: str, control_tokens: Collection[str]) -> ChatFacts:
    alone, prompted = render("u"), render("u", generation=True)
    if alone is None or prompted is None or alone.count(_MARKS[1]) != 1 or not prompted.startswith(alone):
        raise PromptTemplateInvalid(
            f"{where}: the chat template does not place a single user message, followed by the model's turn"
            f"{render.refusal}. Pass another: --chat-template FILE."
        )
    _storable(prompted, where)
    generation = prompted.removeprefix(alone)
    before, after = alone.split(_MARKS[1])
    chat = ChatFacts("", None, RoleFacts(before, after), None, generation)
    with_system = render("su")
    if with_system is not None and with_system.count(_MARKS[0]) == 1 and with_system.endswith(_MARKS[1] + after):
        head, rest = with_system.removesuffix(_MARKS[1] + after).split(_MARKS[0])
        # What stands before the user's message in both conversations is its own, unless a default system message
        # ended there: then the end of that message is common too.
        shared = _common_suffix(before, rest, control_tokens).removeprefix(after)
        system = RoleFacts(head, rest.removesuffix(shared))
        chat = ChatFacts(before.removesuffix(shared), system, RoleFacts(shared, after), None, generation)
    chat = replace(chat, assistant=_assistant(render, chat))
    if _joined(chat, "su") != with_system:
        chat = replace(chat, system=None)
    return chat


def _assistant(render: _Renderer, chat: ChatFacts) -> RoleFacts | None:
    """Return what stands around the model's earlier answers, if a conversation is its pieces in a row."""
    text = render("uau")
    if text is None or text.count(_MARKS[2]) != 1:
        return None
    start = f"{chat.opening}{chat.user.before}{_MARKS[1]}{chat.user.after}"
    end = f"{chat.user.before}{_MARKS[3]}{chat.user.after}"
    before, after = text.removeprefix(start).removesuffix(end).split(_MARKS[2])
    role = RoleFacts(before, after)
    return role if _joined(replace(chat, assistant=role), "uau") == text else None


def _joined(chat: ChatFacts, roles: str) -> str | None:
    """Return a conversation of marks as the runtime would join it."""
    pieces = {"s": chat.system, "u": chat.user, "a": chat.assistant}
    text = "" if roles[0] == "s" else chat.opening
    for initial, mark in _marked(roles):
        role = pieces[initial]
        if role is None:
            return None
        text += role.before + mark + role.after
    return text


def _marked(roles: str) -> list[tuple[str, str]]:
    """Return each role's initial of a conversation ("sua") with the mark that stands for its message."""
    marks = {"s": iter(_MARKS[:1]), "u": iter(_MARKS[1::2]), "a": iter(_MARKS[2:3])}
    return [(role, next(marks[role])) for role in roles]


def _common_suffix(left: str, right: str, control_tokens: Collection[str]) -> str:
    """Return the longest common suffix that begins inside no control token: `<|bos|>x` and `<|end|>x` share `|>x`."""
    length = min(len(left), len(right))
    length = next((n for n in range(length) if left[-1 - n] != right[-1 - n]), length)
    forbidden = _inside(left, control_tokens) | _inside(right, control_tokens)
    while length in forbidden:
        length -= 1
    return left[len(left) - length :]


def _inside(text: str, control_tokens: Collection[str]) -> set[int]:
    """Return the positions, counted from the end, that lie inside a control token."""
    tokens = "|".join(re.escape(token) for token in sorted(control_tokens, key=len, reverse=True))
    found = re.finditer(tokens, text) if tokens else ()
    return {len(text) - position for match in found for position in range(match.start() + 1, match.end())}
