"""benchmarks/rivals.py with systems that are scripts: turns, ratios, and what fails."""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SYSTEMS = Path(__file__).parents[2] / "benchmarks" / "systems"

FAKE = """
import time
from pathlib import Path
from protocol import main

REQUIREMENTS = ()
VARIANTS = {{"a": None}}


def prepare(checkpoint, directory, variant):
    {prepare}
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(bytes(1000))


class Model:
    def run(self, ids, new_tokens):
        with Path({log!r}).open("a") as log:
            log.write({name!r} + f" {{len(ids)}}/{{new_tokens}}\\n")
        print("a library prints this")
        {run}
        now = time.perf_counter()
        return [now + 0.001 * n * {pace} for n in range(1, new_tokens + 1)], [ids[0]] * (new_tokens - 1) + [{last}]


def open_model(directory, variant, threads):
    {open}
    return Model()


if __name__ == "__main__":
    main(prepare, open_model)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fake systems: ours, one that takes twice as long a token, and three that fail."""
    folder = tmp_path / "systems"
    folder.mkdir()
    shutil.copy(SYSTEMS / "protocol.py", folder)
    plain = {"prepare": "pass", "run": "pass", "open": "pass", "pace": 1, "last": 7, "log": str(tmp_path / "log")}
    kinds: dict[str, dict[str, Any]] = {
        "ours": {},
        "slow": {"pace": 2, "last": 8},
        "unprepared": {"prepare": "raise SystemExit('no converter for this')"},
        "unopened": {"open": "raise SystemExit('no kernel for this')"},
        "breaking": {"run": "raise SystemExit('out of memory')"},
    }
    for name, change in kinds.items():
        (folder / f"{name}.py").write_text(FAKE.format(**(plain | change | {"name": name})))
    return folder


@pytest.fixture
def rivals(load_script: Callable[[str], ModuleType], folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("rivals")
    monkeypatch.setattr(module, "SYSTEMS", folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return module


def options(tmp_path: Path, systems: list[str], shapes: list[str]) -> argparse.Namespace:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps({"vocab_size": 500}))
    names = ["ours", *(system.partition(":")[0] for system in systems)]
    return argparse.Namespace(
        checkpoint=tmp_path / "checkpoint",
        work=tmp_path / "work",
        ours="a",
        systems=systems,
        shapes=shapes,
        rounds=3,
        threads=1,
        environment=[f"{name}={sys.executable}" for name in names],
    )


def test_both_sides_answer_in_turns(rivals: ModuleType, tmp_path: Path) -> None:
    own, other = rivals.run(options(tmp_path, ["slow:a"], ["8/5"]))
    asked = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert asked == ["ours", "slow", "slow", "ours"] * 2  # the first pair warms up
    assert (own.name, other.name, other.shape) == ("ours a", "slow a", "8/5")
    assert len(own.ttft_ms) == len(other.tpot_ms) == len(other.tpot_ratio) == 3
    assert other.tpot_ratio == pytest.approx([2, 2, 2], rel=1e-6)
    assert other.shared_tokens == 4
    assert other.num_bytes == 1000
    assert other.peak_rss_bytes > 1e6
    assert "| slow a | 8/5 |" in rivals.to_markdown([own, other])
    assert "2.00 (2.00 to 2.00)" in rivals.to_markdown([own, other])


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("unprepared", "no converter for this"),
        ("unopened", "no kernel for this"),
        ("breaking", "out of memory"),
    ],
)
def test_a_system_that_fails_has_a_row_with_its_error(
    rivals: ModuleType, tmp_path: Path, system: str, message: str
) -> None:
    rows = rivals.run(options(tmp_path, [f"{system}:a", "slow:a"], ["8/5"]))
    failed = next(row for row in rows if row.name == f"{system} a")
    assert message in failed.error
    assert re.search(rf"\| {system} a \| 8/5 \| failed: exit code 1: .*{message}", rivals.to_markdown(rows))
    assert next(row for row in rows if row.name == "slow a").error is None


def test_unknown_systems_and_variants(rivals: ModuleType, tmp_path: Path) -> None:
    given = options(tmp_path, ["nosuch:a"], ["8/5"])
    with pytest.raises(SystemExit, match="no system 'nosuch'; there are breaking, ours, slow, unopened, unprepared"):
        rivals.run(given)
    given.systems = ["slow:b"]
    with pytest.raises(SystemExit, match="slow has the variants a, got 'b'"):
        rivals.run(given)


@pytest.mark.parametrize("path", sorted(SYSTEMS.glob("*.py")), ids=lambda path: path.stem)
def test_every_system_states_its_pins_without_its_packages(
    load_script: Callable[[str], ModuleType], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(SYSTEMS), *sys.path])
    if path.stem == "protocol":
        return
    module = load_script(f"systems/{path.stem}")
    assert module.VARIANTS
    assert all("==" in pin or pin in ("-e", "onnx-ir") or ">=" in pin or "{root}" in pin for pin in module.REQUIREMENTS)
