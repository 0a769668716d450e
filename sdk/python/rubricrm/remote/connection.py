"""Looks at a server before anything is asked of it: which model, whose ids, and whether it keeps a form."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rubricrm.errors import OptionInvalid, ServerRefused
from rubricrm.generation.capabilities import Capabilities
from rubricrm.generation.options import GenerationOptions
from rubricrm.remote.completion_chunk import CompletionChunk
from rubricrm.remote.completion_request import completion_request
from rubricrm.remote.dialects import DIALECTS, NAMED, Dialect, found_dialect, named_dialect
from rubricrm.remote.form_text import TRIAL_REQUEST, TRIAL_TOKENS, is_trial_kept, rubric_form, trial_form
from rubricrm.remote.served_prompt import ServedPrompt
from rubricrm.remote.server_client import ServerClient
from rubricrm.runtime.prompt import common_prefix

# Spaces of several kinds, digits, contractions, scripts, signs of several code points, code: where tokenizers differ.
# All of it is normalized already: servers of GGUF files normalize nothing.
HOSTILE_TEXT = (
    "It's 3,141.59 or 1234567890 — don't\u00a0we'll  see?\n\n\tdef f(x):\r\n        return x**2  # ok\n"
    "\u4e2d\u6587\uff0c\u65e5\u672c\u8a9e\u306e\u6587 \ud55c\uad6d\uc5b4 \u0420\u0443\u0441\u0441\u043a\u0438\u0439 "
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 \u00e9\u00fc\u00df "
    "\U0001f469\u200d\U0001f4bb\U0001f642 <|not a token|> [Hard Rule]\u3000..."
)


@dataclass(frozen=True)
class Identity:
    """Which server and model answered, so that another one is noticed.

    Attributes:
        model: The name to ask for.
        dialect: The server's.
        context_length: As its list of models tells; None: it does not.
        same_ids: As of `Capabilities`.
    """

    model: str
    dialect: Dialect
    context_length: int | None
    same_ids: bool | None


async def identify(client: ServerClient, served: ServedPrompt, model: str | None, dialect: str | None) -> Identity:
    """Find the model in the server's list, and compare its tokenizer with ours.

    Raises:
        OptionInvalid: There are several models and none is named, or the dialect is not known.
        ServerError: The server does not answer, does not have the model, or makes other ids.
    """
    entry = _chosen(await client.models(), model, client.address.shown)
    row = found_dialect(entry.get("owned_by")) if dialect is None else named_dialect(dialect)
    if row is None:
        raise OptionInvalid(
            f"{client.address.shown}: its models are owned by {entry.get('owned_by')!r:.40}, which tells no dialect. "
            f"Pass dialect, one of {', '.join(DIALECTS)}; openai is for servers with nothing beyond the standard."
        )
    name = str(entry["id"])
    same_ids = await _has_same_ids(client, served, row, name)
    return Identity(name, row, _context_length(entry, row.context_keys), same_ids)


async def try_out(
    client: ServerClient, identity: Identity, served: ServedPrompt, *, constrain: bool
) -> tuple[Capabilities, str | None]:
    """Let the server write a few tokens: held to a form that no model writes by itself, and to the form of rubrics.

    Args:
        client: Asks it.
        identity: Who answers.
        served: The prompt.
        constrain: Whether rubrics are to be held to their form there.

    Returns:
        What it can do, and the form of rubrics in its dialect; None where it takes none, or none is wanted.

    Raises:
        ServerError: It does not answer, adds tokens to the prompt, or does not keep the form.
    """
    dialect = identity.dialect
    manifest = served.bundle.manifest
    form = rubric_form(dialect, manifest.chat) if constrain and served.has_form else None
    if form is None:
        trial = await _write(client, identity, served, None, 1)
    else:
        remedy = (
            f"Rubrics are to be held to their form there: {dialect.grammar_remedy}; or connect with constrain=False, "
            "and each rubric says where it is not in the form."
        )
        formed = _refusable(_write(client, identity, served, form, 1), remedy)
        if dialect.grammar_form == NAMED:  # a server of ours drops nothing without a word
            trial = await formed
        else:
            trial, _ = await asyncio.gather(_kept(client, identity, served, remedy), formed)
    _check_count(client, trial, served.ids(TRIAL_REQUEST))
    length = manifest.model.context_length
    capabilities = Capabilities(
        server=client.address.shown,
        model=identity.model,
        dialect=dialect.name,
        dialect_version=dialect.version,
        context_length=min(length, identity.context_length or length),
        same_ids=identity.same_ids,
        constraint=None if form is None else dialect.grammar_form,
        logprobs=dialect.logprobs is not None,
        priority=dialect.priority_fields is not None,
        token_ids=trial.has_token_ids,
        cached_tokens=trial.has_cached_tokens,
    )
    return capabilities, form


async def try_grammar(client: ServerClient, identity: Identity, served: ServedPrompt) -> None:
    """See that the server holds a text to a grammar, where `try_out` had no form to see it by.

    Raises:
        ServerError: It does not answer, or does not keep the grammar.
    """
    remedy = f"The option grammar needs it: {identity.dialect.grammar_remedy}; or leave the option out."
    await _kept(client, identity, served, remedy)


class _Trial:
    """What came of a trial."""

    def __init__(self) -> None:
        self.text = ""
        self.usage: Mapping[str, Any] = {}
        self.has_token_ids = False

    @property
    def has_cached_tokens(self) -> bool:
        details = self.usage.get("prompt_tokens_details")
        return isinstance(details, Mapping) and details.get("cached_tokens") is not None

    def take(self, chunk: CompletionChunk) -> bool:
        self.text += chunk.text
        self.usage = chunk.usage or self.usage
        self.has_token_ids |= chunk.token_ids is not None
        return True


async def _write(
    client: ServerClient, identity: Identity, served: ServedPrompt, grammar: str | None, max_new_tokens: int
) -> _Trial:
    trial = _Trial()
    request = completion_request(
        identity.dialect,
        identity.model,
        served.ids(TRIAL_REQUEST),
        GenerationOptions(),
        seed=0,
        max_new_tokens=max_new_tokens,
        stop_ids=served.facts.stop_ids,
        grammar=grammar,
    )
    await client.complete(request, trial.take)
    return trial


async def _kept(client: ServerClient, identity: Identity, served: ServedPrompt, remedy: str) -> _Trial:
    """Return a trial that was held to a form; `remedy` says what the server needs that does not."""
    dialect = identity.dialect
    trial = await _refusable(_write(client, identity, served, trial_form(dialect), TRIAL_TOKENS), remedy)
    if not is_trial_kept(trial.text):
        raise ServerRefused(
            f"{client.address.shown}: dropped the grammar without a word: held to a form, it wrote "
            f"{trial.text!r:.80}. {remedy}"
        )
    return trial


async def _refusable(writing: Coroutine[Any, Any, _Trial], remedy: str) -> _Trial:
    """Wait for a trial; where it is refused, say what the server needs."""
    try:
        return await writing
    except ServerRefused as error:
        error.args = (f"{error.args[0]} {remedy}", *error.args[1:])
        raise


def _chosen(entries: Sequence[Mapping[str, Any]], model: str | None, where: str) -> Mapping[str, Any]:
    names = [str(entry["id"]) for entry in entries]
    shown = ", ".join(names[:8]) or "none"
    if model is None:
        entries = [entry for entry in entries if not _is_second_name(entry, names)]
        if len(entries) != 1:
            raise OptionInvalid(f"{where}: has {len(entries)} models ({shown}). Pass model, the name of one of them.")
        return entries[0]
    if model not in names:
        raise ServerRefused(f"{where}: has no model {model!r:.80}, but {shown}. Pass one of its names as model.")
    return entries[names.index(model)]


def _is_second_name(entry: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether a model is in the list under another name too."""
    row = found_dialect(entry.get("owned_by"))
    end = None if row is None else row.other_names
    name = str(entry["id"])
    return end is not None and name.endswith(end) and name.removesuffix(end) in names


