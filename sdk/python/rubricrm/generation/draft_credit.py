"""What drafting may still cost a sequence, so that it never makes one much slower."""

from __future__ import annotations

_LOAN = 1.0
_INTEREST = 0.02


class DraftCredit:
    """An account in tokens of plain decoding: a row is paid for, an accepted token is earned.

    It begins with one token and gains 2 % of each token that is written. So a text of n tokens takes at most n + 1 +
    0.02 n of plain decoding's steps, whatever is drafted and however wrong the expectations were: 0.97 of its speed
    from 100 tokens on, if steps cost what was measured.

    Attributes:
        tokens: The balance.
    """

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens = _LOAN

    def settle(self, price: float, accepted: int) -> None:
        """Account for one step: what its drafted rows cost, and how many of them came true."""
        self.tokens += accepted - price + _INTEREST * (1 + accepted)
