"""Log-probabilities as OpenAI's two kinds of completions write them."""

from __future__ import annotations

from collections.abc import Sequence

from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_serve.openai_answer import ChatLogprobs, TextLogprobs, TokenFacts


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs] | None) -> ChatLogprobs | None:
    """Return those of a chat's answer; None where none were asked for."""
    if entries is None:
        return None
    return {
        "content": [
            {
                **_facts(tokenizer, entry.token_id, entry.logprob),
                "top_logprobs": [_facts(tokenizer, token_id, logprob) for token_id, logprob in entry.top],
            }
            for entry in entries
        ],
        "refusal": None,
    }


def text_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs] | None) -> TextLogprobs | None:
    """Return those of a text; None where none were asked for.

    Of several tokens with one text, such as parts of characters, the most probable one is in `top_logprobs`.
    """
    if entries is None:
        return None
    tokens = [_text(tokenizer, entry.token_id) for entry in entries]
    offsets = [0]
    for token in tokens[:-1]:
        offsets.append(offsets[-1] + len(token))
    return {
        "tokens": tokens,
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [
            {_text(tokenizer, token_id): logprob for token_id, logprob in reversed(entry.top)} for entry in entries
        ],
        "text_offset": offsets[: len(tokens)],
    }


def _facts(tokenizer: Tokenizer, token_id: int, logprob: float) -> TokenFacts:
    spelled = tokenizer.token_bytes(token_id)
    return {"token": spelled.decode("utf-8", "replace"), "bytes": list(spelled), "logprob": logprob}


def _text(tokenizer: Tokenizer, token_id: int) -> str:
    return tokenizer.token_bytes(token_id).decode("utf-8", "replace")
