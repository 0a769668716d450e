"""What trainers hand over as a request, an answer or a reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import RequestInvalid
from rubricrm.runtime.prompt import check_text
from rubricrm_reward.sample import EMPTY_ANSWER, make_sample

TEXTS: dict[str, Any] = {"request": "Name a color.", "answer": "Red.", "reference": "Blue."}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_policy_writes_can_be_judged(answer: str) -> None:
    sample = make_sample("sample 0", **TEXTS | {"answer": answer})
    check_text(sample.answer, "answer")
    assert sample.answer == (answer.replace("\0", "\N{REPLACEMENT CHARACTER}") if answer.strip() else EMPTY_ANSWER)


def test_the_last_message_of_its_role_counts() -> None:
    prompt = [{"role": "user", "content": text} for text in ("Hello.", "Name a color.")]
    prompt.insert(1, {"role": "assistant", "content": "Hi."})
    tools = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "red"}]
    sample = make_sample("sample 0", **TEXTS | {"request": np.array(prompt), "answer": tools})
    assert (sample.request, sample.answer) == ("Name a color.", EMPTY_ANSWER)


@pytest.mark.parametrize("name", ["request", "answer", "reference", "rubric"])
@pytest.mark.parametrize("value", [3, b"text", {"role": "user", "content": "x"}])
def test_other_types_are_refused(name: str, value: object) -> None:
    with pytest.raises(RequestInvalid, match=f"sample 0: {name}: expected a text or"):
        make_sample("sample 0", **TEXTS | {name: value})


@pytest.mark.parametrize("name", ["request", "reference", "rubric"])
def test_blank_texts_of_the_data_set_are_refused(name: str) -> None:
    with pytest.raises(RequestInvalid, match=f"sample 0: {name} is blank"):
        make_sample("sample 0", **TEXTS | {name: " \n"})
