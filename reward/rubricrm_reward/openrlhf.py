"""For OpenRLHF: `reward_func` for its files, and what a server needs for its protocol `/get_reward`.

A file for `--reward.remote_url reward.py` has these lines:

    from rubricrm_reward import JurySource, RubricReward
    from rubricrm_reward.openrlhf import OpenRLHFReward

    reward_func = OpenRLHFReward(RubricReward(JurySource("http://judge:8000", judge_prompt="judge-prompt")))

A label is the reference answer, or an object, or its JSON text, with `reference` and, where wanted, `request` and
`rubric`. Where it has no request, the request is the last user message in the prompt.

OpenRLHF knows no sample without a reward. A failure ends its training, which is right: a file raises, and a server
answers 503.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from unicodedata import normalize

from rubricrm.errors import RequestInvalid, RubricrmError
from rubricrm.judge.verdict import Scored

from rubricrm_reward.background_loop import run_in_background
from rubricrm_reward.errors import RewardUnavailable
from rubricrm_reward.rubric_reward import RubricReward
from rubricrm_reward.sample import RewardSample, make_sample

# How chat templates mark a message of the user, by the family that introduced them: ChatML, Llama 3, Gemma.
_USER_MESSAGES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<\|im_start\|>user\n(?P<text>(?:(?!<\|im_start\|>user\n).)*?)<\|im_end\|>",
        r"<\|start_header_id\|>user<\|end_header_id\|>\n\n(?P<text>.*?)<\|eot_id\|>",
        r"<start_of_turn>user\n(?P<text>.*?)<end_of_turn>",
    )
)
_MARKS = re.compile(r"<\|[\w-]+\|>|<start_of_turn>|\[INST\]")
# What ends an answer, and is no part of it.
_END = re.compile(r"(?:\s*(?:<\|[\w-]+\|>|</s>|<eos>|<end_of_turn>))+\s*\Z")
# Of a prompt that was cut on the left, so many characters must be there to find where it ends.
_LEAST_PROMPT = 16


class OpenRLHFReward:
    """A `reward_func` for OpenRLHF's files. It is called from several threads, which share one event loop."""

    def __init__(self, reward: RubricReward) -> None:
        """Wrap a reward. OpenRLHF judges one answer a call: none may be unscored, whatever the reward allows."""
        self._reward = reward

    def __call__(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[object]) -> dict[str, Any]:
        """Return the rewards of the answers in `queries`.

        Raises:
            RewardUnavailable: An answer could not be judged.
            RequestInvalid: A query or label cannot be read.
        """
        samples = samples_of({"query": queries, "prompts": prompts, "labels": labels})
        return run_in_background(rewards_of(self._reward, samples))


async def answer(reward: RubricReward, body: object) -> tuple[HTTPStatus, dict[str, Any]]:
    """Return status and JSON of the answer to a POST of OpenRLHF's client.

    Args:
        reward: What judges.
        body: The JSON that was posted.

    Returns:
        200 with all rewards; 400: the body cannot be read; 503: an answer could not be judged. The client tries both
        again, five times, and then has no reward.
    """
    try:
        return HTTPStatus.OK, await rewards_of(reward, samples_of(body))
    except RequestInvalid as error:
        return HTTPStatus.BAD_REQUEST, _error_body(error, HTTPStatus.BAD_REQUEST)
    except RubricrmError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, _error_body(error, HTTPStatus.SERVICE_UNAVAILABLE)


def samples_of(body: object) -> list[RewardSample]:
    """Return the samples that OpenRLHF's client posts: `query`, `prompts` and `labels`, lists of one length.

    Raises:
        RequestInvalid: It is anything else, or an answer or request cannot be found in it.
    """
    if not isinstance(body, Mapping):
        raise RequestInvalid(f"expected an object with query, prompts and labels, got {type(body).__name__}.")
    queries, prompts, labels = (_list(body, name) for name in ("query", "prompts", "labels"))
    if not len(queries) == len(prompts) == len(labels):
        raise RequestInvalid(
            f"expected lists of one length, got query {len(queries)}, prompts {len(prompts)}, labels {len(labels)}."
        )
    return [_sample(index, *values) for index, values in enumerate(zip(queries, prompts, labels, strict=True))]


