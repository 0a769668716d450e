"""verl's reward loop, in its own Ray actors, with our function. Prints what it saw as JSON.

verl_loop.py naive|dapo|rate_limited
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from tiny_policy import tokenizer
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopManager
from verl.trainer import config as verl_config

ANSWERS = ("Red is better", "Blue is worse", "Green is equal", "")
INFO = {"request": "Name a color.", "reference": "Blue."}


def batch(path: Path) -> DataProto:
    """The answers as verl has them after a rollout."""
    encode = tokenizer()
    encode.save_pretrained(path)
    ids = [[*encode(text).input_ids, encode.eos_token_id] for text in ANSWERS]
    width = max(map(len, ids))
    responses = torch.tensor([row + [encode.pad_token_id] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1] * (1 + len(row)) + [0] * (width - len(row)) for row in ids])
    prompts = torch.full((len(ids), 1), encode.eos_token_id)
    size = len(ANSWERS)
    return DataProto(
        batch=TensorDict({"prompts": prompts, "responses": responses, "attention_mask": mask}, batch_size=size),
        non_tensor_batch={
            "data_source": np.array(["colors"] * size, object),
            "reward_model": np.array([{"ground_truth": ""}] * size, object),
            "extra_info": np.array([dict(INFO) for _ in range(size)], object),
        },
    )


def settings(path: Path, manager: str) -> Any:
    """Verl's own configuration of rewards, with what a user changes."""
    reward = OmegaConf.load(Path(verl_config.__file__).parent / "reward" / "reward.yaml")
    reward.num_workers = 1
    reward.reward_manager.name = manager
    reward.custom_reward_function.path = "pkg://judge_behind_a_file"
    reward.custom_reward_function.reward_kwargs = {"judge": "bundle", "timeout_s": 20}
    if manager == "dapo":
        reward.reward_kwargs = {"overlong_buffer_cfg": None, "max_resp_len": None}
    return OmegaConf.create(
        {"reward": reward, "actor_rollout_ref": {"model": {"path": str(path), "tokenizer_path": None}}}
    )


def main() -> None:
    """Score a batch; then again without the judge."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        judge = path / "judge"
        judge.touch()
        variables = {"JUDGE_UP": str(judge), "PYTHONPATH": os.environ["PYTHONPATH"]}
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
        data = batch(path / "policy")
        loop = RewardLoopManager(settings(path / "policy", sys.argv[1]))
        seen: dict[str, Any] = {}
        try:
            scored = loop.compute_rm_score(data)
            seen["scores"] = scored.batch["rm_scores"].sum(1).tolist()
            seen["extra"] = {key: value.tolist() for key, value in scored.non_tensor_batch.items()}
            judge.unlink()
            found = loop.compute_rm_score(data)
            seen["without judge"] = found.batch["rm_scores"].sum(1).tolist()
        except BaseException as error:
            seen["error"] = f"{type(error).__name__}: {error}"
        ray.shutdown()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
