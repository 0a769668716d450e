"""The plan that Ray Data runs: read, cut into blocks, answer, write; rows that are written are not answered again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rubricrm.errors import OptionInvalid, RubricrmError, WriteFailed
from rubricrm.runtime.installation import missing_package

from rubricrm_batch.columns import ID
from rubricrm_batch.errors import JobStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ray.data import Dataset

    from rubricrm_batch.runs import Run

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
        JobStopped: The cluster cannot be joined.
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
        own["num_gpus"] = round(cluster.workers * cluster.gpus + 0.5)
    given = {"address": cluster.address} if cluster.address else {"address": "local", **own}
    try:
        ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise JobStopped(f"Ray cannot be started or joined at {cluster.address or 'this machine'}: {error}") from error
    try:
        _check_resources(cluster, ray.cluster_resources())  # type: ignore[no-untyped-call]
        yield
    finally:
        ray.shutdown()


def run_plan(
    staged: Path,
    run: Run,
    answered: Callable[[Dataset], Dataset],
    rows_per_block: int,
) -> None:
    """Answer all rows that are not done, and write them block by block.

    Args:
        staged: Rows with ids.
        run: Where to write.
        answered: Adds the step that answers blocks of rows: `with_workers`, or vLLM's.
        rows_per_block: What is written at a time, and lost by a kill in every worker.

    Raises:
        RubricrmError: As the worker's.
        WriteFailed: The disk is full.
        JobStopped: Something else ended the job.
    """
    import ray
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig(
        id_column=ID, checkpoint_path=str(run.checkpoint), delete_checkpoint_on_success=False
    )
    try:
        rows = ray.data.read_parquet(str(staged), partitioning=None)
        # Without the repartition Ray joins small files into one block, and only whole blocks are written.
        blocks = answered(rows.repartition(target_num_rows_per_block=rows_per_block))
        blocks.write_parquet(str(run.rubrics), compression="zstd")
    except Exception as error:  # Ray raises errors of the worker's class, wrapped, and many of its own
        raise _told(error, run) from error
    finally:
        context.checkpoint_config = None


def _quieten() -> None:
    """Leave Ray Data's notes to its log file: on standard error, this package says what is to be said."""
    for handler in logging.getLogger("ray.data").handlers:
        if not hasattr(handler, "_filename"):
            handler.setLevel(logging.CRITICAL)


def with_workers(
    rows: Dataset, worker: Callable[..., object], arguments: Mapping[str, object], cluster: Cluster
) -> Dataset:
    """Return rows as workers answer them: actors that live as long as the job.

    Args:
        rows: Blocks of staged rows.
        worker: A class that takes a table and returns one; an actor holds one.
        arguments: Of its constructor.
        cluster: How many, and what each takes.
    """
    import ray

    return rows.map_batches(
        worker,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=cluster.workers),
        fn_constructor_kwargs=dict(arguments),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus or None,
    )


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


def _told(error: Exception, run: Run) -> RubricrmError:
    """Return the error of this package that an error of Ray holds, or one that says what Ray says."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, RubricrmError):
            return type(cause)(str(cause).removeprefix(f"{cause.code}: "))
    for cause in causes:
        if isinstance(cause, OSError):
            return WriteFailed(
                f"{run.rubrics}: cannot be written ({cause.strerror or cause}). What is written stays: free some "
                "space, then the same command goes on."
            )
    first = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
    return JobStopped(f"Ray ended the job: {first[-1]} What is written stays; the same command goes on.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__
