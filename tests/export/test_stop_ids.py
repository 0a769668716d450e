"""Which ids end a completion: the union of three files, and what ends the assistant's turn in the chat template."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.checkpoint.chat_template import ChatTemplate
from rubricrm_export.checkpoint.stop_ids import read_stop_ids, read_turn_end, turn_end
from rubricrm_export.errors import CheckpointInvalid

MakeCheckpoint = Callable[..., Path]

NUM_TOKENS = 261
# A template whose turns end with nothing.
BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def stop_ids(make_checkpoint: MakeCheckpoint) -> Callable[..., tuple[int, ...]]:
    """A function of the three places: config's id or ids, generation config's, and the tokenizer's token."""
    path = make_checkpoint()
    tokenizer = Tokenizer.from_file(path / "tokenizer.json")
    assert tokenizer.num_tokens == NUM_TOKENS

    def read(
        config: Any = None, generation: Any = None, token: Any = None, without_files: bool = False
    ) -> tuple[int, ...]:
        file = path / "tokenizer_config.json"
        template = ChatTemplate(BARE, "test", {})
        if without_files:
            file.unlink()
            return read_stop_ids(path, {} if config is None else {"eos_token_id": config}, None, tokenizer, template)
        file.write_text(json.dumps({"eos_token": token}))
        return read_stop_ids(path, {"eos_token_id": config}, {"eos_token_id": generation}, tokenizer, template)

    return read


@pytest.mark.parametrize(
    ("config", "generation", "token", "expected"),
    [
        pytest.param(2, None, None, (2,), id="config alone"),
        pytest.param(None, 1, None, (1,), id="generation config alone"),
        pytest.param(None, None, "<|im_end|>", (2,), id="tokenizer alone"),
        pytest.param(None, None, {"content": "<|im_end|>", "special": True}, (2,), id="tokenizer's object"),
        pytest.param(3, [2, 0], "<|im_start|>", (0, 1, 2, 3), id="union of three that differ"),
        pytest.param([2, 0, 2], [0], "<|im_end|>", (0, 2), id="lists that overlap"),
        pytest.param([], 0, None, (0,), id="empty list"),
        pytest.param(2, None, "</s>", (2,), id="token that the tokenizer lacks"),
        pytest.param(2, None, "a", (2,), id="token that is ordinary text"),
        pytest.param(2, None, 7, (2,), id="token that is no text"),
        pytest.param(NUM_TOKENS - 1, None, None, (NUM_TOKENS - 1,), id="last id"),
    ],
)
def test_union(
    stop_ids: Callable[..., tuple[int, ...]], config: Any, generation: Any, token: Any, expected: tuple[int, ...]
) -> None:
    assert stop_ids(config, generation, token) == expected


def test_missing_files_leave_the_config(stop_ids: Callable[..., tuple[int, ...]]) -> None:
    assert stop_ids([0, 2], without_files=True) == (0, 2)


@pytest.mark.parametrize(
    "bad",
    [NUM_TOKENS, -1, True, False, 2.0, "2", [2, None], [[2]], {"id": 2}, 2**70],
    ids=["padding row", "negative", "true", "false", "float", "text", "null inside", "nested", "object", "huge"],
)
@pytest.mark.parametrize("place", ["config.json", "generation_config.json"])
def test_id_that_the_tokenizer_lacks(stop_ids: Callable[..., tuple[int, ...]], place: str, bad: Any) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        stop_ids(**{"config" if place == "config.json" else "generation": bad}, token="<|im_end|>")
    assert f'{place}: "eos_token_id" holds ' in str(caught.value)
    assert "expected an id below 261" in str(caught.value)


@pytest.mark.parametrize("without_files", [False, True])
def test_none_at_all(stop_ids: Callable[..., tuple[int, ...]], without_files: bool) -> None:
    with pytest.raises(CheckpointInvalid, match=r"no end token: neither .* a generation never ends"):
        stop_ids(without_files=without_files)


def test_damaged_tokenizer_config(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    tokenizer = Tokenizer.from_file(path / "tokenizer.json")
    (path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointInvalid, match=r"tokenizer_config\.json: is not JSON"):
        read_stop_ids(path, {"eos_token_id": 2}, None, tokenizer, ChatTemplate(BARE, "test", {}))


# --- what ends a turn in the template

# Written after the published templates of these models, shortened to what a conversation of text needs.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
# The next turn's token ends a turn.
GLM_4 = "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
ZEPHYR = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] + eos_token }}\n{% endfor %}"
# The last turn ends with another token than those before it, as in OpenAI's format.
RETURNS = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
)
SYSTEM_FIRST = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
ALPACA = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
SPECIAL = (
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
)
SPECIAL += (
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|return|>",
)
ORDINARY = ("</answer>", "<|start|>", "<|message|>", "</think>")
ADDED = {token: number for number, token in enumerate(SPECIAL + ORDINARY, 100)}
SPECIAL_IDS = {ADDED[token] for token in SPECIAL}


