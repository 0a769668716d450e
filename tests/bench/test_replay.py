"""benchmarks/replay.py counts the runs that drafting needs, by the text alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "replay.py"


@pytest.fixture(scope="module")
def replay(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("replay")


few_tokens = st.lists(st.integers(0, 3), max_size=40)


@given(prompt=few_tokens, text=few_tokens)
def test_plain_decoding_is_a_row_a_token(replay: ModuleType, prompt: list[int], text: list[int]) -> None:
    assert replay.replay(prompt, text, 0).rows == (1,) * max(0, len(text) - 1)


@given(prompt=few_tokens, text=few_tokens, most=st.integers(0, 6))
def test_runs_write_exactly_the_text(replay: ModuleType, prompt: list[int], text: list[int], most: int) -> None:
    """Decoding with these drafts, a run at a time, by a model that always wants the text's next token."""
    known, rows = list(prompt), []
    written = text[:1]
    while 0 < len(written) < len(text):
        drafts = replay.draft(known + written, min(most, len(text) - len(written)))
        rows.append(1 + len(drafts))
        for token in [*drafts, None]:
            wanted = text[len(written)] if len(written) < len(text) else None
            if wanted is None:
                break
            written = [*written, wanted]  # what the model gives for this row, draft or not
            if token != wanted:
                break
    assert written == text
    assert replay.replay(prompt, text, most).rows == tuple(rows)


@pytest.mark.parametrize(
    ("known", "most", "expected"),
    [
        ([1, 2, 3, 4, 1, 2], 3, [3, 4, 1]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 1, [4]),  # the last occurrence
        ([5, 1, 2, 9, 1, 7, 5, 1], 2, [2, 9]),  # the longest n-gram before a later, shorter one
        ([1, 2, 3], 2, []),
        ([1], 2, []),
        ([], 2, []),
        ([1, 1], 0, []),
    ],
)
def test_drafts(replay: ModuleType, known: list[int], most: int, expected: list[int]) -> None:
    assert replay.draft(known, most) == expected


def test_wider_runs_than_are_listed_cost_as_the_last(replay: ModuleType) -> None:
    assert replay.Replay((1, 2, 9), 5).cost([1, 1.5]) == 4.0


def test_the_command(tiny_bundle: Path, tmp_path: Path) -> None:
    rubric = "1. The response must rhyme. [Hard Rule]\n2. The response must be short. [Hard Rule]"
    (tmp_path / "rubrics.jsonl").write_text(json.dumps({"request": "Write.", "rubric": rubric}) + "\n")
    command = [sys.executable, SCRIPT, tmp_path / "rubrics.jsonl", tiny_bundle / "tokenizer.json", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["policies"]
    assert found["plain"] == {"runs": 81, "rows_a_run": 1, "tokens_a_run": 1, "cost": 81, "times_as_fast": 1}
    assert found["n-gram, 4"]["runs"] < 60
