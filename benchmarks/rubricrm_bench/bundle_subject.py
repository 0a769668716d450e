"""A bundle, as what a benchmark measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores

from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.device_limits import measure_device_limits
from rubricrm_bench.opening import measure_opening
from rubricrm_bench.proof import Proof, prove
from rubricrm_bench.roofline import Limits, measure_limits, weight_bytes
from rubricrm_bench.workload import without_stops


class BundleSubject:
    """See `Subject`: all of it can be measured."""

    def __init__(self, job: BenchJob, path: Path) -> None:
        self._job = job
        self.bundle = Bundle.open(path)
        self.threads = job.threads or usable_cores()

    def open(self, *, is_fixed: bool) -> RubricModel:
        """As `Subject.open`. Requests come again: a prompt that was kept would be no prompt any more."""
        job = self._job
        return RubricModel(
            without_stops(self.bundle) if is_fixed else self.bundle,
            device=job.device,
            threads=job.threads,
            max_concurrency=max(job.concurrency),
            keep_prompts=False,
            draft=job.draft,
        )

    def prove(self, requests: tuple[str, ...]) -> Proof:
        """As `Subject.prove`: by its graph, and by the reference if there is one."""
        return prove(self.bundle, self._job, requests)

    def measure_opening(self) -> dict[str, Any]:
        """As `Subject.measure_opening`."""
        return measure_opening(self.bundle.path, self._job.device, self._job.threads)

    def measure_limits(self) -> Limits:
        """Measure the memory and the products of where the bundle runs: a GPU's are not the host's."""
        device = self._job.device or self.bundle.manifest.graph.target
        if device == "cpu":
            return measure_limits(weight_bytes(self.bundle), self.threads)
        return measure_device_limits(device)

    def weights_facts(self) -> dict[str, Any]:
        """As `Subject.weights_facts`, by the manifest."""
        facts = self.bundle.manifest
        return {
            "model": facts.model.name,
            "num_parameters": facts.model.num_parameters,
            "num_bytes": self.bundle.num_bytes,
            "weights": facts.quantization.weights,
            "method": facts.quantization.method,
            "activations": facts.quantization.activations,
            "kv_type": facts.graph.kv_type,
            "target": facts.graph.target,
        }

    def server_facts(self) -> None:
        """As `Subject.server_facts`."""
