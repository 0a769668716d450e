"""benchmarks/replay.py counts the steps that drafting needs, by the text alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from byte_tokenizer import NUMBERS
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation.drafting import Drafter
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.step_cost import StepCost

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "replay.py"


@pytest.fixture(scope="module")
def replay(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("replay")


COST = StepCost({1: 1.0, 2: 1.1, 4: 1.2, 8: 1.8})
RUBRIC = "1. The response must rhyme. [Hard Rule]\n2. The response must be short. [Hard Rule]\n"
texts = st.text("ab1. ", max_size=40)


def drafter_of(prompt: str, learned: str = "") -> Drafter:
    table = PhraseTable(NUMBERS)
    table.learn(learned.encode())
    return Drafter(prompt.encode(), NUMBERS, table)


@given(prompt=texts, text=texts, learned=texts, most_rows=st.integers(1, 9))
def test_steps_write_the_whole_text(replay: ModuleType, prompt: str, text: str, learned: str, most_rows: int) -> None:
    found = replay.replay(drafter_of(prompt, learned), text.encode(), COST, most_rows)
    assert found.tokens == max(0, len(text) - 1)
    assert found.tokens == len(found.rows) + sum(found.accepted.values())
    assert sum(found.rows) >= len(found.rows) + sum(found.drafted.values())
    assert all(1 <= rows <= most_rows for rows in found.rows)
    assert found.seconds == pytest.approx(sum(COST.seconds(rows) for rows in found.rows))


@given(prompt=texts, text=texts)
def test_one_row_is_plain_decoding(replay: ModuleType, prompt: str, text: str) -> None:
    found = replay.replay(drafter_of(prompt, text), text.encode(), COST, 1)
    assert found.rows == [1] * max(0, len(text) - 1)
    assert found.times_as_fast == 1.0


def test_no_text_is_drafted_from_itself(replay: ModuleType) -> None:
    """The same text twice in a file is not another one; a table that had learned it would draft it whole."""
    text = list(b"Sphinx of black quartz, judge my vow.")
    found = replay.replays([([], text), ([], text)], NUMBERS, COST, 8)
    assert [run.times_as_fast for run in found["leave one out"]] == [run.times_as_fast for run in found["empty table"]]
    assert replay.replay(drafter_of("", bytes(text).decode()), text, COST, 8).times_as_fast > 2


def test_other_texts_are_drafted_from(replay: ModuleType) -> None:
    found = replay.replays([([], list(RUBRIC.encode())), ([], list(RUBRIC[3:].encode()))], NUMBERS, COST, 8)
    assert found["leave one out"][0].times_as_fast > found["empty table"][0].times_as_fast + 0.5
    assert found["random tokens"][0].times_as_fast >= 0.97


@pytest.mark.parametrize("as_file", [False, True])
def test_costs(replay: ModuleType, tmp_path: Path, as_file: bool) -> None:
    steps = [{"tokens": rows, "ours_ms": ms} for rows, ms in ((1, 100), (2, 120), (4, 130), (60, 400))]
    (tmp_path / "steps.json").write_text(json.dumps({"steps": steps}))
    cost = replay.cost_from(str(tmp_path / "steps.json") if as_file else "0.1,0.12,0.125,0.13")
    assert [cost.seconds(rows) for rows in (1, 2, 3, 4)] == pytest.approx([0.1, 0.12, 0.125, 0.13])


def test_the_command(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = [{"request": "Write.", "rubric": RUBRIC}, {"prompt": "Sing.", "rubric": RUBRIC[40:]}]
    (tmp_path / "rubrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "template.txt").write_text("Request: {prompt}")
    command = [sys.executable, SCRIPT, tmp_path / "rubrics.jsonl", tiny_bundle / "tokenizer.json"]
    command += ["--template", tmp_path / "template.txt", "--cost", "1,1.1,1.15,1.2"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cost"] == {"1": 1.0, "2": 1.1, "3": 1.15, "4": 1.2}
    replays = found["replays"]
    assert replays["leave one out"]["times_as_fast"] > replays["empty table"]["times_as_fast"] > 1
    assert replays["empty table"]["tokens"] == len(RUBRIC) - 1 + len(RUBRIC[40:]) - 1
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "random tokens" in done.stdout
