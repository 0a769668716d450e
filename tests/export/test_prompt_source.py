"""The prompt template of a model card, and chat templates cut into the pieces that the runtime joins."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rubricrm.runtime.manifest import JUDGE_PAIRWISE, ChatFacts, RoleFacts
from rubricrm_export.checkpoint.chat_pieces import read_chat
from rubricrm_export.checkpoint.prompt_source import read_card_field, read_prompt_template, template_sha256
from rubricrm_export.errors import CheckpointInvalid, PromptTemplateInvalid

TEMPLATE = "Write a rubric.\n{prompt}\nThe rubric:"


def card(*blocks: str, front: str = "") -> str:
    return front + "# A model\n" + "".join(f"\nSome words.\n\n```python\n{block}\n```\n" for block in blocks)


def checkpoint(path: Path, readme: str | None = None, **tokenizer_config: Any) -> Path:
    if readme is not None:
        (path / "README.md").write_bytes(readme.encode())
    if tokenizer_config:
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return path


# --- the prompt template in the model card


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        pytest.param(card(f"RUBRIC_PROMPT_TEMPLATE = {TEMPLATE!r}"), TEMPLATE, id="one string"),
        pytest.param(
            card('RUBRIC_PROMPT_TEMPLATE = (\n    "One.\\n"\n    \'Two "quoted".\\n\'\n    "{prompt}"\n)'),
            'One.\nTwo "quoted".\n{prompt}',
            id="implicit concatenation",
        ),
        pytest.param(card('RUBRIC_PROMPT_TEMPLATE = """A\nB {prompt}"""'), "A\nB {prompt}", id="triple quotes"),
        pytest.param(card('RUBRIC_PROMPT_TEMPLATE: str = "{prompt}!"'), "{prompt}!", id="annotated"),
        pytest.param(card('if True:\n    RUBRIC_PROMPT_TEMPLATE = "{prompt}!"'), "{prompt}!", id="indented"),
        pytest.param(
            card("import os\nos.abort()", 'x = 1\nRUBRIC_PROMPT_TEMPLATE = "{prompt}!"', "!pip install x"),
            "{prompt}!",
            id="among other blocks",
        ),
        pytest.param(
            card(
                'RUBRIC_PROMPT_TEMPLATE = "{prompt}!"',
                "text = RUBRIC_PROMPT_TEMPLATE.format(...)  # then, say: <model>",
            ),
            "{prompt}!",
            id="used in a later block",
        ),
        pytest.param(
            card('RUBRIC_PROMPT_TEMPLATE = "{prompt}!"', "tokenizer -> RUBRIC_PROMPT_TEMPLATE -> model"),
            "{prompt}!",
            id="named in a sketch that is no Python",
        ),
        pytest.param(
            card('RUBRIC_PROMPT_TEMPLATE = "{prompt}!"', 'RUBRIC_PROMPT_TEMPLATE = ("{prompt}" "!")'),
            "{prompt}!",
            id="several equal assignments",
        ),
        pytest.param(
            card('RUBRIC_PROMPT_TEMPLATE = "{prompt}!"').replace("```python", "``` Python "), "{prompt}!", id="Python"
        ),
        pytest.param(card('RUBRIC_PROMPT_TEMPLATE = "{prompt}!"').replace("```python", "```py"), "{prompt}!", id="py"),
        pytest.param(
            card(f"RUBRIC_PROMPT_TEMPLATE = {TEMPLATE!r}").replace("\n", "\r\n"), TEMPLATE, id="carriage returns"
        ),
        pytest.param(
            card('RUBRIC_PROMPT_TEMPLATE = """A\nB {prompt}"""').replace("\n", "\r\n"),
            "A\nB {prompt}",
            id="carriage returns inside the string",
        ),
        pytest.param("\ufeff" + card('RUBRIC_PROMPT_TEMPLATE = "{prompt}!"'), "{prompt}!", id="byte order mark"),
        pytest.param(
            card(r'RUBRIC_PROMPT_TEMPLATE = "output\u2014only <request> {prompt}"'),
            "output\u2014only <request> {prompt}",
            id="escaped dash and angle brackets",
        ),
    ],
)
def test_template_of_the_card(tmp_path: Path, readme: str, expected: str) -> None:
    assert read_prompt_template(checkpoint(tmp_path, readme), None) == (expected, "README.md")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        pytest.param('RUBRIC_PROMPT_TEMPLATE = "{prompt}" + "!"', "an expression, not a literal", id="sum"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = f"{prompt!r}"', "an expression, not a literal", id="conversion"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = f"{prompt:>9}"', "an expression, not a literal", id="format"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = f"{prompt.text}"', "an expression, not a literal", id="attribute of it"),
        pytest.param("RUBRIC_PROMPT_TEMPLATE = open('t').read()", "an expression, not a literal", id="call"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = "{prompt}".strip()', "an expression, not a literal", id="method"),
        pytest.param("RUBRIC_PROMPT_TEMPLATE = OTHER", "an expression, not a literal", id="name"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = b"{prompt}"', "assigned a bytes, not a string", id="bytes"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = ["{prompt}"]', "assigned a list, not a string", id="list"),
        pytest.param("RUBRIC_PROMPT_TEMPLATE = None", "assigned a NoneType, not a string", id="none"),
        pytest.param('RUBRIC_PROMPT_TEMPLATE = "{prompt}', "is not valid Python", id="syntax"),
        pytest.param(
            'RUBRIC_PROMPT_TEMPLATE = "{prompt}"\nRUBRIC_PROMPT_TEMPLATE += "!"', "changed in place", id="extended"
        ),
        pytest.param(
            'RUBRIC_PROMPT_TEMPLATE = "{prompt}"\nRUBRIC_PROMPT_TEMPLATE = "{prompt}!"',
            "2 different assignments of RUBRIC_PROMPT_TEMPLATE",
            id="several different",
        ),
        pytest.param('rubric_prompt_template = "{prompt}"', "0 different assignments", id="no assignment"),
        pytest.param('x.RUBRIC_PROMPT_TEMPLATE = "{prompt}"', "0 different assignments", id="attribute"),
        pytest.param("RUBRIC_PROMPT_TEMPLATE: str", "0 different assignments", id="annotation alone"),
        pytest.param('"RUBRIC_PROMPT_TEMPLATE = {prompt}"', "0 different assignments", id="inside a string"),
        pytest.param("RUBRIC_PROMPT_TEMPLATE = " + "(" * 5000, "is not valid Python", id="nested deeply"),
    ],
)
def test_unusable_assignment(tmp_path: Path, block: str, words: str) -> None:
    with pytest.raises(PromptTemplateInvalid) as caught:
        read_prompt_template(checkpoint(tmp_path, card(block)), None)
    message = str(caught.value)
    assert words in message
    assert str(tmp_path / "README.md") in message
    assert "--prompt-template FILE" in message


@pytest.mark.parametrize(
    "value",
    ["open({path!r}, 'w').close()", "f\"{{open({path!r}, 'w')}}\"", "[open({path!r}, 'w') for _ in '1']"],
    ids=["call", "f-string", "comprehension"],
)
def test_nothing_of_the_card_is_executed(tmp_path: Path, value: str) -> None:
    trace = tmp_path / "executed"
    source = value.format(path=str(trace))
    readme = card(f"{source}\nRUBRIC_PROMPT_TEMPLATE = {source}")
    with pytest.raises(PromptTemplateInvalid):
        read_prompt_template(checkpoint(tmp_path, readme), None)
    assert not trace.exists()


def test_no_card_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(PromptTemplateInvalid, match=r"no README\.md.*--prompt-template FILE, with \{prompt\} where"):
        read_prompt_template(tmp_path, None)


def test_card_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptTemplateInvalid, match="cannot be read as UTF-8 text"):
        read_prompt_template(tmp_path, None)


# --- the prompt template of a judge

JUDGE = "Judge {{this}}.\n{instruction}\n{rubric}\nA: {response_a}\nB: {response_b}"
JUDGE_READ = "Judge {this}.\n{instruction}\n{rubric}\nA: {response_a}\nB: {response_b}"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(f"JUDGE_PROMPT_TEMPLATE = {JUDGE!r}", id="literal"),
        # The cards of the family write f-strings, or mix both: doubled braces become single ones there, and then
        # str.format fills them in.
        pytest.param(
            'JUDGE_PROMPT_TEMPLATE = (\n    f"Judge {{{{this}}}}.\\n"\n    f"{{instruction}}\\n{{rubric}}\\n"\n'
            '    f"A: {{response_a}}\\nB: {{response_b}}"\n)',
            id="f-strings",
        ),
        pytest.param(
            'JUDGE_PROMPT_TEMPLATE = (\n    "Judge {{this}}.\\n"\n    f"{{instruction}}\\n"\n'
            '    "{rubric}\\nA: {response_a}\\n"\n    f"B: {{response_b}}"\n)',
            id="both",
        ),
        # Names of a function around it: no str.format follows.
        pytest.param(
            "def prompt(instruction, rubric, response_a, response_b):\n    JUDGE_PROMPT_TEMPLATE = (\n"
            '        f"Judge {{this}}.\\n{instruction}\\n"\n        f"{rubric}\\nA: {response_a}\\nB: {response_b}")\n'
            "    return JUDGE_PROMPT_TEMPLATE",
            id="names",
        ),
    ],
)
def test_template_of_a_judge(tmp_path: Path, block: str) -> None:
    found = read_prompt_template(checkpoint(tmp_path, card(block)), None, JUDGE_PAIRWISE)
    assert found == (JUDGE_READ, "README.md")


def test_template_of_a_judge_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "judge.txt").write_text(JUDGE)
    assert read_prompt_template(tmp_path, tmp_path / "judge.txt", JUDGE_PAIRWISE) == (JUDGE_READ, "judge.txt")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{instruction} {rubric} {response_a}", "expected {instruction}, {rubric}, {response_a}, {response_b} exactly"),
        (JUDGE + "{rubric}", "exactly once"),
        (JUDGE + "{prompt}", "exactly once"),
        (JUDGE + "{{rubric}}", "the literal text {rubric} stands in it too"),
    ],
)
def test_unusable_template_of_a_judge(tmp_path: Path, template: str, words: str) -> None:
    readme = card(f"JUDGE_PROMPT_TEMPLATE = {template!r}")
    with pytest.raises(PromptTemplateInvalid, match=re.escape(words)):
        read_prompt_template(checkpoint(tmp_path, readme), None, JUDGE_PAIRWISE)


def test_the_card_of_another_kind_of_model_names_the_option(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, card(f"JUDGE_PROMPT_TEMPLATE = {JUDGE!r}"))
    with pytest.raises(PromptTemplateInvalid, match="It assigns JUDGE_PROMPT_TEMPLATE: pass --prompt judge-pairwise."):
        read_prompt_template(path, None)


# --- its field and its braces


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{prompt}", "{prompt}"),
        ("a{prompt}b", "a{prompt}b"),
        ('{{"a": 1}} {prompt}', '{"a": 1} {prompt}'),
        ("{{{prompt}}}", "{{prompt}}"),
        ("{prompt:}", "{prompt}"),
        ("{{}} {prompt} {{x}}", "{} {prompt} {x}"),
    ],
)
def test_template_is_what_format_would_make(tmp_path: Path, template: str, expected: str) -> None:
    text, _ = read_prompt_template(checkpoint(tmp_path, card(f"RUBRIC_PROMPT_TEMPLATE = {template!r}")), None)
    assert text == expected
    assert text.replace("{prompt}", "REQUEST") == template.format(prompt="REQUEST")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        pytest.param("no field", "the fields are []", id="none"),
        pytest.param("{{prompt}}", "the fields are []", id="escaped"),
        pytest.param("{prompt} {prompt}", "the fields are ['prompt', 'prompt']", id="twice"),
        pytest.param("{prompt} {context}", "the fields are ['prompt', 'context']", id="extra"),
        pytest.param("{request}", "the fields are ['request']", id="another name"),
        pytest.param("{}", "the fields are ['']", id="positional"),
        pytest.param("{prompt.x}", "the fields are ['prompt.x']", id="attribute"),
        pytest.param("{prompt[0]}", "the fields are ['prompt[0]']", id="index"),
        pytest.param("{prompt:>10}", "exactly once", id="format spec"),
        pytest.param("{prompt!r}", "exactly once", id="conversion"),
        pytest.param("{prompt} {", "Single '{'", id="open brace"),
        pytest.param("{prompt} }", "Single '}'", id="closing brace"),
        pytest.param('{"a": 1} {prompt}', "Write a literal brace twice", id="JSON"),
        pytest.param("{{prompt}} {prompt}", "the literal text {prompt} stands in it too", id="field as text"),
        pytest.param("\ud800 {prompt}", "lone surrogate U+D800", id="lone surrogate"),
    ],
)
def test_template_without_the_single_field(tmp_path: Path, template: str, words: str) -> None:
    readme = card(f"RUBRIC_PROMPT_TEMPLATE = {template!a}")
    with pytest.raises(PromptTemplateInvalid, match=re.escape(words)):
        read_prompt_template(checkpoint(tmp_path, readme), None)


@given(before=st.text(), after=st.text())
def test_any_escaped_text_around_the_field_survives(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "template.txt"
    before, after = (text.replace("\r", "") for text in (before, after))
    escaped = [text.replace("{", "{{").replace("}", "}}") for text in (before, after)]
    expected = f"{before}{{prompt}}{after}"
    if expected.count("{prompt}") > 1:
        return
    file.write_text("\ufeff" + "{prompt}".join(escaped), "utf-8")
    assert read_prompt_template(file.parent, file)[0] == expected


def test_template_file_wins_over_the_card(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes("Zwölf {{Klammern}}\r\n{prompt}\r\n".encode())
    path = checkpoint(tmp_path, card('RUBRIC_PROMPT_TEMPLATE = "{prompt}!"'))
    # The final line break is part of the template: a prompt is what its file says.
    assert read_prompt_template(path, file) == ("Zwölf {Klammern}\n{prompt}\n", "mine.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\xff{prompt}", "UTF-8"), (b"", "exactly once"), (b"nothing", "exactly once")],
    ids=["missing", "Latin-1", "empty", "no field"],
)
def test_unusable_template_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "mine.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PromptTemplateInvalid, match=rf"mine\.txt.*{words}"):
        read_prompt_template(tmp_path, file)


def test_hash_names_the_text() -> None:
    assert template_sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- the card's front matter


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        pytest.param("---\nlicense: apache-2.0\n---\n", "apache-2.0", id="plain"),
        pytest.param('---\nlicense: "mit"\n---\n', "mit", id="double quotes"),
        pytest.param("---\nlicense: 'mit'\n---\n", "mit", id="single quotes"),
        pytest.param("---\nlicense: mit  # see below\n---\n", "mit", id="comment"),
        pytest.param('---\nlicense: "mit" # see below\n---\n', "mit", id="quotes and comment"),
        pytest.param("---\ntags:\n- x\nlicense: other\nlicense_name: q\n---\n", "other", id="among other keys"),
        pytest.param("---\r\nlicense: mit\r\n---\r\n", "mit", id="carriage returns"),
        pytest.param("\ufeff---\nlicense: mit\n---\n", "mit", id="byte order mark"),
        pytest.param("---\nlicense:\n---\n", None, id="empty value"),
        pytest.param("---\n# license: mit\n---\n", None, id="commented out"),
        pytest.param("---\nmodel-index:\n  license: mit\n---\n", None, id="nested"),
        pytest.param("---\nlicense_name: mit\n---\n", None, id="another key"),
        pytest.param("---\ntags: []\n---\n", None, id="missing"),
        pytest.param("", None, id="no front matter"),
        pytest.param("\nlicense: mit\n", None, id="in the text"),
        pytest.param("words\n---\nlicense: mit\n---\n", None, id="rules in the text"),
        pytest.param("---\nlicense: mit\n", None, id="front matter that does not end"),
    ],
)
def test_license_of_the_card(tmp_path: Path, front: str, expected: str | None) -> None:
    assert read_card_field(checkpoint(tmp_path, card("pass", front=front)), "license") == expected


def test_model_name_of_the_card(tmp_path: Path) -> None:
    readme = card("pass", front="---\nlicense: mit\nmodel_name: Tiny Rubric 1\n---\n")
    assert read_card_field(checkpoint(tmp_path, readme), "model_name") == "Tiny Rubric 1"


def test_no_card_declares_nothing(tmp_path: Path) -> None:
    assert read_card_field(tmp_path, "license") is None


# --- the chat template

TOKENS = ("<s>", "</s>", "<|bos|>", "<|end|>", "<|user|>", "<|system|>", "<|assistant|>", "<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# What made onnxruntime-genai #1835 fail: a reversed list, a namespace, "is string", slices of a text.
QWEN3_LIKE = """\
{%- if tools %}{{- '<|im_start|>system\\n# Tools' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string
        and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
        {%- if loop.index0 > ns.last_query %}
            {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}" + CHATML
)
# The control tokens around the pieces end and begin with the same characters.
ALIKE_TOKENS = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n\n{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
SYSTEM_IN_USER = (
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ bos_token }}[INST] {% if loop.index0 == 1 and messages[0].role == 'system' %}"
    "<<SYS>>\n{{ messages[0].content }}\n<</SYS>>\n\n{% endif %}{{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "ChatML": CHATML,
    "like Qwen3": QWEN3_LIKE,
    "default system message": DEFAULT_SYSTEM,
    "tokens that end alike": ALIKE_TOKENS,
    "system message inside the user's": SYSTEM_IN_USER,
    "no system message": NO_SYSTEM,
}
THINKING_OFF = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
CHATML_PIECES = ChatFacts(
    opening="",
    system=RoleFacts("<|im_start|>system\n", "<|im_end|>\n"),
    user=RoleFacts("<|im_start|>user\n", "<|im_end|>\n"),
    assistant=RoleFacts("<|im_start|>assistant\n", "<|im_end|>\n"),
    generation=THINKING_OFF,
)


