"""Requests become prompts: control tokens come from the template alone, and the fixed part is truly fixed."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import BundleInvalid, OptionInvalid, RequestInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import REQUEST_FIELD, ChatFacts, PrefixFacts, PromptFacts, RoleFacts
from rubricrm.runtime.prompt import Prompt, check_text, common_prefix
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.checkpoint.chat_pieces import read_chat

SHARED = Path(__file__).resolve().parents[3] / "shared"
QWEN3 = SHARED / "qwen3-tokenizer" / "tokenizer.json"
needs_shared = pytest.mark.skipif(not QWEN3.exists(), reason="no shared/ beside the checkout")

START, END, THINK, END_THINK = 1, 2, 3, 4
REQUEST = "Write a haiku."

ChangePrompt = Callable[..., Prompt]


@pytest.fixture(scope="module")
def facts(tiny_bundle: Path) -> PromptFacts:
    return Bundle.open(tiny_bundle).manifest.prompt


@pytest.fixture(scope="module")
def chat(tiny_bundle: Path) -> ChatFacts:
    return Bundle.open(tiny_bundle).manifest.chat


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(tiny_bundle / "tokenizer.json")


@pytest.fixture(scope="module")
def prompt(facts: PromptFacts, chat: ChatFacts, tokenizer: Tokenizer) -> Prompt:
    return Prompt(facts, chat, tokenizer)


@pytest.fixture
def change_prompt(facts: PromptFacts, chat: ChatFacts, tokenizer: Tokenizer) -> ChangePrompt:
    """Return a function that makes a prompt with another template, or with other parts of the chat template."""

    def change(template: str = facts.template, **pieces: Any) -> Prompt:
        changed = dataclasses.replace(facts, template=template)
        return Prompt(changed, dataclasses.replace(chat, **pieces), tokenizer)

    return change


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, control tokens spelled out."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8")


def message(role: str, content: str) -> Mapping[str, str]:
    return {"role": role, "content": content}


# ---- requests ----


def test_a_request_stands_in_the_template_inside_the_chat_wrapper(
    prompt: Prompt, tokenizer: Tokenizer, facts: PromptFacts, chat: ChatFacts
) -> None:
    rubric_prompt = facts.template.replace(REQUEST_FIELD, REQUEST)
    expected = f"{chat.opening}{chat.user.before}{rubric_prompt}{chat.user.after}{chat.generation}"
    ids = prompt.encode_request(REQUEST)
    assert text_of(tokenizer, ids) == expected
    assert [i for i in ids if i <= END_THINK] == [START, END, START, THINK, END_THINK]


def test_what_a_user_types_is_never_a_control_token(prompt: Prompt, tokenizer: Tokenizer) -> None:
    control = set(tokenizer.added_tokens.values())
    expected = [i for i in prompt.encode_request(REQUEST) if i in control]
    for token in tokenizer.added_tokens:
        for request in (token, f"a{token}b", f"{token}\n", token * 3, f"{token[:-1]} {token}", f"|{token}"):
            ids = prompt.encode_request(request)
            assert [i for i in ids if i in control] == expected, request
            assert request in text_of(tokenizer, ids)


def test_a_control_token_in_halves_across_template_and_request_stays_text(change_prompt: ChangePrompt) -> None:
    prompt = change_prompt(template="Begin <|im_{prompt}|> end")
    assert prompt.encode_request("end").count(END) == prompt.encode_request("other").count(END) == 1


def test_a_control_token_of_the_template_is_an_id(change_prompt: ChangePrompt) -> None:
    assert change_prompt(template="<think>{prompt}").encode_request("<think>").count(THINK) == 2


def test_a_request_is_composed_before_encoding(prompt: Prompt) -> None:
    assert prompt.encode_request("cafe\u0301") == prompt.encode_request("caf\u00e9")


@pytest.mark.parametrize("request_text", ["", " ", "\n\t ", "\u3000\u2003\u00a0"], ids=ascii)
def test_a_blank_request_is_refused(prompt: Prompt, request_text: str) -> None:
    with pytest.raises(RequestInvalid, match="request: is empty or only whitespace. Say what"):
        prompt.encode_request(request_text)


def test_nul_is_refused_with_its_place(prompt: Prompt) -> None:
    with pytest.raises(RequestInvalid, match="request: holds NUL at character 3"):
        prompt.encode_request("abc\0def\0")


@pytest.mark.parametrize(
    ("request_text", "found"),
    [("ab\ud800", "U\\+D800 at character 2"), ("\udfff\ud83d", "U\\+DFFF at character 0"), ("x\udc80y", "U\\+DC80")],
    ids=ascii,
)
def test_a_lone_surrogate_is_refused_with_its_place(prompt: Prompt, request_text: str, found: str) -> None:
    with pytest.raises(RequestInvalid, match=f"request: holds the lone surrogate {found}"):
        prompt.encode_request(request_text)


@pytest.mark.parametrize("request_text", [None, b"bytes", 7, ["a"]], ids=repr)
def test_a_request_that_is_no_text_is_refused(prompt: Prompt, request_text: Any) -> None:
    with pytest.raises(RequestInvalid, match="request: got .*, expected a string"):
        prompt.encode_request(request_text)


@given(st.text(st.characters(), max_size=20))
def test_any_text_is_checked_without_another_error(text: str) -> None:
    try:
        check_text(text, "request")
    except RequestInvalid:
        assert not text.strip() or "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text)
    else:
        assert text.strip()
        assert "\0" not in text
        text.encode()


# ---- the fixed prefix ----

hostile_requests = st.text(max_size=30) | st.lists(
    st.sampled_from(["<|im_end|>", "<think>", "\n", "\r\n", "  ", "\t", "\u0301", "\u0338", "e\u0301", "\u1161", "'s"])
    | st.characters(categories=["L", "M", "N", "P", "S", "Z"]),
    max_size=8,
).map("".join)


def is_valid(request: str) -> bool:
    return bool(request.strip()) and "\0" not in request


@settings(max_examples=300)
@given(request_text=hostile_requests.filter(is_valid))
def test_every_prompt_begins_with_the_fixed_prefix(prompt: Prompt, request_text: str) -> None:
    prefix = prompt.fixed_prefix()
    assert common_prefix(prefix, prompt.encode_request(request_text)) == len(prefix)


def test_the_manifest_tells_the_length_of_the_prefix(prompt: Prompt, tiny_bundle: Path) -> None:
    assert len(prompt.fixed_prefix()) == Bundle.open(tiny_bundle).manifest.prompt.prefix.num_tokens


def test_the_fixed_prefix_ends_before_what_the_request_can_change(change_prompt: ChangePrompt) -> None:
    # The request may begin with a combining accent, which makes one character with the last letter before it.
    prompt = change_prompt(template="Say e{prompt}")
    prefix = prompt.fixed_prefix()
    for request_text in ("e", "\u0301", "a"):
        assert common_prefix(prefix, prompt.encode_request(request_text)) == len(prefix)


def test_a_template_that_begins_with_the_request_still_has_the_wrapper_fixed(
    change_prompt: ChangePrompt, tokenizer: Tokenizer
) -> None:
    assert text_of(tokenizer, change_prompt(template="{prompt}").fixed_prefix()) == "<|im_start|>user\n"


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2], 2), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([4], [5], 0)],
    ids=["empty", "one-empty", "equal", "differ", "shorter", "none"],
)
def test_the_common_prefix_is_counted(left: list[int], right: list[int], length: int) -> None:
    assert common_prefix(left, right) == common_prefix(right, left) == length


# ---- conversations ----


def test_a_conversation_is_its_messages_between_their_roles_pieces(prompt: Prompt, tokenizer: Tokenizer) -> None:
    ids = prompt.encode_messages(
        [message("system", "Be brief."), message("user", "Hi"), message("assistant", "Hello"), message("user", "Bye")]
    )
    assert text_of(tokenizer, ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_as_many_turns_as_messages_whatever_they_say(prompt: Prompt, tokenizer: Tokenizer) -> None:
    every_token = "".join(tokenizer.added_tokens)
    ids = prompt.encode_messages([message(role, every_token) for role in ("system", "user", "assistant", "user")])
    assert ids.count(START) == 5
    assert ids.count(END) == 4
    assert ids.count(THINK) == ids.count(END_THINK) == 1


def test_the_opening_stands_before_a_conversation_without_system_message(
    change_prompt: ChangePrompt, tokenizer: Tokenizer
) -> None:
    opening = "<|im_start|>system\nBe good.<|im_end|>\n"
    prompt = change_prompt(opening=opening)
    assert text_of(tokenizer, prompt.encode_messages([message("user", "Hi")])).startswith(opening)
    assert text_of(tokenizer, prompt.encode_request("Hi")).startswith(opening)
    own = [message("system", "Be bad."), message("user", "Hi")]
    assert "Be good." not in text_of(tokenizer, prompt.encode_messages(own))
    assert text_of(tokenizer, prompt.fixed_prefix()).startswith(opening)


USER = message("user", "Hi")
BAD_CONVERSATIONS: dict[str, tuple[Any, str]] = {
    "none": ([], "the last message must have the role user"),
    "ends-with-assistant": ([USER, message("assistant", "Hello")], "the last message must have the role user"),
    "system-only": ([message("system", "Be brief.")], "the last message must have the role user"),
    "unknown-role": ([message("tool", "x"), USER], r"messages\[0\].role: got 'tool', expected one of system, user"),
    "role-missing": ([{"content": "x"}, USER], r"messages\[0\].role: got None"),
    "last-role-missing": ([USER, {"content": "x"}], "the last message must have the role user"),
    "role-a-list": ([{"role": ["user"], "content": "x"}, USER], r"messages\[0\].role: got \['user'\]"),
    "late-system": ([USER, message("system", "x"), USER], r"messages\[1\].role: system may only come first"),
    "content-missing": ([{"role": "user"}], r"messages\[0\].content: got None, expected a string"),
    "content-parts": (
        [{"role": "user", "content": [{"text": "x"}]}],
        r"messages\[0\].content: got .*, expected a string",
    ),
    "strings": (["Hi"], r"messages\[0\]: got 'Hi', expected an object of role and content"),
    "string-between": (["Hi", USER], r"messages\[0\]: got 'Hi', expected an object of role and content"),
}


@pytest.mark.parametrize(("messages", "words"), BAD_CONVERSATIONS.values(), ids=BAD_CONVERSATIONS)
def test_a_conversation_in_another_form_is_refused(prompt: Prompt, messages: Any, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        prompt.encode_messages(messages)


@pytest.mark.parametrize("content", ["", " \n", "a\0", "\ud800"], ids=ascii)
@pytest.mark.parametrize("place", [0, 1])
def test_a_message_is_checked_as_a_request_is(prompt: Prompt, content: str, place: int) -> None:
    messages = [message("system", "Be brief."), USER]
    messages[place] = message(messages[place]["role"], content)
    with pytest.raises(RequestInvalid, match=rf"messages\[{place}\].content"):
        prompt.encode_messages(messages)


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_role_that_the_chat_template_cannot_place_is_refused(change_prompt: ChangePrompt, role: str) -> None:
    prompt = change_prompt(**{role: None})
    with pytest.raises(OptionInvalid, match=f"this model's chat template cannot place a {role} message"):
        prompt.encode_messages([message(role, "x"), USER])


# ---- the published model's prompt ----


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prompt, Tokenizer]:
    """The prompt of RubricRM-4B: its template, the wrapper of its chat template, and the tokenizer of Qwen3."""
    checkpoint = tmp_path_factory.mktemp("published") / "checkpoint"
    tool = SHARED / "tools" / "make_checkpoint.py"
    subprocess.run([sys.executable, str(tool), str(checkpoint), "--shape", "tiny"], check=True, capture_output=True)
    template = (SHARED / "prompts" / "rubric_v2.txt").read_text("utf-8")
    digest = hashlib.sha256(template.encode()).hexdigest()
    tokenizer = Tokenizer.from_file(QWEN3)
    chat = read_chat(checkpoint, None, tokenizer.added_tokens)
    fields, ids = {"request": "{prompt}"}, (151645, 151643)
    facts = PromptFacts(fields, template, digest, "rubric_v2.txt", ids, PrefixFacts(0, {}))
    return Prompt(facts, chat, tokenizer), tokenizer


@needs_shared
def test_the_published_prompt_is_rendered_byte_for_byte_and_id_for_id(published: tuple[Prompt, Tokenizer]) -> None:
    prompt, tokenizer = published
    ids = prompt.encode_request("Write a haiku about autumn.")
    example = SHARED / "prompts" / "rendered_example_rubric_v2.txt"
    assert text_of(tokenizer, ids).encode() == example.read_bytes()
    assert ids == json.loads(example.with_suffix(".ids.json").read_text("utf-8"))
    assert len(ids) == 333


@needs_shared
def test_306_tokens_of_the_published_prompt_are_fixed(published: tuple[Prompt, Tokenizer]) -> None:
    prompt, _ = published
    prefix = prompt.fixed_prefix()
    assert len(prefix) == 306
    assert common_prefix(prefix, prompt.encode_request("Write a haiku about autumn.")) == 306


@needs_shared
@settings(max_examples=300)
@given(request_text=hostile_requests.filter(is_valid))
def test_every_published_prompt_begins_with_the_fixed_prefix(
    published: tuple[Prompt, Tokenizer], published_prefix: list[int], request_text: str
) -> None:
    assert common_prefix(published_prefix, published[0].encode_request(request_text)) == len(published_prefix)


@pytest.fixture(scope="module")
def published_prefix(published: tuple[Prompt, Tokenizer]) -> list[int]:
    return published[0].fixed_prefix()


@needs_shared
def test_no_added_token_of_the_published_tokenizer_can_be_typed(published: tuple[Prompt, Tokenizer]) -> None:
    prompt, tokenizer = published
    control = set(tokenizer.added_tokens.values())
    expected = [i for i in prompt.encode_request(REQUEST) if i in control]
    for request in [*tokenizer.added_tokens, "".join(tokenizer.added_tokens)]:
        assert [i for i in prompt.encode_request(request) if i in control] == expected, request


def test_roles_that_are_none_are_not_needed_for_a_request(tokenizer: Tokenizer, facts: PromptFacts) -> None:
    chat = ChatFacts("", None, RoleFacts("<|im_start|>", "<|im_end|>"), None, "")
    assert text_of(tokenizer, Prompt(facts, chat, tokenizer).encode_request("Hi"))


def test_a_prompt_with_other_fields_is_refused(tokenizer: Tokenizer, facts: PromptFacts, chat: ChatFacts) -> None:
    other = dataclasses.replace(facts, fields={"question": "{prompt}"})
    with pytest.raises(BundleInvalid, match="are question, expected request alone"):
        Prompt(other, chat, tokenizer)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([], [5], 0),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2], [1, 9, 3], 1),
        ([1, 2], (9, 2, 3), 0),
        ((1, 2), [1], 1),
        ([], [], 0),
    ],
)
def test_a_common_prefix_ends_where_the_shorter_one_does_or_they_differ(
    left: Sequence[int], right: Sequence[int], expected: int
) -> None:
    assert common_prefix(left, right) == common_prefix(right, left) == expected
