"""Rewards in the trainers' own code, with a judge that says what it is told to, and is taken away.

The trainers live in an environment of their own (`make test-trainers`); RUBRICRM_TRAINERS is its Python.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("RUBRICRM_TRAINERS", "")
HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE, HERE.parent / "references")))

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.skipif(not PYTHON, reason="RUBRICRM_TRAINERS is not set: run `make test-trainers`"),
]


def run(script: str, *words: object) -> dict[str, Any]:
    """Run a script of this folder in the trainers' environment; return the JSON of its last line."""
    environment = os.environ | {"PYTHONPATH": PATHS, "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    command = [PYTHON, str(HERE / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_trl_leaves_a_completion_without_a_verdict_out(trainer: str) -> None:
    seen = run("trl_steps.py", trainer, 1000)
    assert seen["steps"] == 3
    assert seen["ended"] is None
    assert seen["changed"]
    assert seen["finite"]
    for entry in seen["logs"]:
        assert entry["rewards/rubricrm/mean"] == pytest.approx(2.5 / 7)  # of the seven scored ones
        assert entry["rubricrm/unscored"] == pytest.approx(1 / 8)
        assert entry["rubricrm/no_vote"] == pytest.approx(1 / 16)
    better, worse, equal, mute = seen["advantages"][0][:4]
    assert mute == 0
    assert better == pytest.approx(-worse)  # their mean is that of three, 0.5: a 0 in place of None would move it
    assert equal == pytest.approx(0, abs=1e-6)
    assert better > 0


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_trl_stops_when_the_judge_is_taken_away(trainer: str) -> None:
    seen = run("trl_steps.py", trainer, 17)  # in the third step, after its first completion
    assert seen["steps"] == 2
    assert seen["finite"]
    assert "REWARD_UNAVAILABLE: 2 of 8 samples could not be judged (2 judge_failed)" in seen["ended"]


@pytest.mark.parametrize("manager", ["naive", "dapo"])
def test_verls_reward_loop_scores_and_fails_without_a_judge(manager: str) -> None:
    seen = run("verl_loop.py", manager)
    assert seen["scores"] == [1.0, 0.0, 0.5, 0.5]
    assert set(seen["extra"]) >= {"score", "votes_for", "votes_against", "no_vote"}
    assert seen["extra"]["votes_for"] == [2.0, 0.0, 1.0, 1.0]
    assert "without judge" not in seen
    assert "REWARD_UNAVAILABLE: 1 of 1 samples" in seen["error"]


def test_verls_rate_limited_manager_is_refused() -> None:
    seen = run("verl_loop.py", "rate_limited")
    assert "scores" not in seen
    assert "RewardManagerRefused" in seen["error"]


def test_openrlhfs_client_gets_rewards_or_none_at_all() -> None:
    seen = run("openrlhf_client.py")
    rewards = [[1.0], [0.0], [0.5]]
    assert [found["reward"] for found in seen["server"]] == rewards
    assert [found["scores"] for found in seen["server"]] == rewards
    assert seen["cut"]["reward"] == [1.0]
    assert seen["without judge"] == {"reward": None, "scores": None, "extra_logs": {}}
    assert seen["statuses"] == [503] * 5
    assert [found["reward"] for found in seen["file"]] == [*rewards, None]


def test_swift_leaves_a_completion_without_a_verdict_out() -> None:
    seen = run("swift_rewards.py")
    assert seen["rewards"] == [1.0, 0.0, None, 0.5]
    assert "2 of 2 samples" in seen["ended"]


def test_inspect_ai_leaves_a_sample_without_a_verdict_out() -> None:
    seen = run("inspect_eval.py")
    assert seen["status"] == "success"
    assert (seen["name"], seen["scored"], seen["unscored"]) == ("rubric_judge", 3, 2)
    assert seen["metrics"]["mean"] == pytest.approx(0.5)
    assert seen["reasons"] == [None, "scoring_failed", None, "scoring_failed", None]
    assert seen["registered"] == "function"
