import copy
import gc
import json
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tokenizers
from hostile_texts import FRAGMENTS, hostile_text
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import BundleInvalid, RequestInvalid
from rubricrm.runtime.tokenizer import Tokenizer
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

QWEN3 = Path(__file__).resolve().parents[3] / "shared" / "qwen3-tokenizer" / "tokenizer.json"
NUM_HOSTILE = {"small": 3_000, "qwen3": 20_000}

# The library's own: Python's tables may be of another Unicode version.
NFC = normalizers.NFC()

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NOT_SPECIAL = ("<tool_call>", "</tool_call>", "<think>", "</think>")
PARAGRAPHS = [
    "The response names the request's main point before it adds any detail, and it doesn't repeat itself. [Hard Rule]",
    "1. The response explains why, in plain words, a reader should trust the figure of 42. [Principle]\n\n",
    "Das Café an der Brücke öffnet früh; naïve Gäste kommen später. Заметка о погоде: завтра дождь.",
    "def think(tool_call):\n    return [think(t) for t in tool_call if t]  # <b>think</b> im_start im_end",
]


def added_token(text: str, *, special: bool) -> AddedToken:
    return AddedToken(text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special)


@pytest.fixture(scope="module")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json in the form of Qwen3's, trained on a few sentences."""
    small = tokenizers.Tokenizer(models.BPE())
    small.normalizer = NFC
    split = pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    small.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    small.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=alphabet)
    small.train_from_iterator(PARAGRAPHS, trainer)
    small.add_special_tokens([added_token(text, special=True) for text in SPECIAL])
    small.add_tokens([added_token(text, special=False) for text in NOT_SPECIAL])
    path = tmp_path_factory.mktemp("small") / "tokenizer.json"
    small.save(str(path))
    return path


@pytest.fixture(scope="module", params=["small", "qwen3"])
def path(request: pytest.FixtureRequest) -> Path:
    if request.param == "small":
        return request.getfixturevalue("small_path")
    if not QWEN3.is_file():
        pytest.skip(f"no {QWEN3}")
    return QWEN3


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(path)


@pytest.fixture(scope="module")
def library(path: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(path))


@pytest.fixture
def small_document(small_path: Path) -> dict:
    return json.loads(small_path.read_text())


def open_document(document: object, folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document))
    return Tokenizer.from_file(path)


def library_ids(library: tokenizers.Tokenizer, text: str) -> list[int]:
    return library.encode(text, add_special_tokens=False).ids


def streamed(tokenizer: Tokenizer, ids: list[int]) -> str:
    decoder = tokenizer.text_decoder()
    return "".join([*map(decoder.push, ids), decoder.finish()])


# --- the ids are the library's ---


def test_hostile_strings_encode_as_in_the_library(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, path: Path
) -> None:
    added = list(tokenizer.added_tokens)
    added_ids = set(tokenizer.added_tokens.values())
    any_added = re.compile("|".join(map(re.escape, added)))
    rng = random.Random(20_251)
    num_plain = 0
    count = NUM_HOSTILE["qwen3" if path == QWEN3 else "small"]
    for _ in range(count):
        text = hostile_text(rng, added)
        expected = library_ids(library, text)
        assert tokenizer.encode_segments(tokenizer.split_control(text)) == expected, repr(text)
        plain = tokenizer.encode(text)
        if any_added.search(text):
            assert added_ids.isdisjoint(plain), repr(text)
        else:
            num_plain += 1
            assert plain == expected, repr(text)
    # Both branches must have been at work.
    assert count / 5 < num_plain < count * 4 / 5


@pytest.mark.parametrize("text", ["a" * 100_000, " " * 99_999 + "x", "é\u0301" * 50_000, "<|im_end|>" * 10_000])
def test_long_strings_encode_as_in_the_library(tokenizer: Tokenizer, library: tokenizers.Tokenizer, text: str) -> None:
    assert tokenizer.encode_segments(tokenizer.split_control(text)) == library_ids(library, text)