def _context_length(entry: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    value: Any = entry if keys else None
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if type(value) is int and value > 0 else None


async def _has_same_ids(client: ServerClient, served: ServedPrompt, dialect: Dialect, model: str) -> bool | None:
    """Compare the ids of a whole prompt around a hostile text; None where the server tells none.

    Where it reads the control tokens of the template as text, the hostile text alone is compared.
    """
    if dialect.tokenize_path is None:
        return None
    text, ours = HOSTILE_TEXT, served.prompt.tokenizer.encode(HOSTILE_TEXT)
    if dialect.reads_control_tokens:
        text, ours = served.text(HOSTILE_TEXT), served.ids(HOSTILE_TEXT)
    theirs = await client.tokenize(dialect.tokenize_path, dialect.tokenize_body(model, text))
    if theirs is None or theirs == ours:
        return None if theirs is None else True
    at = common_prefix(ours, theirs)
    here = b"".join(map(served.prompt.tokenizer.token_bytes, ours[at : at + 4])).decode(errors="replace")
    raise ServerRefused(
        f"{client.address.shown}: {model} has another tokenizer than {served.bundle.path}: of one text the server "
        f"makes {len(theirs)} ids, the prompt directory {len(ours)}, and from token {at} on they differ: "
        f"{theirs[at : at + 4]} there, {ours[at : at + 4]} here ({here!r}). Connect to the model that the prompt was "
        "exported from."
    )


def _check_count(client: ServerClient, trial: _Trial, ids: Sequence[int]) -> None:
    counted = trial.usage.get("prompt_tokens")
    if type(counted) is int and counted != len(ids):
        raise ServerRefused(
            f"{client.address.shown}: counts {counted} tokens of a prompt of {len(ids)} ids: it adds or changes some. "
            "Start it so that ids of prompts are taken as they are."
        )
