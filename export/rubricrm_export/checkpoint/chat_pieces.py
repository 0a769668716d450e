"""A chat template cut into the pieces that the runtime joins, and what the model's turn begins with."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from rubricrm.rubric.thought import leaves_open
from rubricrm.runtime.manifest import ChatFacts, RoleFacts

from rubricrm_export.checkpoint.chat_template import MARKS, ChatTemplate, marked
from rubricrm_export.checkpoint.template_text import storable
from rubricrm_export.errors import PromptTemplateInvalid


def read_chat(checkpoint: Path, template_file: Path | None, control_tokens: Collection[str]) -> ChatFacts:
    """Return the chat template in pieces, thinking switched off.

    A role is left out if the template refuses it or does not place it piece by piece. No piece begins or ends inside
    one of `control_tokens`, the texts of the tokenizer's added tokens.

    Raises:
        PromptTemplateInvalid: None was found, it fails, or it does not place a user's message.
    """
    return pieces(ChatTemplate.read(checkpoint, template_file), control_tokens)


def pieces(template: ChatTemplate, control_tokens: Collection[str]) -> ChatFacts:
    """Return a template in pieces; as `read_chat`."""
    alone, prompted = template.render("u"), template.render("u", generation=True)
    if alone is None or prompted is None or alone.count(MARKS[1]) != 1 or not prompted.startswith(alone):
        raise PromptTemplateInvalid(
            f"{template.where}: the chat template does not place a single user message, followed by the model's turn"
            f"{template.refusal}. Pass another: --chat-template FILE."
        )
    storable(prompted, template.where)
    generation = prompted.removeprefix(alone)
    before, after = alone.split(MARKS[1])
    chat = ChatFacts("", None, RoleFacts(before, after), None, generation)
    with_system = template.render("su")
    if with_system is not None and with_system.count(MARKS[0]) == 1 and with_system.endswith(MARKS[1] + after):
        head, rest = with_system.removesuffix(MARKS[1] + after).split(MARKS[0])
        # What stands before the user's message in both conversations is its own, unless a default system message
        # ended there: then the end of that message is common too.
        shared = _common_suffix(before, rest, control_tokens).removeprefix(after)
        system = RoleFacts(head, rest.removesuffix(shared))
        chat = ChatFacts(before.removesuffix(shared), system, RoleFacts(shared, after), None, generation)
    chat = replace(chat, assistant=_assistant(template, chat))
    if _joined(chat, "su") != with_system:
        chat = replace(chat, system=None)
    return replace(chat, starts_in_thought=leaves_open(generation))


def _assistant(template: ChatTemplate, chat: ChatFacts) -> RoleFacts | None:
    """Return what stands around the model's earlier answers, if a conversation is its pieces in a row."""
    text = template.render("uau")
    if text is None or text.count(MARKS[2]) != 1:
        return None
    start = f"{chat.opening}{chat.user.before}{MARKS[1]}{chat.user.after}"
    end = f"{chat.user.before}{MARKS[3]}{chat.user.after}"
    before, after = text.removeprefix(start).removesuffix(end).split(MARKS[2])
    role = RoleFacts(before, after)
    return role if _joined(replace(chat, assistant=role), "uau") == text else None


def _joined(chat: ChatFacts, roles: str) -> str | None:
    """Return a conversation of marks as the runtime would join it."""
    pieces = {"s": chat.system, "u": chat.user, "a": chat.assistant}
    text = "" if roles[0] == "s" else chat.opening
    for initial, mark in marked(roles):
        role = pieces[initial]
        if role is None:
            return None
        text += role.before + mark + role.after
    return text


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