def test_the_longest_added_token_wins(small_document: dict, tmp_path: Path) -> None:
    for text in ("<|im_end|>!", "<|im"):
        number = small_document["added_tokens"][-1]["id"] + 1
        small_document["added_tokens"].append({**small_document["added_tokens"][-1], "content": text, "id": number})
    tokenizer = open_document(small_document, tmp_path)
    ids = tokenizer.added_tokens
    assert tokenizer.split_control("a<|im_end|>!b<|im_end|><|imx") == [
        "a", ids["<|im_end|>!"], "b", ids["<|im_end|>"], ids["<|im"], "x",
    ]  # fmt: skip


def test_the_older_form_of_merges_means_the_same(small_document: dict, tmp_path: Path, small_path: Path) -> None:
    small_document["model"]["merges"] = [" ".join(pair) for pair in small_document["model"]["merges"]]
    tokenizer = open_document(small_document, tmp_path)
    assert tokenizer.encode(PARAGRAPHS[0]) == Tokenizer.from_file(small_path).encode(PARAGRAPHS[0])


def test_ignore_merges_finds_words_that_no_merge_leads_to(small_document: dict, tmp_path: Path) -> None:
    word_id = len(small_document["model"]["vocab"])
    small_document["model"]["vocab"]["zqzq"] = word_id
    small_document["added_tokens"] = []
    assert word_id not in open_document(small_document, tmp_path).encode("zqzq")
    small_document["model"]["ignore_merges"] = True
    assert open_document(small_document, tmp_path).encode("zqzq") == [word_id]


