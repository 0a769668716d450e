"""Steps of TRL's GRPOTrainer or RLOOTrainer with our reward, on a policy of random weights. Prints what it saw as JSON.

trl_steps.py grpo|rloo DIES_AFTER
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

from datasets import Dataset
from rubricrm_reward import RewardUnavailable, RubricReward
from rubricrm_reward.trl import TRLReward
from scripted_jury import ScriptedSource
from tiny_policy import policy, tokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

TRAINERS: dict[str, Any] = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}
NUM_STEPS = 3
# What the jury says of the eight completions of a step, two groups of four.
SCRIPT = ("better", "worse", "equal", "mute", "better", "worse", "worse", "worse")


def main() -> None:
    """Train; a judge that dies ends it."""
    trainer_class, config_class = TRAINERS[sys.argv[1]]
    source = ScriptedSource(dies_after=int(sys.argv[2]), script=SCRIPT)
    seen: dict[str, Any] = {"advantages": [], "ended": None}

    class Watched(trainer_class):  # type: ignore[misc, valid-type]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            found = super()._generate_and_score_completions(inputs)
            seen["advantages"].append(found["advantages"].tolist())
            return found

    questions = ("Name a color.", "Name a shape.")
    rows = {
        "prompt": [[{"role": "user", "content": question}] for question in questions],
        "reference": ["Blue.", "A circle."],
        "rubric": ["1. The response is short. [Hard Rule]", None],
    }
    with tempfile.TemporaryDirectory() as output:
        trainer = Watched(
            model=policy(),
            processing_class=tokenizer(),
            reward_funcs=TRLReward(RubricReward(source)),
            train_dataset=Dataset.from_dict(rows),
            args=config_class(
                output_dir=output,
                per_device_train_batch_size=8,
                num_generations=4,
                max_completion_length=8,
                max_steps=NUM_STEPS,
                learning_rate=0.01,
                beta=0.0,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
        )
        before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
        started = time.perf_counter()
        try:
            trainer.train()
        except RewardUnavailable as error:
            seen["ended"] = str(error)
        seen["seconds"] = time.perf_counter() - started
        seen["steps"] = trainer.state.global_step
        seen["changed"] = any(not value.equal(before[name]) for name, value in trainer.model.named_parameters())
        seen["finite"] = all(bool(value.isfinite().all()) for value in trainer.model.parameters())
        seen["logs"] = [entry for entry in trainer.state.log_history if "reward" in entry]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
