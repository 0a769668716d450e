"""Logits to the next tokens of a sequence: sampling, the hold of its form, drafts that come true, and the end."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Tokens
from typing import TYPE_CHECKING

from rubricrm.generation.sampling import choose, logprobs
from rubricrm.generation.sequence import Sequence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def decide(
    sequence: Sequence, logits: NDArray[np.float32], drafted: Tokens[int], num_tokens: int, stop_ids: Collection[int]
) -> int:
    """Choose the tokens that follow a sequence: one, and one more for each drafted token that comes true.

    Args:
        sequence: It gets the tokens, or ends with one that ends a text.
        logits: [1 + drafted, vocab_size], after its last token and after each drafted one.
        drafted: What may follow.
        num_tokens: Ids from here on are no tokens.
        stop_ids: Ids that end the text.

    Returns:
        How many drafted tokens came true.
    """
    for num_accepted, row in enumerate(logits):
        token_id = _next_token(sequence, row, num_tokens, stop_ids)
        # The rows after a draft that did not come true follow a text that is not there.
        if sequence.is_finished or num_accepted == len(drafted) or token_id != drafted[num_accepted]:
            return num_accepted
    return 0


def _next_token(sequence: Sequence, row: NDArray[np.float32], num_tokens: int, stop_ids: Collection[int]) -> int:
    options, seed, index = sequence.options, sequence.seed, len(sequence.token_ids)
    real = row[:num_tokens]
    token_id = choose(real, options, seed, index)
    if (constraint := sequence.constraint) is not None:
        token_id = constraint.revise(token_id, real, options, seed=seed, index=index, tokens_left=sequence.tokens_left)
    if token_id in stop_ids:
        sequence.finish("stop")
    else:
        scores = None if options.logprobs is None else logprobs(row, token_id, options.logprobs)
        sequence.push(token_id, scores)
    return token_id
