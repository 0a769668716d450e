"""Whether a text is in a grammar to which somebody else was to hold it."""

from __future__ import annotations

from rubricrm.errors import RequestInvalid
from rubricrm.generation.grammar import END, REFUSED, Grammar
from rubricrm.runtime.tokenizer import Tokenizer


def line_out_of_grammar(text: str, grammar: Grammar, tokenizer: Tokenizer, *, is_cut: bool) -> int | None:
    """Return the number of the first line that leaves a grammar; None: the text is in it.

    It goes byte by byte, since a text is in the grammar whatever its tokens are. A microsecond per byte.

    Args:
        text: The text.
        grammar: Compiled for the tokenizer.
        tokenizer: Has the tokens of single bytes.
        is_cut: Whether the text may end anywhere, in the middle of a character too.
    """
    if is_cut:
        text = text.rstrip("\ufffd")
    try:
        ids = tokenizer.byte_ids(text) or tokenizer.encode(text)
    except RequestInvalid:  # no tokens spell it, and so no text of the grammar
        return 1
    state, line = grammar.start, 1
    for token_id in ids:
        state = grammar.next(state, token_id)
        if state in (REFUSED, END):
            return line
        line += tokenizer.token_bytes(token_id).count(b"\n")
    return None if is_cut or grammar.is_whole(state) else line
