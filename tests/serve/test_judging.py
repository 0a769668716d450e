"""Judgments and OpenRLHF's rewards: verdicts are data, failures are never scores."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from rubricrm import AsyncJury, RubricModel
from rubricrm.errors import ServerUnreachable
from scripted_judge import RUBRIC, Answer, Asked, Script, ScriptedJudge
from served import Served, serving, wait_until

GOOD, BAD = "A good answer.", "Bad."
BODY = {"request": "Write.", "response_a": GOOD, "response_b": BAD, "rubric": RUBRIC}
PROMPT = "<|im_start|>user\nWrite.<|im_end|>\n<|im_start|>assistant\n"
LABEL = {"request": "Write.", "reference": BAD, "rubric": RUBRIC}


def prefers_good(asked: Asked) -> Answer:
    return f"Winner: Response {'A' if asked.response_a == GOOD else 'B'}"


@contextmanager
def judging(demo: RubricModel, script: Script, **options: Any) -> Iterator[tuple[httpx2.Client, ScriptedJudge, Served]]:
    judge = ScriptedJudge(script)
    with (
        serving(demo, AsyncJury(judge, demo), max_concurrency=2, max_waiting=0, **options) as served,
        httpx2.Client(base_url=served.url, timeout=30) as client,
    ):
        yield client, judge, served


def reward_body(*answers: str, label: object = LABEL) -> dict[str, Any]:
    return {
        "query": [f"{PROMPT}{answer}<|im_end|>\n" for answer in answers],
        "prompts": [PROMPT] * len(answers),
        "labels": [label] * len(answers),
    }


def test_a_verdict_names_the_better_answer(demo: RubricModel) -> None:
    with judging(demo, prefers_good) as (client, judge, served):
        found = client.post("/v1/judgments", json=BODY).json()
        assert (found["verdict"]["winner"], found["verdict"]["consistent"], found["unscored"]) == ("A", True, None)
        without = {name: value for name, value in BODY.items() if name != "rubric"}
        assert client.post("/v1/judgments", json=without).json()["verdict"]["winner"] == "A"
        assert judge.asked[-1].rubric == demo.generate("Write.").rubric.render()
        assert 'judgments_total{model_name="rubricrm-demo",outcome="verdict"} 2.0' in client.get("/metrics").text
        assert not served.service.admission.running


def test_rewards_are_openrlhf_s(demo: RubricModel) -> None:
    with judging(demo, prefers_good) as (client, judge, _):
        expected = {"rewards": [1.0], "scores": [1.0], "extra_logs": {"rubricrm_no_vote": [0.0]}}
        assert client.post("/get_reward", json=reward_body(GOOD)).json() == expected
        for label in (json.dumps(LABEL), LABEL["reference"]):
            assert client.post("/get_reward", json=reward_body(GOOD, label=label)).json() == expected
        assert {judge.asked[-1].response_a, judge.asked[-1].response_b} == {GOOD, BAD}
        assert client.post("/get_reward", json=reward_body(GOOD, GOOD)).json()["rewards"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        ("I cannot say.", "no_quorum", 200),
        ("CUT:Winner: Response A", "truncated", 200),
        (ServerUnreachable("nobody is there."), "judge_failed", 503),
        (ValueError("what is this?"), None, 500),
    ],
)
def test_a_failure_is_no_verdict_and_no_score(
    demo: RubricModel, answer: Answer, reason: str | None, status: int
) -> None:
    with judging(demo, lambda _: answer) as (client, _, served):
        found = client.post("/v1/judgments", json=BODY)
        assert found.status_code == status
        if status == 200:
            assert found.json()["verdict"] is None
            assert found.json()["unscored"]["reason"] == reason
        elif reason is not None:
            assert (found.json()["error"]["code"], found.headers["retry-after"]) == (reason, "1")
        rewards = client.post("/get_reward", json=reward_body(GOOD))
        assert rewards.status_code == (503 if reason else 500)
        assert "rewards" not in rewards.json()
        assert not served.service.admission.running


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"query": ["other"]}, "query"),
        ({"prompts": []}, "prompts"),
        ({"labels": [LABEL, LABEL]}, "query"),
        ({"labels": [""]}, "reference"),
        ({"labels": [{"request": "Write."}]}, "reference"),
        ({"labels": [{**LABEL, "rubric": 3}]}, "rubric"),
        ({"other": 1}, "other"),
    ],
)
def test_rewards_that_cannot_be_read(demo: RubricModel, change: dict[str, Any], word: str) -> None:
    with judging(demo, prefers_good) as (client, _, _served):
        answer = client.post("/get_reward", json={**reward_body(GOOD), **change})
        assert answer.status_code == 400
        assert word in answer.json()["error"]["message"]


def test_blank_answers_are_bad_input(demo: RubricModel) -> None:
    with judging(demo, prefers_good) as (client, _, _served):
        answer = client.post("/v1/judgments", json={**BODY, "response_a": " "})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "input_invalid")


@pytest.mark.parametrize("end", ["leave", "drain", "time"])
def test_a_comparison_that_takes_long_ends(demo: RubricModel, end: str) -> None:
    with judging(demo, prefers_good, grace_s=0.1, timeout_s=0.5 if end == "time" else 60) as (client, judge, served):
        judge.hold = threading.Event()
        if end == "leave":
            with pytest.raises(httpx2.ReadTimeout):
                client.post("/v1/judgments", json=BODY, timeout=0.3)
        elif end == "time":
            assert client.post("/v1/judgments", json=BODY).status_code == 504
        else:
            drain = threading.Timer(0.3, served.server.drain)
            drain.start()
            assert client.post("/v1/judgments", json=BODY).json()["error"]["code"] == "shutting_down"
            drain.join()
        wait_until(lambda: not served.service.admission.running)
        assert all(future.cancelled() for future in judge.futures)


def test_without_a_judge_there_are_no_such_paths(client: httpx2.Client) -> None:
    assert [client.post(path, json=BODY).status_code for path in ("/v1/judgments", "/get_reward")] == [404, 404]
