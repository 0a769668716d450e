"""The word lists of `words.txt`, and words that nobody has seen before."""

import random
import string
from pathlib import Path


def read_lists() -> dict[str, list[str]]:
    """The words of each section."""
    lists: dict[str, list[str]] = {}
    section = ""
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif not line.startswith("#"):
            lists.setdefault(section, []).extend(line.split())
    return lists


LISTS = read_lists()
NOUNS = LISTS["nouns"]
ADJECTIVES = LISTS["adjectives"]
TONES = LISTS["tones"]
VERBS = LISTS["verbs"]
THIRD_PERSON = LISTS["third_person"]
STORY_VERBS = LISTS["story_verbs"]
PEOPLE = LISTS["people"]
NAMES = LISTS["names"]
PLACES = LISTS["places"]
LANGUAGES = LISTS["languages"]
PROGRAMMING_LANGUAGES = LISTS["programming_languages"]
NUMBER_WORDS = LISTS["number_words"]
ORDINALS = LISTS["ordinals"]
UNITS = LISTS["units"]
ONSETS = LISTS["onsets"]
NUCLEI = LISTS["nuclei"]
CODAS = LISTS["codas"]
ENDINGS = LISTS["endings"]
SPLICEABLE = [word for word in NOUNS + ADJECTIVES + VERBS + TONES if "-" not in word]
FIRST_PIECES = LISTS["first_pieces"]
LATER_PIECES = LISTS["later_pieces"]
CHINESE_CHARACTERS = LISTS["chinese_characters"]
EMOTICONS = LISTS["emoticons"]
# The letters of scripts, and the blocks that hold most emojis: first and last code point.
SCRIPTS = (
    *((0x0430, 0x044F), (0x03B1, 0x03C9), (0x0627, 0x064A), (0x05D0, 0x05EA), (0x0905, 0x0939), (0x0E01, 0x0E2E)),
    *((0xAC00, 0xD7A3), (0x3041, 0x3093), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0x00DF, 0x017E), (0x10D0, 0x10F0)),
)
EMOJIS = (
    *((0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F600, 0x1F64F), (0x1F680, 0x1F6C5), (0x1F90C, 0x1F9FF)),
    (0x2600, 0x27BF),
)
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

PLURAL_EXCEPTIONS = {
    "wolf": "wolves",
    "leaf": "leaves",
    "thief": "thieves",
    "knife": "knives",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "hero": "heroes",
    "volcano": "volcanoes",
    "matrix": "matrices",
    "thesis": "theses",
    "bus": "buses",
    "virus": "viruses",
    "class": "classes",
    "boss": "bosses",
}

DOUBLED = frozenset(
    ("begin", "put", "split", "cut", "set", "get", "stop", "plan", "skip", "omit", "run", "hit", "trim", "swap", "tag")
)


def nonsense(rng: random.Random) -> str:
    """A word that no list holds, so that the model can only copy it from the request."""
    return rng.choices((pieced, spliced, pronounceable), (5, 3, 2))[0](rng)


def pieced(rng: random.Random) -> str:
    """Pieces of words at random."""
    return rng.choice(FIRST_PIECES) + "".join(rng.choice(LATER_PIECES) for _ in range(rng.choice((0, 1, 1, 2))))


def spliced(rng: random.Random) -> str:
    """The beginning of a word with the end of another: the pieces of real words in a new order."""
    first, last = rng.choice(SPLICEABLE), rng.choice(SPLICEABLE)
    return first[: rng.randint(2, max(2, len(first) - 1))] + last[-rng.randint(2, 4) :]


def pronounceable(rng: random.Random) -> str:
    """Syllables at random."""
    syllables = (
        rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS).strip("-") for _ in range(rng.choice((1, 1, 2)))
    )
    return "".join(syllables) + rng.choice(ENDINGS).strip("-")


def strange(rng: random.Random) -> str:
    """Letters of a script at random: a word of no language."""
    first, last = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 7)))


def emoji(rng: random.Random) -> str:
    """A character of a block of emojis."""
    return chr(rng.randint(*rng.choice(EMOJIS)))


def mashed(rng: random.Random) -> str:
    """What a hand on a keyboard types."""
    row = rng.choice(KEYBOARD)
    if rng.random() < 0.3:
        return row[: rng.randint(3, len(row))]
    return "".join(rng.choice(row) for _ in range(rng.randint(3, 12)))


def noise(rng: random.Random) -> str:
    """Letters, digits and marks at random, as in a key or a broken paste."""
    return "".join(
        rng.choice(string.ascii_letters + string.digits + string.punctuation) for _ in range(rng.randint(2, 9))
    )


def plural(noun: str) -> str:
    """The plural of an English noun."""
    if noun in PLURAL_EXCEPTIONS:
        return PLURAL_EXCEPTIONS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """The phrase with `a` or `an` before it."""
    exceptions = ("uni", "use", "eu", "one", "ur")
    vowel = phrase[:1].lower() in tuple("aeiou") and not phrase.lower().startswith(exceptions)
    vowel = vowel or phrase.startswith(("honest", "hour", "SQL", "FAQ", "HTML", "8", "11", "18"))
    return f"{'an' if vowel else 'a'} {phrase}"


def gerund(verb: str) -> str:
    """The -ing form of a verb."""
    if verb in DOUBLED:
        return verb + verb[-1] + "ing"
    if verb.endswith("e") and not verb.endswith(("ee", "ye")):
        return verb[:-1] + "ing"
    return verb + "ing"
