"""What each kind of server takes and gives beyond OpenAI's API: one row a kind.

The facts were read in the versions that the rows name, and run where the server runs without a GPU (docs/SERVING.md). A
field that a server does not know is refused by TensorRT-LLM and silently ignored by the others: so what a row says of
the grammar is tried out when a model is connected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rubricrm._version import __version__
from rubricrm.errors import OptionInvalid

REGEX, GBNF = "regex", "gbnf"
# Not the form itself: a server of this package has it in its bundle.
NAMED = "name"

# Priorities of this package are any whole numbers, 0 if not given and the highest first; TensorRT-LLM's lie between 0
# and 1. So many steps from 0 reach its ends.
_STEPS_TO_THE_END = 10


@dataclass(frozen=True)
class Dialect:
    """One kind of server.

    Attributes:
        name: As `connect(dialect=...)` takes it.
        owned_by: What its list of models says of itself, by which it is found.
        version: Which was read or run.
        grammar_form: In which form it takes a grammar: `REGEX`, `GBNF`, `NAMED`: the form of rubrics alone, by its
            name; or None: it takes none.
        grammar_fields: The fields of a request that carry a grammar in that form.
        grammar_remedy: What a server that drops or refuses a grammar is to be started with.
        fixed_fields: Fields that every request has, so that no default of the server's or its model's decides.
        all_tokens: What `top_k` is where all tokens may be sampled; None: there is no `top_k`.
        has_min_p: Whether there is `min_p`.
        stop_field: The field of ids that end a text; None: the server's own end it.
        priority_fields: The fields that carry a priority; None: it has none.
        gives_token_ids: Whether its pieces come with the ids of their tokens.
        logprobs: How its log-probabilities name tokens: "token_id", "content", or None: by their text alone.
        tokenize_path: Where it tells a text's ids; None: nowhere.
        tokenize_body: The request there, made of the model's name and the text.
        reads_control_tokens: Whether a text there may spell control tokens.
        other_names: What follows the name of a model that its list has a second time.
        context_keys: Where an entry of its list of models tells the context's length, key by key.
    """

    name: str
    owned_by: str | None
    version: str
    grammar_form: str | None = None
    grammar_fields: Callable[[str], Mapping[str, Any]] = lambda _: {}
    grammar_remedy: str = ""
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    all_tokens: int | None = None
    has_min_p: bool = True
    stop_field: str | None = "stop_token_ids"
    priority_fields: Callable[[int], Mapping[str, Any]] | None = None
    gives_token_ids: bool = False
    logprobs: str | None = None
    tokenize_path: str | None = None
    tokenize_body: Callable[[str, str], Mapping[str, Any]] = lambda _, text: {"prompt": text}
    reads_control_tokens: bool = True
    other_names: str | None = None
    context_keys: tuple[str, ...] = ()


VLLM = Dialect(
    name="vllm",
    owned_by="vllm",
    version="0.32.0",
    grammar_form=REGEX,
    grammar_fields=lambda grammar: {"structured_outputs": {"regex": grammar}},
    grammar_remedy="vLLM before 0.12 names the field otherwise: start a later version",
    fixed_fields={"repetition_penalty": 1.0, "skip_special_tokens": True, "return_token_ids": True},
    all_tokens=0,
    priority_fields=lambda priority: {"priority": -priority},  # the lowest first
    gives_token_ids=True,
    logprobs="token_id",
    tokenize_path="/tokenize",
    tokenize_body=lambda model, text: {"model": model, "prompt": text, "add_special_tokens": False},
    context_keys=("max_model_len",),
)
SGLANG = Dialect(
    name="sglang",
    owned_by="sglang",
    version="0.5.23",
    grammar_form=REGEX,
    grammar_fields=lambda grammar: {"regex": grammar},
    grammar_remedy="start it without --grammar-backend none",
    fixed_fields={"repetition_penalty": 1.0, "skip_special_tokens": True, "return_token_ids": True},
    all_tokens=-1,
    priority_fields=lambda priority: {"priority": priority},  # the highest first, unless it was started otherwise
    gives_token_ids=True,
    tokenize_path="/tokenize",
    tokenize_body=lambda model, text: {"model": model, "prompt": text, "add_special_tokens": False},
    context_keys=("max_model_len",),
)
TENSORRT_LLM = Dialect(
    name="tensorrt-llm",
    owned_by="tensorrt_llm",
    version="main 0076e939",
    grammar_form=REGEX,
    grammar_fields=lambda grammar: {"response_format": {"type": "regex", "regex": grammar}},
    grammar_remedy="start it with guided_decoding_backend: xgrammar",
    fixed_fields={"repetition_penalty": 1.0, "skip_special_tokens": True},
    all_tokens=0,
    priority_fields=lambda priority: {"priority": min(1.0, max(0.0, 0.5 + priority / (2 * _STEPS_TO_THE_END)))},
    tokenize_path="/_internal/tokenize",
    tokenize_body=lambda model, text: {"model": model, "prompt": text},
)
LLAMA_CPP = Dialect(
    name="llama.cpp",
    owned_by="llamacpp",
    version="2026.10.11549 (xllamacpp)",
    grammar_form=GBNF,
    grammar_fields=lambda grammar: {"grammar": grammar},
    grammar_remedy="start a later version",
    fixed_fields={
        "repeat_penalty": 1.0,
        "typical_p": 1.0,
        "dry_multiplier": 0.0,
        "xtc_probability": 0.0,
        "mirostat": 0,
    },
    all_tokens=0,
    stop_field=None,  # the end tokens of the GGUF end a text
    logprobs="content",
    tokenize_path="/tokenize",
    tokenize_body=lambda _, text: {"content": text, "add_special": False, "parse_special": True},
    context_keys=("meta", "n_ctx"),
)
RUBRICRM = Dialect(
    name="rubricrm",
    owned_by="rubricrm",
    version=__version__,
    grammar_form=NAMED,
    grammar_fields=lambda grammar: {"form": grammar},
    grammar_remedy="start it with a bundle of a rubric model, or without --no-constrain",
    all_tokens=0,
    stop_field=None,  # those of its bundle end a text
    tokenize_path="/tokenize",
    tokenize_body=lambda model, text: {"model": model, "prompt": text},
    reads_control_tokens=False,
    other_names="-rubric",
    context_keys=("max_model_len",),
)
OPENAI = Dialect(name="openai", owned_by=None, version="the API as documented", has_min_p=False, stop_field=None)

DIALECTS = {row.name: row for row in (VLLM, SGLANG, TENSORRT_LLM, LLAMA_CPP, RUBRICRM, OPENAI)}


def named_dialect(name: str) -> Dialect:
    """Return the row of a name.

    Raises:
        OptionInvalid: There is none.
    """
    if name not in DIALECTS:
        raise OptionInvalid(f"dialect: got {name!r:.40}, expected one of {', '.join(DIALECTS)}.")
    return DIALECTS[name]


def found_dialect(owned_by: object) -> Dialect | None:
    """Return the row of a server by what its list of models says; None where no row says that."""
    return next((row for row in DIALECTS.values() if row.owned_by is not None and row.owned_by == owned_by), None)
