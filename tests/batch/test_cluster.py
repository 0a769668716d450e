"""What Ray says where it does not start, without Ray."""

import sys
from types import ModuleType
from typing import Any

import pytest
from rubricrm_batch.cluster import Cluster, connected
from rubricrm_batch.errors import JobStopped


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup."),
        ConnectionError("no GCS"),
        TimeoutError("late"),
        KeyError(),
    ],
    ids=repr,
)
def test_ray_that_does_not_start_stops_the_job(
    monkeypatch: pytest.MonkeyPatch, address: str | None, error: Exception
) -> None:
    def init(**_: Any) -> None:
        raise error

    ray = ModuleType("ray")
    ray.data = ModuleType("ray.data")  # type: ignore[attr-defined]
    ray.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    place = address or "this machine"
    with pytest.raises(JobStopped, match=f"at {place}: .*Give the command again"), connected(Cluster(address, 1, 1, 0)):
        pass