def end_of(template: str, added: dict[str, int] = ADDED, **special_tokens: str) -> str | None:
    return turn_end(ChatTemplate(template, "the template", special_tokens), added, SPECIAL_IDS)


@pytest.mark.parametrize(
    ("template", "special_tokens", "expected"),
    [
        pytest.param(CHATML, {}, "<|im_end|>", id="ChatML"),
        pytest.param(CHATML, {"eos_token": "<|endoftext|>"}, "<|im_end|>", id="ChatML with another eos_token"),
        pytest.param(LLAMA_3, {"bos_token": "<s>", "eos_token": "<|endoftext|>"}, "<|eot_id|>", id="Llama 3"),
        pytest.param(MISTRAL, {"bos_token": "<s>", "eos_token": "</s>"}, "</s>", id="Mistral"),
        pytest.param(GEMMA, {"bos_token": "<s>", "eos_token": "</s>"}, "<end_of_turn>", id="Gemma"),
        pytest.param(PHI_3, {"eos_token": "<|endoftext|>"}, "<|end|>", id="Phi 3"),
        pytest.param(GLM_4, {"eos_token": "<|endoftext|>"}, "<|user|>", id="GLM 4"),
        pytest.param(ZEPHYR, {"eos_token": "</s>"}, "</s>", id="Zephyr"),
        pytest.param(RETURNS, {}, "<|return|>", id="last turn ends otherwise"),
        pytest.param(SYSTEM_FIRST, {}, "<|im_end|>", id="system message needed"),
        pytest.param(CHATML.replace("<|im_end|>\n", "<|im_end|><|endoftext|>"), {}, "<|im_end|>", id="two in a row"),
        pytest.param(CHATML.replace("<|im_end|>", " \n<|im_end|>"), {}, "<|im_end|>", id="after white space"),
        pytest.param(
            CHATML.replace("<|im_end|>", "</answer>\n<|im_end|>"), {}, "<|im_end|>", id="after an ordinary one"
        ),
        pytest.param(CHATML.replace("<|im_end|>", "</answer>"), {}, "</answer>", id="only an ordinary one"),
        pytest.param(CHATML.replace("<|im_end|>", "{% generation %}<|im_end|>{% endgeneration %}"), {}, "<|im_end|>"),
        pytest.param(BARE, {}, None, id="nothing"),
    ],
)
def test_token_that_ends_a_turn(
    template: str, special_tokens: dict[str, str], expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert end_of(template, **special_tokens) == expected
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (ALPACA.replace("{{ m.content }}", "{{ m.content }}\n### End"), "### End"),
        (CHATML.replace("<|im_end|>", "<|eos|>"), "<|eos|>"),
        (ZEPHYR.replace("eos_token", "'</end>'"), "</end>"),
    ],
    ids=["words", "looks like a token", "looks like a tag"],
)
def test_turn_that_ends_with_text_is_a_warning(template: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert end_of(template) is None
    (warning,) = caplog.messages
    assert f"the template: the assistant's turn ends with the text '{text}" in warning


def test_template_that_renders_no_answer_names_no_token(caplog: pytest.LogCaptureFixture) -> None:
    refuses = "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    drops = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    assert end_of(refuses) is end_of(drops) is None
    assert caplog.messages == []


def test_no_added_tokens_at_all(caplog: pytest.LogCaptureFixture) -> None:
    assert end_of(CHATML, {}) is None
    assert "ends with the text '<|im_end|>'" in caplog.text


def test_end_of_the_turn_joins_what_the_configurations_say(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    tokenizer = Tokenizer.from_file(path / "tokenizer.json")
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    template = ChatTemplate(CHATML, "test", {})
    endoftext, im_end = tokenizer.added_tokens["<|endoftext|>"], tokenizer.added_tokens["<|im_end|>"]
    found = read_stop_ids(path, {"eos_token_id": endoftext}, {"eos_token_id": endoftext}, tokenizer, template)
    assert found == tuple(sorted((endoftext, im_end)))
    (path / "tokenizer_config.json").unlink()
    assert read_stop_ids(path, {}, None, tokenizer, template) == (im_end,)


def test_turn_end_of_a_directory_with_any_tokenizer(tmp_path: Path) -> None:
    added = [{"content": "<end_of_turn>", "id": 107, "special": True}, {"content": "\n\n", "id": 108, "special": False}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram"}, "added_tokens": added}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": GEMMA, "bos_token": "<bos>"}))
    assert read_turn_end(tmp_path) == ("<end_of_turn>", 107)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram"}}))
    assert read_turn_end(tmp_path) is None
