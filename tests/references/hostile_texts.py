"""Texts on which tokenizers part: marks, emoji, white space, digits, broken control tokens, all forms of Unicode."""

import random
import unicodedata

# fmt: off
WORDS = ["hello", " world", "The response", " Don't", "'LL", "x", "É", "ß", "İ", "ǆ", "Ġ", "Ċ"]
DECOMPOSED = ["e\u0301", "A\u030a", "\u212b", "q\u0307\u0323", "\u1100\u1161\u11a8", "か\u3099", "\uf900"]
COMBINING = ["\u0301", "\u0338", "\u0345", "\u20dd", "\u0323\u0301"]
CJK = ["각", "漢字", "カタカナ", "ｶﾞ", "、", "「", "\U00020000"]
EMOJI = ["👩‍👩‍👧‍👦", "👍🏽", "🏽", "🇩🇪", "🇩", "❤️", "\u200d", "\ufe0f", "🙂", "𝒳", "\U0010ffff", "\U000e0067"]
WHITESPACE = [" ", "  ", "\t", "\n", "\r\n", "\r", "\n\n \n", "\xa0", "\u2003", "\u3000", "\x85", "\u2028", "\x0b"]
DIGITS_AND_SIGNS = ["0", "007", "3.14159", "٣٤", "²", "Ⅷ", "1,000,000", "!?", "...", "—", "{}[]()", "\\", "$$$", "#"]
RIGHT_TO_LEFT = ["שלום", "مرحبا", "\u202e", "\u200f", "हिन्दी", "ไทย"]
CONTROL_CHARACTERS = ["\x00", "\x1b[0m", "\x7f", "\ufeff", "\ufffd", "\ufffe"]
BROKEN_TOKENS = ["<", "|", ">", "<|", "|>", "</", "im_end|>", "<|im_", "think>", "<think", "<|im_end|", "< think>"]
FRAGMENTS = [
    *WORDS, *DECOMPOSED, *COMBINING, *CJK, *EMOJI, *WHITESPACE, *DIGITS_AND_SIGNS, *RIGHT_TO_LEFT, *CONTROL_CHARACTERS,
    *BROKEN_TOKENS,
]
# fmt: on


def hostile_text(rng: random.Random, added: list[str]) -> str:
    pieces = []
    for _ in range(rng.randrange(1, 16)):
        kind = rng.randrange(12)
        if kind == 0:
            pieces.append(rng.choice(added))
        elif kind == 1:
            token = rng.choice(added)
            pieces.append(
                token[rng.randrange(len(token)) :] if rng.random() < 0.5 else token[: rng.randrange(len(token))]
            )
        elif kind == 2:
            pieces.append("".join(rng.choice(" \t\n\r\u00a0") for _ in range(rng.randrange(1, 40))))
        elif kind == 3:
            ends = rng.choices((0x80, 0x500, 0x3000, 0xD800), k=3)
            pieces.append("".join(chr(rng.randrange(end)) for end in ends) + chr(rng.randrange(0xE000, 0x30000)))
        else:
            pieces.append(rng.choice(FRAGMENTS))
    text = "".join(pieces)
    form = rng.choice((None, None, "NFC", "NFD", "NFKD"))
    return unicodedata.normalize(form, text) if form else text
