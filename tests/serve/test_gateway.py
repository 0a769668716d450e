"""The server in front of another one: the same answers, and what the one behind does wrong."""

from collections.abc import Iterator

import httpx2
import pytest
from rubricrm import RubricModel
from rubricrm.text_model import DEMO_BUNDLE
from served import Served, serving


@pytest.fixture(scope="module")
def behind(demo: RubricModel) -> Iterator[Served]:
    with serving(demo, max_concurrency=4, api_keys=("inner",)) as running:
        yield running


def connect(url: str) -> RubricModel:
    facts = {"model": "rubricrm-demo", "api_key": "inner", "dialect": "openai"}
    return RubricModel.connect(url, prompt=DEMO_BUNDLE, constrain=False, **facts)  # type: ignore[arg-type]


def test_a_gateway_gives_what_is_behind_it(behind: Served, demo: RubricModel) -> None:
    expected = demo.generate("Name a color.", constrain=False, max_new_tokens=40)
    asked = {"request": "Name a color.", "max_new_tokens": 40}
    with (
        connect(behind.url) as model,
        serving(model, max_concurrency=4) as front,
        httpx2.Client(base_url=front.url, timeout=30) as client,
    ):
        assert client.get("/ready").status_code == 200
        whole = client.post("/v1/rubrics", json=asked).json()
        assert (whole["text"], whole["finish_reason"]) == (expected.text, expected.finish_reason)
        assert whole["rubric"]["criteria"] == expected.rubric.to_dict()["criteria"]
        chat = {"model": "rubricrm-demo-rubric", "messages": [{"role": "user", "content": "Name a color."}]}
        found = client.post("/v1/chat/completions", json={**chat, "max_tokens": 40}).json()
        assert found["choices"][0]["message"]["content"] == expected.text
        stream = client.post("/v1/rubrics", json={**asked, "stream": True}).text
        assert stream.count("event: result") == 1


def test_what_is_behind_is_gone(demo: RubricModel) -> None:
    with serving(demo, max_concurrency=4, api_keys=("inner",)) as behind:
        model = connect(behind.url)
    with model, serving(model) as front, httpx2.Client(base_url=front.url, timeout=60) as client:
        answer = client.post("/v1/rubrics", json={"request": "Write."})
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "upstream_error")
        assert behind.url not in answer.text
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
