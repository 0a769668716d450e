"""A grammar's hold on one sequence: what it lets pass, what it overrules, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rubricrm.generation.grammar import Grammar
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import choose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The stream of uniform numbers for choices after a refusal: that of the seed with these bits turned over.
_SECOND_DRAW = 0x5851F42D4C957F2D


@dataclass(frozen=True)
class Overrules:
    """How often a grammar took the model's choice away, so that it cannot hide a model that lost the form.

    Attributes:
        count: Tokens.
        probability: The sum, over these tokens, of the probability that the model gave to all that was refused.
    """

    count: int = 0
    probability: float = 0.0


class Constraint:
    """Where one sequence stands in a grammar.

    A token is chosen as if there were no grammar, and stays if it may follow. So a model that keeps the form writes
    what it writes without, greedy or sampled, and pays a microsecond per token. Else one is chosen among those that may
    follow. Together that is the model's distribution over what may follow.

    Attributes:
        grammar: The grammar.
        state: Its state after the tokens so far.
        overrules: What it took away.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.state = grammar.start
        self.overrules = Overrules()

    @property
    def shortest(self) -> int:
        """The fewest tokens to a whole end, the stop id included."""
        return self.grammar.shortest(self.state)

    def revise(
        self,
        token_id: int,
        logits: NDArray[np.float32],
        options: GenerationOptions,
        *,
        seed: int,
        index: int,
        tokens_left: int,
    ) -> int:
        """Return the token that follows instead of one that was chosen freely, and go on by it.

        Args:
            token_id: The choice.
            logits: [num_tokens], of which it was chosen.
            options: As for the choice.
            seed: Of the generation.
            index: How many tokens were chosen before.
            tokens_left: How many may be chosen, this one and the end included.
        """
        if not self.grammar.is_allowed(self.state, token_id, tokens_left):
            token_id = self._overrule(logits, options, seed, index, tokens_left)
        self.state = self.grammar.next(self.state, token_id)
        return token_id

    def _overrule(
        self, logits: NDArray[np.float32], options: GenerationOptions, seed: int, index: int, tokens_left: int
    ) -> int:
        import numpy as np

        mask = self.grammar.allowed(self.state, tokens_left)
        weights = logits - logits.max()
        np.exp(weights, out=weights)
        whole = float(weights.sum())
        weights *= mask
        refused = 1 - float(weights.sum()) / whole
        self.overrules = Overrules(self.overrules.count + 1, self.overrules.probability + refused)
        if options.is_greedy:
            return int(_only(mask, logits).argmax())
        ids = np.flatnonzero(mask)
        return int(ids[choose(logits[ids], options, seed ^ _SECOND_DRAW, index)])


def _only(mask: NDArray[np.bool_], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits, minus infinity where the mask says no.

    `where` branches for each token, which takes eight times as long where allowed and refused ones alternate.
    """
    import numpy as np

    limits = mask.astype(np.float32)
    limits -= np.float32(0.5)
    limits *= np.float32(np.inf)
    return np.minimum(logits, limits, out=limits)


def constrain(grammar: Grammar | None, max_new_tokens: int) -> Constraint | None:
    """Return what holds a sequence to a grammar; None where no whole text fits into so many tokens."""
    if grammar is None or grammar.shortest(grammar.start) > max_new_tokens:
        return None
    return Constraint(grammar)
