"""Logits to the next token of a sequence: sampling, the hold of its form, and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rubricrm.generation.sampling import choose, logprobs
from rubricrm.generation.sequence import Sequence
from rubricrm.runtime.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def decide(sequence: Sequence, row: NDArray[np.float32], manifest: Manifest) -> int:
    """Choose the token that follows a sequence, and tell it.

    Args:
        sequence: It gets the token, or ends with one that ends a text.
        row: [vocab_size], the logits after its last token.
        manifest: Says which tokens there are, and which end a text.

    Returns:
        The token.
    """
    options, seed, index = sequence.options, sequence.seed, len(sequence.token_ids)
    real = row[: manifest.tokenizer.num_tokens]
    token_id = choose(real, options, seed, index)
    if (constraint := sequence.constraint) is not None:
        token_id = constraint.revise(token_id, real, options, seed=seed, index=index, tokens_left=sequence.tokens_left)
    if token_id in manifest.prompt.stop_ids:
        sequence.finish("stop")
    else:
        scores = None if options.logprobs is None else logprobs(row, token_id, options.logprobs)
        sequence.push(token_id, scores)
    return token_id
