"""The plan that Ray Data runs: read, cut into blocks, answer, write; rows that are written are not answered again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rubricrm.errors import RubricrmError, WriteFailed

from rubricrm_batch.columns import ID
from rubricrm_batch.errors import JobStopped

# A full disk, a quota, a file system that became read-only: as Python and Arrow print them.
_WRITE_ERROR = re.compile(r"\[Errno (?:28|30|122)\] ([^\n.]+)")

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ray.data import Dataset

    from rubricrm_batch.cluster import Cluster
    from rubricrm_batch.runs import Run


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


def _told(error: Exception, run: Run) -> RubricrmError:
    """Return the error of this package that an error of Ray tells of, or one that says what Ray says.

    Ray hands on the text of a worker's error, with its traceback, and not always the error itself.
    """
    text = "\n".join(map(str, _causes(error)))
    if stopped := re.search(rf"\b{JobStopped.code}: (.+)", text):
        return JobStopped(stopped[1])
    if failed := _WRITE_ERROR.search(text):
        return WriteFailed(
            f"{run.rubrics}: cannot be written ({failed[1]}). What is written stays: free some space, then the same "
            "command goes on."
        )
    lines = [line for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return JobStopped(f"Ray ended the job: {lines[-1].strip()} What is written stays; the same command goes on.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__
