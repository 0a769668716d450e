"""The short form of `make form`: whatever is asked for, and whatever the weights say, every rubric is in the form."""

from pathlib import Path

import pytest
from kept_form import check_form
from rubricrm import RubricModel
from rubricrm.text_model import DEMO_BUNDLE
from varied_requests import varied_request

NUM_REQUESTS = 8  # of random weights: some greedy answers go in circles


def check(bundle: Path, count: int) -> list[dict[str, object]]:
    with RubricModel.open(bundle, threads=1) as model:
        found = list(check_form(model, [varied_request(seed) for seed in range(count)]))
    assert [line["faults"] for line in found] == [[]] * len(found)
    assert all(line["rubrics"] == count for line in found)
    return found


def test_every_rubric_of_the_demo_model() -> None:
    check(DEMO_BUNDLE, 12)


@pytest.mark.parametrize("bundle", ["tiny_bundle", "packed_bundle"])
def test_every_rubric_of_random_weights(bundle: str, request: pytest.FixtureRequest) -> None:
    """Greedy ones go in circles, and are brought to their end."""
    found = check(request.getfixturevalue(bundle), NUM_REQUESTS)
    assert sum(line.get("repetition", 0) for line in found if line["way"] == "greedy") > 0  # type: ignore[misc]
    assert all(line["overruled rubrics"] == NUM_REQUESTS for line in found)