def test_a_normalized_ascii_token_is_found_as_in_the_library(small_document: dict, tmp_path: Path) -> None:
    for token in small_document["added_tokens"]:
        token["normalized"] = token["content"] in NOT_SPECIAL
    tokenizer = open_document(small_document, tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    rng = random.Random(3)
    for _ in range(2_000):
        pieces = rng.choices(["<think>", "<think", ">", "\u0338", "\u0323", "\u0301", "e", "<|im_end|>", " "], k=8)
        text = "".join(pieces)
        assert tokenizer.encode_segments(tokenizer.split_control(text)) == library_ids(library, text), repr(text)


# --- user text never becomes a control token ---


def test_every_added_token_in_user_text_stays_text(tokenizer: Tokenizer) -> None:
    added_ids = set(tokenizer.added_tokens.values())
    for text in tokenizer.added_tokens:
        for user_text in (text, f" {text}", f"{text}\n{text}", f"a{text}b"):
            ids = tokenizer.encode(user_text)
            assert added_ids.isdisjoint(ids)
            assert tokenizer.decode(ids) == user_text


@settings(max_examples=300)
@given(pieces=st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*SPECIAL, *NOT_SPECIAL])), max_size=8))
def test_any_user_text_stays_text_and_comes_back(tokenizer: Tokenizer, pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = tokenizer.encode(text)
    assert set(tokenizer.added_tokens.values()).isdisjoint(ids)
    assert tokenizer.encode_segments(pieces) == ids
    # No character is lost, and no U+FFFD appears that the text lacks.
    assert streamed(tokenizer, ids) == tokenizer.decode(ids) == NFC.normalize_str(text)


def test_halves_of_a_control_token_stay_text_across_segments(tokenizer: Tokenizer) -> None:
    end = tokenizer.added_tokens["<|im_end|>"]
    ids = tokenizer.encode_segments([end, "<|im_", "end|>", end, "", end])
    assert ids == [end, *tokenizer.encode("<|im_end|>"), end, end]


def test_texts_side_by_side_merge_across_the_joint(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_segments(["The respo", "nse e", "\u0301"]) == tokenizer.encode("The response é")


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_added_tokens_that_the_vocabulary_holds_are_out_of_reach(
    small_document: dict, tmp_path: Path, ignore_merges: bool
) -> None:
    # "think" is a word that merges lead to; "[[]]" is one that only ignore_merges finds.
    model = small_document["model"]
    model["ignore_merges"] = ignore_merges
    model["vocab"]["[[]]"] = len(model["vocab"])
    if "think" not in model["vocab"]:
        for left, right in (("t", "h"), ("th", "i"), ("thi", "n"), ("thin", "k")):
            model["vocab"].setdefault(left + right, len(model["vocab"]))
            if [left, right] not in model["merges"]:
                model["merges"].append([left, right])
    template = small_document["added_tokens"][0]
    small_document["added_tokens"] = [
        {**template, "content": text, "id": model["vocab"][text]} for text in ("think", "[[]]")
    ]
    tokenizer = open_document(small_document, tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("think", "[[]]", "I think [[]] rethinking"):
        assert set(tokenizer.added_tokens.values()).isdisjoint(tokenizer.encode(text))
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.encode_segments(tokenizer.split_control(text)) == library_ids(library, text)


def test_a_lone_surrogate_is_refused_with_its_position(tokenizer: Tokenizer) -> None:
    for call in (tokenizer.encode, tokenizer.split_control):
        with pytest.raises(RequestInvalid, match=r"^REQUEST_INVALID: .*U\+D83D at character 3"):
            call("né🙂\ud83d")
    with pytest.raises(RequestInvalid, match="character 1,"):
        tokenizer.encode_segments(["long text before", "x\udc00"])


def test_nul_is_a_byte_as_any(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a\x00b")
    assert b"".join(map(tokenizer.token_bytes, ids)) == b"a\x00b"


# --- ids to text ---


@settings(max_examples=300)
@given(data=st.data())
def test_any_ids_decode_as_in_the_library(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, data: st.DataObject
) -> None:
    some_id = st.integers(0, tokenizer.num_tokens + 300)
    # The first 256 are the bytes: sequences of them are the broken characters.
    broken = st.integers(0, 255)
    ids = data.draw(st.lists(st.one_of(broken, some_id, st.sampled_from(sorted(tokenizer.added_tokens.values())))))
    expected = library.decode(ids, skip_special_tokens=True)
    assert tokenizer.decode(ids) == expected
    assert streamed(tokenizer, ids) == expected


def test_a_special_token_does_not_break_a_character(tokenizer: Tokenizer) -> None:
    byte_ids = {tokenizer.token_bytes(token_id): token_id for token_id in range(256)}
    smile = [byte_ids[bytes([byte])] for byte in "🙂".encode()]
    end, think = tokenizer.added_tokens["<|im_end|>"], tokenizer.added_tokens["<think>"]
    assert streamed(tokenizer, [*smile[:2], end, *smile[2:]]) == "🙂"
    assert streamed(tokenizer, [*smile[:2], think]) == "\ufffd<think>"
    assert streamed(tokenizer, smile[:3]) == "\ufffd"


def test_a_text_decoder_holds_a_character_back_until_it_is_whole(tokenizer: Tokenizer) -> None:
    byte_ids = {tokenizer.token_bytes(token_id): token_id for token_id in range(256)}
    decoder = tokenizer.text_decoder()
    assert [decoder.push(byte_ids[bytes([byte])]) for byte in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert decoder.finish() == ""


def test_token_bytes_joined_are_the_text(tokenizer: Tokenizer) -> None:
    text = NFC.normalize_str("".join(FRAGMENTS))
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_the_vocabulary_ends_at_num_tokens(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    assert tokenizer.num_tokens == library.get_vocab_size(with_added_tokens=True)
    assert all(tokenizer.token_bytes(token_id) for token_id in range(tokenizer.num_tokens))
    assert [tokenizer.token_bytes(token_id) for token_id in (-1, tokenizer.num_tokens, 2**40)] == [b"", b"", b""]
    assert set(tokenizer.added_tokens) >= {*SPECIAL, *NOT_SPECIAL}
    assert tokenizer.special_ids >= {tokenizer.added_tokens[text] for text in SPECIAL}
    assert tokenizer.special_ids.isdisjoint(tokenizer.added_tokens[text] for text in NOT_SPECIAL)
    assert all(tokenizer.token_bytes(number) == text.encode() for text, number in tokenizer.added_tokens.items())


def test_an_added_token_beyond_ascii_is_its_own_text(small_document: dict, tmp_path: Path) -> None:
    # The library decodes "ñ" as the byte 0xF1, which is no text: here it is what the token says.
    last = small_document["added_tokens"][-1]
    small_document["added_tokens"].append({**last, "content": "añb", "id": last["id"] + 1})
    tokenizer = open_document(small_document, tmp_path)
    assert tokenizer.decode([last["id"] + 1]) == "añb"


@pytest.mark.parametrize("entry", ["Ġ b", "Ġ\u00ad", "Ġ漢"])
def test_an_entry_outside_the_byte_alphabet_is_its_own_text(small_document: dict, tmp_path: Path, entry: str) -> None:
    entry_id = len(small_document["model"]["vocab"])
    small_document["model"]["vocab"][entry] = entry_id
    small_document["added_tokens"] = []
    tokenizer = open_document(small_document, tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.decode([entry_id]) == library.decode([entry_id]) == entry


def test_large_texts_are_encoded_in_one_thread_with_the_same_ids_and_errors(small_path: Path) -> None:
    tokenizer = Tokenizer.from_file(small_path)
    text = "The response must rhyme. " * 400
    names: set[str] = set()
    find = tokenizer._ids

    def watched(text: str) -> list[int]:
        names.add(threading.current_thread().name)
        return find(text)

    tokenizer._ids = watched  # type: ignore[method-assign]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, [text] * 40)) == [find(text)] * 40
        assert len(names) == 1
        assert "rubricrm-tokenizer" in names.pop()
        with pytest.raises(RequestInvalid, match=r"U\+D800 at character 5000,"):
            tokenizer.encode("a" * 5000 + "\ud800")
    tokenizer.encode("Short.")
    assert names >= {threading.current_thread().name}


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = [hostile_text(random.Random(seed), list(SPECIAL)) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda text: tokenizer.decode(tokenizer.encode(text)), texts))
    assert decoded == [NFC.normalize_str(text) for text in texts]


# --- bad files ---


def put(document: dict, keys: str, value: object) -> None:
    *parents, last = (int(key) if key.isdigit() else key for key in keys.split("/"))
    for key in parents:
        document = document[key]
    document[last] = value


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
BAD_VALUES = {
    "no model": ("model", None, '"model" is NoneType, expected an object'),
    "not BPE": ("model/type", "Unigram", "\"model.type\" is 'Unigram', expected 'BPE'"),
    "dropout": ("model/dropout", 0.1, '"model.dropout" is 0.1, expected null, or encoding would be random'),
    "word ends": ("model/end_of_word_suffix", "</w>", "\"model.end_of_word_suffix\" is '</w>'"),
    "no vocab": ("model/vocab", [], '"model.vocab" is list'),
    "vocab of texts": ("model/vocab/a", "1", '"model.vocab" is a map to something else'),
    "ids not unique": ("model/vocab/zz", 3, '"model.vocab" is ambiguous'),
    "no merges": ("model/merges", None, '"model.merges" is malformed'),
    "merge of three": ("model/merges/0", "a b c", '"model.merges" is malformed'),
    "merge of numbers": ("model/merges/0", [1, 2], '"model.merges" is made of something else'),
    "unknown merge": ("model/merges/0", ["zq", "qz"], "the tokenizer is refused: "),
    "no pre-tokenizer": ("pre_tokenizer", None, '"pre_tokenizer" is None, expected ByteLevel'),
    "metaspace": ("pre_tokenizer", {"type": "Metaspace"}, "\"pre_tokenizer\" is ['Metaspace']"),
    "split alone": ("pre_tokenizer/pretokenizers/1", {"type": "Digits"}, "\"pre_tokenizer\" is ['Split', 'Digits']"),
    "bad regex": ("pre_tokenizer/pretokenizers/0/pattern/Regex", "(", "the tokenizer is refused: "),
    "no decoder": ("decoder", None, '"decoder" is None, expected ByteLevel alone'),
    "decoder that strips": (
        "decoder",
        {"type": "Sequence", "decoders": [BYTE_LEVEL, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "\"decoder\" is ['ByteLevel', 'Strip']",
    ),
    "added no list": ("added_tokens", {"a": 1}, '"added_tokens" is dict'),
    "added no object": ("added_tokens/1", "<x>", '"added_tokens[1]" is "<x>"'),
    "added empty": ("added_tokens/1/content", "", '"added_tokens[1].content" is empty'),
    "added twice": ("added_tokens/1/content", "<|endoftext|>", "\"added_tokens[1].content\" is '<|endoftext|>' again"),
    "added with a gap": ("added_tokens/1/id", 9999, '"added_tokens[1].id" is 9999, expected 401'),
    "added over the vocabulary": ("added_tokens/0/id", 5, '"added_tokens[0].id" is 5, expected 400'),
    "added that eats left": ("added_tokens/0/lstrip", True, '"added_tokens[0].lstrip" is true'),
    "added that eats right": ("added_tokens/0/rstrip", True, '"added_tokens[0].rstrip" is true'),
    "added in words only": ("added_tokens/0/single_word", True, '"added_tokens[0].single_word" is true'),
}


@pytest.mark.parametrize(("keys", "value", "message"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_bad_value_is_named(small_document: dict, tmp_path: Path, keys: str, value: object, message: str) -> None:
    put(small_document, keys, value)
    with pytest.raises(BundleInvalid) as caught:
        open_document(small_document, tmp_path)
    assert str(caught.value).startswith(f"BUNDLE_INVALID: {tmp_path / 'tokenizer.json'}: {message}")
    assert str(caught.value).endswith(".")


def test_a_normalized_token_beyond_ascii_is_refused(small_document: dict, tmp_path: Path) -> None:
    small_document["added_tokens"][0] |= {"content": "<é>", "normalized": True}
    with pytest.raises(BundleInvalid, match=r'"added_tokens\[0\].normalized" is true.* Set "normalized" to false'):
        open_document(small_document, tmp_path)
    small_document["normalizer"] = None
    assert "<é>" in open_document(small_document, tmp_path).added_tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the file is no JSON"),
        (b"\xff\xfe\xfd", "the file is no JSON"),
        (b"[" * 100_000, "the file is no JSON"),
        (b"[]", "the file is a JSON list, expected an object"),
        (b"{}", '"pre_tokenizer" is None'),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(BundleInvalid, match=re.escape(f"BUNDLE_INVALID: {path}: {message}")):
        Tokenizer.from_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="the file is unreadable \\(No such file or directory\\)"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    with pytest.raises(BundleInvalid, match="the file is unreadable \\(Is a directory\\)"):
        Tokenizer.from_file(tmp_path)


def test_no_added_tokens_is_no_fault(small_document: dict, tmp_path: Path) -> None:
    without = copy.deepcopy(small_document) | {"added_tokens": []}
    tokenizer = open_document(without, tmp_path)
    assert tokenizer.split_control("<think>") == ["<think>"]
    assert (dict(tokenizer.added_tokens), tokenizer.special_ids) == ({}, frozenset())


def test_a_character_without_bytes_is_refused_and_not_dropped(small_document: dict, tmp_path: Path) -> None:
    end_of_transmission = "\u0104"  # what the vocabulary writes for the byte 4
    token_id = small_document["model"]["vocab"][end_of_transmission]
    small_document["added_tokens"] = [  # takes its only entry away
        small_document["added_tokens"][0] | {"id": token_id, "content": end_of_transmission}
    ]
    tokenizer = open_document(small_document, tmp_path)
    assert tokenizer.decode(tokenizer.encode("fine")) == "fine"
    with pytest.raises(RequestInvalid, match=r"the text holds '.x04' at character 2, for which .* no token"):
        tokenizer.encode("é.\x04")


# ---- the garbage collector, which opening pauses ----


@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("contents", [None, "{}"], ids=["opens", "fails"])
def test_opening_leaves_the_garbage_collector_as_it_was(
    small_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_enabled: bool, contents: str | None
) -> None:
    path = small_path
    if contents is not None:
        path = tmp_path / "tokenizer.json"
        path.write_text(contents)
    during: list[bool] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: (during.append(gc.isenabled()), loads(text))[1])
    (gc.enable if is_enabled else gc.disable)()
    try:
        if contents is None:
            Tokenizer.from_file(path)
        else:
            with pytest.raises(BundleInvalid):
                Tokenizer.from_file(path)
        assert gc.isenabled() is is_enabled
    finally:
        gc.enable()
    assert during == [False]
