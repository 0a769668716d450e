"""Options of an open model: their ranges."""

from typing import Any

import pytest
from rubricrm import RubricModel
from rubricrm.errors import OptionInvalid
from rubricrm.generation.engine_options import EngineOptions


def test_the_defaults_are_what_the_docs_say() -> None:
    options = EngineOptions()
    assert (options.max_concurrency, options.max_waiting, options.max_memory) == (8, 1000, None)
    assert options.keep_prompts
    assert options.draft
    assert options.phrases is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrency": 0},
        {"max_concurrency": 129},
        {"max_concurrency": 2.0},
        {"max_concurrency": True},
        {"max_concurrency": None},
        {"max_waiting": 0},
        {"max_waiting": None},
        {"max_memory": 0},
        {"max_memory": "1 GB"},
        {"keep_prompts": 1},
        {"keep_phrases": 1},
        {"draft": None},
        {"phrases": 3},
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused_before_anything_is_opened(wrong: dict[str, Any]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(OptionInvalid, match=f"{name} must be .*, got {value!r}"):
        RubricModel.demo(**wrong)