def chat_of(path: Path, template: object, **tokenizer_config: Any) -> ChatFacts:
    config = {"bos_token": "<|bos|>", "eos_token": "</s>", "chat_template": template} | tokenizer_config
    return read_chat(checkpoint(path, **config), None, TOKENS)


def joined(chat: ChatFacts, messages: list[dict[str, str]]) -> str:
    """What the runtime makes of the pieces."""
    roles = {"system": chat.system, "user": chat.user, "assistant": chat.assistant}
    text = "" if messages[0]["role"] == "system" else chat.opening
    for message in messages:
        role = roles[message["role"]]
        assert role is not None
        text += role.before + message["content"] + role.after
    return text + chat.generation


def rendered(template: str, messages: list[dict[str, str]]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    text: str = environment.from_string(template).render(
        messages=messages,
        tools=None,
        add_generation_prompt=True,
        enable_thinking=False,
        bos_token="<|bos|>",
        eos_token="</s>",
    )
    return text


def conversation(roles: str, content: str) -> list[dict[str, str]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[role], "content": f"{content} {n}"} for n, role in enumerate(roles)]


@pytest.mark.parametrize("template", [CHATML, QWEN3_LIKE], ids=["ChatML", "like Qwen3"])
def test_pieces_of_chatml(tmp_path: Path, template: str) -> None:
    assert chat_of(tmp_path, template) == CHATML_PIECES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "default system message",
            ("<|im_start|>system\nYou are helpful.<|im_end|>\n", CHATML_PIECES.system, CHATML_PIECES.user),
        ),
        (
            "tokens that end alike",
            ("<|bos|>", RoleFacts("<|bos|><|system|>\n\n", "<|end|>"), RoleFacts("<|user|>\n\n", "<|end|>")),
        ),
        ("no system message", ("", None, CHATML_PIECES.user)),
    ],
)
def test_opening_system_and_user(tmp_path: Path, name: str, expected: tuple[str, RoleFacts | None, RoleFacts]) -> None:
    chat = chat_of(tmp_path, TEMPLATES[name])
    assert (chat.opening, chat.system, chat.user) == expected


