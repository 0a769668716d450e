"""OpenRLHF's protocol: what is cut out of a query, and no reward at all where one is missing."""

import asyncio
import json
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import RequestInvalid
from rubricrm_reward import RewardUnavailable, RubricReward
from rubricrm_reward.openrlhf import OpenRLHFReward, answer, cut_answer, request_of, samples_of
from scripted_jury import ScriptedJury, ScriptedSource

PROMPT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n"
    "<|im_start|>assistant\nHi.<|im_end|>\n"
    "<|im_start|>user\nName a color.<|im_end|>\n<|im_start|>assistant\n"
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nName a color.<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA = "<bos><start_of_turn>user\nName a color.<end_of_turn>\n<start_of_turn>model\n"


def body(*words: str, **changes: Any) -> dict[str, Any]:
    found = {
        "query": [f"{PROMPT}Red is {word}<|im_end|>" for word in words],
        "prompts": [PROMPT] * len(words),
        "labels": ["Blue."] * len(words),
    }
    return found | changes


def post(document: object, **options: Any) -> tuple[HTTPStatus, dict[str, Any]]:
    status, reply = asyncio.run(answer(RubricReward(ScriptedSource(), **options), document))
    return status, json.loads(json.dumps(reply))


def test_rewards_come_back_in_order(opened: list[ScriptedJury]) -> None:
    status, reply = post(body("better", "worse", "equal"))
    assert status == 200
    assert reply == {
        "rewards": [1.0, 0.0, 0.5],
        "scores": [1.0, 0.0, 0.5],
        "extra_logs": {"rubricrm_no_vote": [0.0, 0.0, 0.0]},
    }
    assert opened[0].calls[0] == ("Name a color.", "Red is better", "Blue.", None)


@pytest.mark.parametrize("word", ["mute", "broken", "slow"])
@pytest.mark.parametrize("max_unscored", [0.2, 1.0])
def test_no_verdict_is_503_whatever_may_be_unscored(word: str, max_unscored: float) -> None:
    status, reply = post(body("better", word, "worse"), max_unscored=max_unscored, timeout_s=0.5)
    assert status == 503
    assert reply["error"]["type"] == "reward_unavailable"
    assert "rewards" not in reply


def test_a_judge_that_cannot_be_opened_is_503() -> None:
    status, reply = asyncio.run(answer(RubricReward(ScriptedSource(opens=False)), body("better")))
    assert (status, reply["error"]["code"]) == (503, 503)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {},
        body("better", labels="Blue."),
        body("better", labels=[]),
        body("better", labels=[None]),
        body("better", labels=[{"request": "Name a color."}]),
        body("better", prompts=[3]),
        body("better", prompts=[PROMPT + "something else"]),
        body("better", query=["<|im_start|>assistant\nRed"], prompts=["Name a color. Then a shape."]),
    ],
    ids=lambda document: repr(document)[-30:],
)
def test_a_body_that_cannot_be_read_is_400(document: object) -> None:
    status, reply = post(document)
    assert status == 400
    assert reply["error"]["message"].startswith("REQUEST_INVALID: ")


def test_a_label_may_say_what_was_asked() -> None:
    label = {"request": "Name a shape.", "reference": "A circle.", "rubric": "1. x"}
    (sample,) = samples_of(body("better", labels=[label]))
    assert (sample.request, sample.reference, sample.rubric) == ("Name a shape.", "A circle.", "1. x")


@pytest.mark.parametrize("prompt", [PROMPT, LLAMA, GEMMA, "Name a color."], ids=["ChatML", "Llama 3", "Gemma", "plain"])
def test_the_request_is_the_last_user_message(prompt: str) -> None:
    assert request_of(prompt) == "Name a color."


def test_a_prompt_of_an_unknown_template_is_refused() -> None:
    with pytest.raises(RequestInvalid, match="the mark '<|user|>'".replace("|", r"\|")):
        request_of("<|user|>Name a color.<|assistant|>")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (PROMPT + "Red.", "Red."),
        (PROMPT + "Red.<|im_end|>", "Red."),
        (PROMPT + "Red.<|im_end|>\n<|endoftext|>", "Red."),
        (PROMPT + "Red.</s>", "Red."),
        (PROMPT, ""),
        (PROMPT + "<|im_end|>", ""),
        (PROMPT + "Write <|im_end|> at the end.", "Write <|im_end|> at the end."),
        (PROMPT[60:] + "Red.", "Red."),
        ("\N{REPLACEMENT CHARACTER}" + PROMPT[60:] + "Red.", "Red."),
    ],
)
def test_the_answer_is_what_follows_the_prompt(query: str, found: str) -> None:
    assert cut_answer(query, PROMPT) == found


def test_a_tokenizer_may_have_normalized_the_prompt() -> None:
    assert (
        cut_answer("Say caf\N{LATIN SMALL LETTER E WITH ACUTE}: yes", "Say cafe\N{COMBINING ACUTE ACCENT}:") == " yes"
    )


# Texts of few letters repeat themselves, as chat templates do.
few_letters = st.text("ab", max_size=60)


@given(st.text(max_size=80), few_letters, st.integers(0, 40))
def test_a_prompt_cut_on_the_left_is_found(before: str, text: str, num_cut: int) -> None:
    prompt = f"{before}|{'=' * 20}|"
    cut = prompt[min(num_cut, len(before)) :]
    assert cut_answer(cut + text, prompt) == text


@given(few_letters, few_letters)
def test_the_overlap_is_the_longest(before: str, text: str) -> None:
    from rubricrm_reward.openrlhf import _overlap

    assert _overlap(before, text) == max(n for n in range(len(text) + 1) if before.endswith(text[:n]))


def test_a_file_gives_rewards_or_raises() -> None:
    function = OpenRLHFReward(RubricReward(ScriptedSource(), max_unscored=1.0))
    found = function(*(body("better")[name] for name in ("query", "prompts", "labels")))
    assert found["rewards"] == [1.0]
    with pytest.raises(RewardUnavailable):
        function(*(body("mute")[name] for name in ("query", "prompts", "labels")))
    with pytest.raises(RequestInvalid, match=re.escape("expected 'Name a color.', got 'Red'.")):
        function(["Red"], ["Name a color."], ["Blue."])


def test_threads_share_one_jury(opened: list[ScriptedJury]) -> None:
    function = OpenRLHFReward(RubricReward(ScriptedSource(), max_concurrency=3))
    document = body("better")
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(function, document["query"], document["prompts"], document["labels"]) for _ in range(60)]
        assert [call.result(30)["rewards"] for call in calls] == [[1.0]] * 60
    (jury,) = opened
    assert jury.most_running == 3


def reward_in_this_process() -> list[float]:
    document = body("better")
    function = OpenRLHFReward(RubricReward(ScriptedSource()))
    found: list[float] = function(document["query"], document["prompts"], document["labels"])["rewards"]
    return found


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_a_loop_of_its_own() -> None:
    assert reward_in_this_process() == [1.0]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(reward_in_this_process).result(30) == [1.0]
