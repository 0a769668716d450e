"""A server of the demo model, for all tests that do not change it."""

from collections.abc import Iterator

import httpx2
import pytest
from rubricrm import RubricModel
from served import Served, serving


@pytest.fixture(scope="session")
def demo() -> Iterator[RubricModel]:
    with RubricModel.demo(max_concurrency=4, max_waiting=1000, draft=False) as model:
        yield model


@pytest.fixture(scope="module")
def served(demo: RubricModel) -> Iterator[Served]:
    with serving(demo, max_concurrency=4, max_waiting=100) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=served.url, timeout=30) as found:
        yield found