@pytest.mark.parametrize("roles", ["u", "su", "uau", "suau", "uauau", "suauauau"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_joined_pieces_are_what_the_template_renders(tmp_path: Path, name: str, roles: str) -> None:
    if name == "no system message" and "s" in roles:
        pytest.skip("the template refuses it")
    chat = chat_of(tmp_path, TEMPLATES[name])
    for content in ("Wörter", "x\n\ny", "{{ 7 * 7 }} {% raw %}", "<|im_end|>"):
        messages = conversation(roles, content)
        assert joined(chat, messages) == rendered(TEMPLATES[name], messages)


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_piece_cuts_a_control_token(tmp_path: Path, name: str) -> None:
    chat = chat_of(tmp_path, TEMPLATES[name])
    texts = [chat.opening, chat.generation]
    for role in (chat.system, chat.user, chat.assistant):
        texts += [role.before, role.after] if role else []
    for text in texts:
        rest = re.sub("|".join(map(re.escape, TOKENS)), "", text)
        assert not re.search(r"<\||\|>", rest), text


def test_thinking_is_off(tmp_path: Path) -> None:
    asked = CHATML.replace("enable_thinking is defined and enable_thinking is false", "enable_thinking")
    assert chat_of(tmp_path, CHATML).generation == THINKING_OFF
    assert "think" not in chat_of(tmp_path, asked).generation


@pytest.mark.parametrize("bos", ["<|bos|>", {"__type": "AddedToken", "content": "<|bos|>"}], ids=["string", "object"])
def test_special_tokens_are_known_to_the_template(tmp_path: Path, bos: object) -> None:
    assert chat_of(tmp_path, "{{ bos_token }}" + CHATML, bos_token=bos).opening == "<|bos|>"


def test_absent_special_token_prints_nothing(tmp_path: Path) -> None:
    assert chat_of(tmp_path, "{{ bos_token }}" + CHATML, bos_token=None) == CHATML_PIECES


@pytest.mark.parametrize(
    "guard",
    ["{% if tools is not none %}TOOLS{% endif %}", "{% if documents is not none %}DOCUMENTS{% endif %}"],
    ids=["tools", "documents"],
)
def test_absent_tools_are_none_as_in_transformers(tmp_path: Path, guard: str) -> None:
    assert chat_of(tmp_path, guard + CHATML) == CHATML_PIECES


def test_marks_of_training_print_what_they_hold(tmp_path: Path) -> None:
    template = CHATML.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
    assert chat_of(tmp_path, template) == CHATML_PIECES


def test_loop_controls_are_known(tmp_path: Path) -> None:
    assert chat_of(tmp_path, CHATML.replace("{% endfor %}", "{% continue %}never{% endfor %}")) == CHATML_PIECES


def test_named_templates_take_the_default(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "no"}, "noise", {"name": "default", "template": CHATML}]
    assert chat_of(tmp_path, named) == CHATML_PIECES


def test_template_in_its_own_file_wins(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(QWEN3_LIKE)
    assert chat_of(tmp_path, "no {{ messages }}") == CHATML_PIECES


def test_given_file_wins_over_both(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("no")
    (tmp_path / "mine.jinja").write_text(CHATML)
    path = checkpoint(tmp_path, chat_template="no")
    assert read_chat(path, tmp_path / "mine.jinja", TOKENS) == CHATML_PIECES


def test_template_that_refuses_a_system_message(tmp_path: Path) -> None:
    chat = chat_of(tmp_path, NO_SYSTEM)
    assert chat.system is None
    assert chat.user == CHATML_PIECES.user


def test_system_message_that_is_not_placed_in_pieces(tmp_path: Path) -> None:
    template = CHATML.replace("{{ m.content }}", "{{ m.content }}{% if m.role == 'system' %}{{ m.content }}{% endif %}")
    chat = chat_of(tmp_path, template)
    assert chat.system is None
    assert chat.user == CHATML_PIECES.user


def test_earlier_answer_that_the_template_drops(tmp_path: Path) -> None:
    template = CHATML.replace("in messages %}", "in messages if m.role != 'assistant' %}")
    chat = chat_of(tmp_path, template)
    assert chat.assistant is None
    assert chat.system == CHATML_PIECES.system


@pytest.mark.parametrize(
    ("template", "words"),
    [
        pytest.param(
            "{{ raise_exception('No, \\n never') }}", "(TemplateError: No, never)", id="raises for everything"
        ),
        pytest.param("{{ ''.__class__.__mro__ }}", "SecurityError", id="reaches for classes"),
        pytest.param("{{ messages.append(1) }}" + CHATML, "SecurityError", id="changes its input"),
        pytest.param("{{ cycler.__init__.__globals__.os.system('true') }}", "SecurityError", id="reaches for os"),
        pytest.param("{% for i in range(10 ** 9) %}{% endfor %}" + CHATML, "OverflowError", id="endless range"),
        pytest.param("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError", id="endless recursion"),
        pytest.param("{% include '/etc/hostname' %}" + CHATML, "TypeError", id="reads a file"),
        pytest.param("{{ strftime_now('%Y') }}" + CHATML, "UndefinedError", id="unknown function"),
        pytest.param("a constant", "does not place a single user message", id="no message"),
        pytest.param("{{ messages[0].content }}{{ messages[0].content }}", "does not place", id="message twice"),
        pytest.param(CHATML.replace("{{ m.content }}", "{{ m.content | lower }}"), "does not place", id="changed text"),
        pytest.param("{{ add_generation_prompt }}" + CHATML, "does not place", id="beginning depends on the end"),
        pytest.param("{% for m in messages %}", "not a valid jinja template", id="syntax"),
        pytest.param("{{ 1 / 0 }}" + CHATML, "ZeroDivisionError", id="fails"),
        pytest.param("\ud800" + CHATML, "lone surrogate U+D800", id="lone surrogate"),
    ],
)
def test_unusable_chat_template(tmp_path: Path, template: str, words: str) -> None:
    with pytest.raises(PromptTemplateInvalid) as caught:
        chat_of(tmp_path, template)
    message = str(caught.value)
    assert words in message
    assert "tokenizer_config.json" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "template",
    [None, 5, {}, [], [{"name": "tool_use", "template": CHATML}], [{"name": "default"}], [{"name": ["x"]}, "default"]],
    ids=["null", "number", "object", "no names", "other name", "no text", "nonsense"],
)
def test_no_chat_template_says_what_to_pass(tmp_path: Path, template: object) -> None:
    with pytest.raises(PromptTemplateInvalid, match=r"neither chat_template\.jinja nor.*--chat-template FILE"):
        chat_of(tmp_path, template)


def test_no_tokenizer_config_at_all(tmp_path: Path) -> None:
    with pytest.raises(PromptTemplateInvalid, match="--chat-template FILE"):
        read_chat(tmp_path, None, TOKENS)


@pytest.mark.parametrize(("content", "words"), [(b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "a JSON list")])
def test_damaged_tokenizer_config(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    with pytest.raises(CheckpointInvalid, match=words):
        read_chat(tmp_path, None, TOKENS)
