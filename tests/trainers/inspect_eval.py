"""An evaluation of inspect-ai on its mock model, scored by our scorer. Prints what it saw as JSON."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Scorer
from inspect_ai.solver import generate
from rubricrm_reward import RubricReward
from scripted_jury import ScriptedSource

WORDS = ("better", "mute", "worse", "broken", "equal")


def run(scorer: Scorer, directory: str) -> dict[str, Any]:
    """Evaluate five answers."""
    outputs = [ModelOutput.from_content("mockllm/model", f"Red is {word}") for word in WORDS]
    for output in outputs:
        output.usage = ModelUsage()  # else its tokens are counted with a file from the network
    samples = [Sample(id=index, input="Name a color.", target="Blue.") for index in range(len(WORDS))]
    model = get_model("mockllm/model", custom_outputs=outputs)
    task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=scorer)
    (log,) = eval(task, model=model, log_dir=directory, display="none", max_samples=1)
    assert log.results is not None, log.error
    assert log.samples is not None
    (scores,) = log.results.scores
    return {
        "status": log.status,
        "name": scores.name,
        "scored": scores.scored_samples,
        "unscored": scores.unscored_samples,
        "metrics": {name: metric.value for name, metric in scores.metrics.items()},
        "reasons": [next(iter(sample.scores.values())).reason for sample in log.samples if sample.scores],
    }


def main() -> None:
    """Take the scorer from its module, and find it by its name in the registry."""
    from inspect_ai._util.registry import registry_info
    from inspect_ai.scorer._scorer import scorer_create
    from rubricrm_reward.inspect import rubric_judge

    with tempfile.TemporaryDirectory() as directory:
        seen = run(rubric_judge(RubricReward(ScriptedSource())), directory)
    # From a checkout it has no prefix: inspect-ai gives one to what lies in site-packages.
    registered = scorer_create(registry_info(rubric_judge).name, judge="bundle")
    print(json.dumps(seen | {"registered": type(registered).__name__}))


if __name__ == "__main__":
    main()
