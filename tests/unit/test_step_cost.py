"""What steps cost: measured once, kept, measured again where what was kept is damaged."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation import step_cost
from rubricrm.generation.step_cost import StepCost, measure_step_cost, open_step_cost
from rubricrm.runtime.cache_directory import cache_directory

KEY = ("1" * 64, "cpu-model.onnx", "2-threads")


class Machine:
    """Steps whose time is given, on a clock that nothing else moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.runs: list[int] = []
        self.seconds = seconds
        self._now = 0.0
        monkeypatch.setattr(step_cost.time, "perf_counter", lambda: self._now)

    def run(self, rows: int) -> None:
        self.runs.append(rows)
        # The second round is the quiet one.
        self._now += self.seconds[rows] * (1 if self.runs.count(rows) == 2 else 1.5)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch, {1: 0.096, 2: 0.114, 3: 0.111, 4: 0.119, 6: 0.15, 8: 0.178})


def test_the_fastest_round_counts_and_no_step_costs_more_than_a_wider_one(machine: Machine) -> None:
    cost = measure_step_cost(machine.run)
    assert cost.measured == pytest.approx({1: 0.096, 2: 0.111, 3: 0.111, 4: 0.119, 6: 0.15, 8: 0.178})
    assert len(machine.runs) == 20


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 1.0), (2, 1.5), (3, 2.0), (4, 2.0), (5, 3.0), (6, 4.0), (8, 6.0), (70, 68.0)]
)
def test_between_and_beyond(rows: int, expected: float) -> None:
    assert StepCost({4: 2.0, 1: 1.0, 3: 2.0, 6: 4.0}).seconds(rows) == pytest.approx(expected)


def test_one_measured_number_of_rows() -> None:
    assert StepCost({1: 2.0}).seconds(9) == 2.0


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=8), st.integers(1, 40))
def test_a_wider_step_is_never_cheaper(times: list[float], rows: int) -> None:
    cost = StepCost(dict(enumerate(sorted(times), 1)))
    assert cost.seconds(rows) <= cost.seconds(rows + 1) * (1 + 1e-12)


@pytest.mark.parametrize("measured", [{}, {2: 1.0}, {0: 1.0, 1: 1.0}, {1: 0.0}, {1: -1.0}, {1: float("nan")}])
def test_what_is_no_cost(measured: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        StepCost(measured)


def test_it_is_measured_once(machine: Machine) -> None:
    first = open_step_cost(*KEY, machine.run)
    count = len(machine.runs)
    assert open_step_cost(*KEY, machine.run).measured == first.measured
    assert len(machine.runs) == count
    open_step_cost(KEY[0], KEY[1], "1-thread", machine.run)
    assert len(machine.runs) == 2 * count


@pytest.mark.parametrize(
    "contents", [b"", b"\xff", b"[1]", b"null", b'{"1": "x"}', b'{"2": 1}', b'{"1": NaN}', b'{"1": null}', b'{"a": 1}']
)
def test_a_damaged_file_is_measured_again(machine: Machine, contents: bytes, caplog: pytest.LogCaptureFixture) -> None:
    key = ("2" * 64, KEY[1], KEY[2])
    expected = open_step_cost(*key, machine.run).measured
    path = cache_directory() / key[0] / key[1] / f"step_cost.{key[2]}.json"
    path.write_bytes(contents)
    machine.runs.clear()
    assert open_step_cost(*key, machine.run).measured == pytest.approx(expected)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    caplog.clear()
    open_step_cost(*key, machine.run)
    assert not caplog.records


def test_without_a_cache_it_is_measured(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "file"))
    assert open_step_cost(*KEY, machine.run).measured[1] == pytest.approx(0.096)
    assert len(machine.runs) == 20
