"""A model on a server, as what a benchmark measures: what its clients see, and nothing else."""

from __future__ import annotations

from typing import Any

from rubricrm.model import RubricModel
from rubricrm.runtime.prompt_directory import open_prompt_directory
from rubricrm.served_model import ServedModel

from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.proof import Proof, prove_served

_UNTOLD = ("num_parameters", "num_bytes", "weights", "method", "activations", "kv_type", "target")


class ServerSubject:
    """See `Subject`. Of weights, memory, opening and the limits of its machine the server tells nothing."""

    threads = None

    def __init__(self, job: BenchJob, served: ServedModel) -> None:
        """Look at the server, before anything is measured.

        Raises:
            RubricrmError: As `RubricModel.connect`.
        """
        self._job = job
        self._served = served
        self.bundle = open_prompt_directory(served.prompt)
        with self.open(is_fixed=False) as model:
            self._model_name = model.description["name"]
            self._capabilities = model.capabilities

    def open(self, *, is_fixed: bool) -> RubricModel:
        """Connect. Nothing is tried again: a second try would hide in the times of the first.

        `BenchJob` refuses fixed lengths: the server ends an answer at its model's own ids.
        """
        assert not is_fixed
        return self._served.connect(RubricModel, max_concurrency=max(self._job.concurrency), max_retries=0)

    def prove(self, requests: tuple[str, ...]) -> Proof:
        """As `Subject.prove`: by the reference, without which nobody knows."""
        with self.open(is_fixed=False) as model:
            return prove_served(model, self._job, requests)

    def measure_opening(self) -> dict[str, Any]:
        """As `Subject.measure_opening`: the server was opened long ago."""
        return {}

    def measure_limits(self) -> None:
        """As `Subject.measure_limits`."""

    def weights_facts(self) -> dict[str, Any]:
        """As `Subject.weights_facts`: its name alone. The prompt directory's facts are of another copy of the model."""
        return {"model": self._model_name, **dict.fromkeys(_UNTOLD)}

    def server_facts(self) -> dict[str, Any] | None:
        """As `Subject.server_facts`."""
        return None if self._capabilities is None else dict(self._capabilities.to_dict())
