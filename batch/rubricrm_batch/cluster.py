"""Where a batch runs: Ray on this machine, or a cluster of it."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.installation import missing_package

from rubricrm_batch.errors import JobStopped

# Blocks hold few rows. Ray's own default is 30 % of the machine.
_OBJECT_STORE_BYTES = 1 << 30
# Beside the workers: one for reading and writing, and one for the filter of rows that are done, which a resumed run
# has. With fewer, a resumed run waits for a CPU that never comes.
_SPARE_CPUS = 2


@dataclass(frozen=True)
class Cluster:
    """Where a job runs.

    Attributes:
        address: Of a running cluster ("auto" finds one on this machine); None: processes of this machine alone.
        workers: Actors, each with a model of its own.
        cpus: Of one worker.
        gpus: Of one worker.
    """

    address: str | None
    workers: int
    cpus: int
    gpus: float

    @property
    def num_cpus(self) -> int:
        """Return the logical CPUs that the plan needs."""
        return self.workers * self.cpus + _SPARE_CPUS


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Start Ray, or join a cluster, for as long as the block runs. Its usage statistics are off.

    Raises:
        DependencyMissing: Ray is not installed.
        OptionInvalid: The cluster has too few CPUs or GPUs.
        JobStopped: Ray cannot be started, or the cluster not joined.
    """
    # Before the import, which reads it. The second keeps Ray from hiding the GPUs of workers that ask for none.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it prints to standard error whatever the logging level
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing_package("a batch", error, "batch") from error
    _quieten()
    own = {"num_cpus": cluster.num_cpus, "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    if cluster.address is None and cluster.gpus:
        own["num_gpus"] = math.ceil(cluster.workers * cluster.gpus)
    given = {"address": cluster.address} if cluster.address else {"address": "local", **own}
    with _quiet_output():
        try:
            ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # of many classes, and of none where a busy machine does not start it in time
            where, why = cluster.address or "this machine", str(error).rstrip(".")
            raise JobStopped(f"Ray cannot be started or joined at {where}: {why}. Give the command again.") from error
        try:
            _check_resources(cluster, ray.cluster_resources())  # type: ignore[no-untyped-call]
            yield
        finally:
            ray.shutdown()


def _check_resources(cluster: Cluster, there: Mapping[str, float]) -> None:
    """Refuse what would wait for ever."""
    wanted = {"CPU": cluster.num_cpus, "GPU": cluster.workers * cluster.gpus}
    for name, amount in wanted.items():
        if there.get(name, 0) < amount:
            raise OptionInvalid(
                f"the cluster has {there.get(name, 0):g} {name}s, expected {amount:g}: {cluster.workers} workers of "
                f"{cluster.cpus} CPUs and {cluster.gpus:g} GPUs, and {_SPARE_CPUS} CPUs for reading and writing. Lower "
                "--workers or --threads."
            )


def _quieten() -> None:
    """Leave Ray Data's notes to its log file: on standard error, this package says what is to be said."""
    for handler in logging.getLogger("ray.data").handlers:
        if not hasattr(handler, "_filename"):
            handler.setLevel(logging.CRITICAL)


@contextmanager
def _quiet_output() -> Iterator[None]:
    """Send to standard error what Ray and its libraries print: standard output is for the report."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)
