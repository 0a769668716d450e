"""The answers of llm_inference as its sources write them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rubricrm import parse
from rubricrm.cli import cli
from rubricrm.errors import AnswersInvalid
from rubricrm.rubric.answer_file import read_answers

RUBRIC = "1. The response must rhyme. [Hard Rule]\n2. The response should be kind. [Principle]"
FAILED = "TensorRT Edge LLM cannot handle this request. Fails."


def answers_of(*texts: str, batch_size: int = 2) -> dict[str, Any]:
    responses = [
        {
            "output_text": text,
            "request_idx": number // batch_size,
            "batch_idx": number % batch_size,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "a prompt"}]}],
            "formatted_system_prompt": "",
            "formatted_complete_request": "<|im_start|>user\na prompt<|im_end|>\n",
        }
        for number, text in enumerate(texts)
    ]
    return {"input_file": "requests.json", "responses": responses}


def test_rubrics_in_the_order_of_the_requests() -> None:
    found = read_answers(json.dumps(answers_of(RUBRIC, "nothing", FAILED)), "answers.json")
    assert [answer.request for answer in found] == [0, 1, 2]
    assert [answer.failed for answer in found] == [False, False, True]
    assert found[0].rubric == parse(RUBRIC)
    assert found[1].rubric == parse("nothing")
    assert (found[2].rubric.criteria, found[2].rubric.issues) == ((), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUBRIC, "answers.json: not JSON .*--outputFile of llm_inference"),
        ("[" * 100_000, "not JSON"),
        ("[]", 'holds no list "responses"'),
        ('{"responses": {}}', 'holds no list "responses"'),
        ('{"responses": [{"output_text": "x"}, {}]}', r'responses\[1\] has no text "output_text"'),
        ('{"responses": ["x"]}', r'responses\[0\] has no text "output_text"'),
        ('{"responses": [{"output_text": null}]}', r'responses\[0\] has no text "output_text"'),
    ],
    ids=["text", "deep", "list", "object", "no-text", "string", "null"],
)
def test_other_files(text: str, message: str) -> None:
    with pytest.raises(AnswersInvalid, match=message):
        read_answers(text, "answers.json")


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(answers_of(RUBRIC, RUBRIC)), "utf-8")
    result = CliRunner().invoke(cli, ["parse", str(path), "--answers"])
    assert (result.exit_code, result.stdout) == (0, f"request 0:\n{RUBRIC}\nrequest 1:\n{RUBRIC}\n")
    path.write_text(json.dumps(answers_of(RUBRIC, FAILED)), "utf-8")
    result = CliRunner().invoke(cli, ["parse", str(path), "--answers", "--json"])
    assert result.exit_code == 1
    expected = [
        {"request": 0, "failed": False, "rubric": parse(RUBRIC).to_dict()},
        {"request": 1, "failed": True, "rubric": {"schema_version": 1, "criteria": [], "issues": []}},
    ]
    assert json.loads(result.stdout) == {"answers": expected}
    assert CliRunner().invoke(cli, ["parse", str(path), "--answers"]).stdout.endswith("request 1:\nfailed\n")