async def rewards_of(reward: RubricReward, samples: Sequence[RewardSample]) -> dict[str, Any]:
    """Return the JSON that OpenRLHF's client expects.

    Raises:
        RewardUnavailable: A sample could not be judged: the protocol knows no missing reward.
    """
    outcomes = await reward.score(samples)
    scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
    if len(scored) < len(outcomes):
        raise RewardUnavailable(f"{len(outcomes) - len(scored)} of {len(outcomes)} answers could not be judged.")
    values = [outcome.value for outcome in scored]
    extra = {"rubricrm_no_vote": [float(outcome.verdict.no_vote) for outcome in scored]}
    return {"rewards": values, "scores": values, "extra_logs": extra}


def cut_answer(query: str, prompt: str) -> str:
    """Return what follows the prompt in a query, without the tokens that end an answer.

    A prompt that was too long is cut on the left before it gets into the query. The cost is linear.

    Raises:
        RequestInvalid: The query begins with no end of the prompt.
    """
    for text in (prompt, normalize("NFC", prompt)):  # a tokenizer may have normalized it
        if query.startswith(text):
            return _END.sub("", query[len(text) :])
    start = query.lstrip("\N{REPLACEMENT CHARACTER}")  # half a character, where it was cut
    overlap = _overlap(prompt, start)
    if overlap < _LEAST_PROMPT:
        raise RequestInvalid(f"a query does not begin with its prompt: expected {prompt!r:.60}, got {query!r:.60}.")
    return _END.sub("", start[overlap:])


def request_of(prompt: str) -> str:
    """Return the last user message in a prompt to which a chat template was applied; the prompt where there is none.

    Raises:
        RequestInvalid: The prompt has marks of a template that is unknown here.
    """
    found = [match for pattern in _USER_MESSAGES for match in pattern.finditer(prompt)]
    if found:
        return max(found, key=lambda match: match.start())["text"]
    if mark := _MARKS.search(prompt):
        raise RequestInvalid(
            f"no user message was found in a prompt with the mark {mark[0]!r}. Make labels objects with request and "
            "reference."
        )
    return prompt


def _list(body: Mapping[Any, object], name: str) -> Sequence[object]:
    value = body.get(name)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RequestInvalid(
            f"{name}: expected a list, got {type(value).__name__} under the keys {sorted(map(str, body))}."
        )
    return value


def _sample(index: int, query: object, prompt: object, label: object) -> RewardSample:
    where = f"sample {index}"
    if not isinstance(query, str) or not isinstance(prompt, str):
        raise RequestInvalid(
            f"{where}: query and prompt must be texts, got {type(query).__name__} and {type(prompt).__name__}."
        )
    given = _facts_of(label)
    request = given.get("request")
    return make_sample(
        where,
        request=request_of(prompt) if request is None else request,
        answer=cut_answer(query, prompt),
        reference=given.get("reference"),
        rubric=given.get("rubric"),
    )


def _facts_of(label: object) -> Mapping[Any, object]:
    """Return what a label says. The JSON text of an object is one: a column of a data set holds texts alone."""
    found = label
    if isinstance(label, str) and label.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            found = json.loads(label)
    is_object = isinstance(found, Mapping) and (found is label or "reference" in found)
    return found if is_object and isinstance(found, Mapping) else {"reference": label}


def _overlap(before: str, text: str) -> int:
    """Return the length of the longest end of one text that begins the other (Knuth, Morris, Pratt)."""
    if not text:
        return 0
    before = before[-len(text) :]
    border = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = border[length - 1]
        length += text[index] == text[length]
        border[index] = length
    length = 0
    for character in before:
        while length and (length == len(text) or character != text[length]):
            length = border[length - 1]
        length += character == text[length]
    return length


def _error_body(error: RubricrmError, status: HTTPStatus) -> dict[str, Any]:
    return {"error": {"message": str(error), "type": error.code.lower(), "param": None, "code": status.value}}
