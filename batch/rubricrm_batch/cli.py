"""`rubricrm batch`: options to a Batch, its report to text or JSON."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rubricrm.errors import OptionInvalid
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.installation import missing_package
from rubricrm.server_options import refuse_given, server_options

if TYPE_CHECKING:
    from rubricrm.served_model import ServedModel

    from rubricrm_batch.batch import Batch
    from rubricrm_batch.judging import JudgeSource
    from rubricrm_batch.model_source import ModelSource
    from rubricrm_batch.vllm_step import VllmSource

# What a worker takes on at once, and how many times that it writes at a time: the last rows of a block run alone.
_LOCAL_CONCURRENCY = 8
_SERVER_CONCURRENCY = 64
_BLOCK_TURNS = 4
_GENERATION = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "timeout_s", "constrain")
_MOST_WORKERS = 10_000


@click.command()
@click.argument("input_name", metavar="INPUT")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Directory of the job.")
@click.option("-m", "--model", "bundle", type=click.Path(path_type=Path), help="Bundle to use.")
@server_options("bundle")
@click.option("--vllm", metavar="CHECKPOINT", help="Checkpoint that vLLM runs inside Ray, with --workers engines.")
@click.option("--vllm-prompt", type=click.Path(path_type=Path), metavar="DIR", help="Its prompt directory or bundle.")
@click.option("--column", "request", default="request", show_default=True, metavar="NAME", help="Of the requests.")
@click.option("--id", "id_column", metavar="NAME", help="Column of unique ids.  [default: FILE:NUMBER]")
@click.option("--split", default="train", show_default=True, help="Of a data set of the hub.")
@click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens per rubric.  [default: the bundle's]")
@click.option("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy.  [default: 0]")
@click.option("--top-k", type=int, default=0, metavar="K", help="Sample from the K most probable.  [default: all]")
@click.option("--top-p", type=float, default=1.0, metavar="P", help="Sample from this much probability.  [default: 1]")
@click.option("--min-p", type=float, default=0.0, metavar="P", help="Least probability, relative.  [default: 0]")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seeds of rows follow from it.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Most time per rubric.")
@click.option("--constrain/--no-constrain", default=True, help="Hold rubrics to their form, where the bundle has it.")
@click.option("--judge", type=click.Path(path_type=Path), help="Judge of the answers that rows hold.")
@server_options("judge", kind="judge")
@click.option("--answers", nargs=2, metavar="A B", help="Columns of two answers: the judge says which is better.")
@click.option("--reward", nargs=2, metavar="ANSWER REFERENCE", help="Columns: the answer gets a number too.")
@click.option("--votes", type=click.IntRange(1), default=1, show_default=True, help="Of the judge in each order.")
@click.option("--judge-temperature", type=float, metavar="T", help="[default: as the judge's bundle tells]")
@click.option("--workers", type=click.IntRange(1, _MOST_WORKERS), default=1, show_default=True, help="Open models.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Of a worker.  [default: usable cores / workers]")
@click.option("--gpus", type=click.FloatRange(0), default=0.0, show_default=True, help="Of a worker.")
@click.option("--device", metavar="NAME", help="Where bundles run.  [default: the bundle's target]")
@click.option("--max-concurrency", type=click.IntRange(1), metavar="N", help="Of a worker.  [default: 8, server 64]")
@click.option("--rows-per-block", type=click.IntRange(1), metavar="N", help="Written at a time.  [default: 4 x that]")
@click.option("--address", help="Ray cluster to run on; auto finds one here.  [default: this machine alone]")
@click.option("--give-up-after", type=click.IntRange(1), default=8, show_default=True, help="Silences of the model.")
@click.option("--retry-failed", is_flag=True, help="Then answer rows again that failed and may succeed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def batch(retry_failed: bool, as_json: bool, **given: Any) -> None:
    """Write the rubrics of all requests in INPUT.

    INPUT is a file .jsonl, .csv, .tsv or .parquet, a directory of Parquet files, or hub:OWNER/NAME. The same command
    goes on after a kill, a Ctrl-C or an outage. The exit code is 0 for a complete job, 3 for a complete one with rows
    that failed, 1 for one that is not complete.
    """
    todo = _batch(**given)
    with _stoppable(given["output"]):
        report = todo.run(retry_failed=retry_failed)
    click.echo(json.dumps(report.to_dict(), ensure_ascii=False, indent=2) if as_json else report.to_text())
    if report.exit_code:
        raise click.exceptions.Exit(report.exit_code)


def _batch(input_name: str, output: Path, **given: Any) -> Batch:
    options = GenerationOptions(**{name: given[name] for name in _GENERATION})
    try:
        from rubricrm_batch.batch import Batch
        from rubricrm_batch.cluster import Cluster
        from rubricrm_batch.patience import Patience
    except ImportError as error:
        raise missing_package("a batch", error, "batch") from error
    is_local = given["bundle"] is not None
    concurrency = given["max_concurrency"] or (_LOCAL_CONCURRENCY if is_local else _SERVER_CONCURRENCY)
    threads = given["threads"] or _threads(given["workers"], is_local=is_local)
    gpus = given["gpus"] or (1.0 if given["vllm"] else 0.0)
    return Batch(
        input=input_name,
        output=output,
        model=_model_source(**{**given, "threads": threads, "max_concurrency": concurrency}),
        options=options,
        request=given["request"],
        id_column=given["id_column"],
        split=given["split"],
        cluster=Cluster(given["address"], given["workers"], threads, gpus),
        rows_per_block=given["rows_per_block"] or _BLOCK_TURNS * concurrency,
        patience=Patience(given["give_up_after"]),
        judge=_judge_source(**{**given, "threads": threads}),
    )


def _judge_source(
    *,
    judge: Path | None,
    judge_server: ServedModel | None,
    answers: tuple[str, str] | None,
    reward: tuple[str, str] | None,
    **given: Any,
) -> JudgeSource | None:
    from rubricrm_batch.judging import JudgeSource

    columns = reward or answers
    place = _seen_by_all(judge_server) or (judge and judge.resolve())
    if place is None:
        if columns:
            raise OptionInvalid("--answers and --reward need --judge or --judge-server. Name one, or leave them out.")
        return None
    if columns is None or (answers and reward):
        raise OptionInvalid("a judge needs one of --answers A B and --reward ANSWER REFERENCE. Give one.")
    if given["vllm"] is not None:
        raise OptionInvalid("a judge works with --model and --server. Judge the output of --vllm in a second batch.")
    return JudgeSource(
        judge=place,
        answers=columns,
        is_reward=reward is not None,
        votes=given["votes"],
        temperature=given["judge_temperature"],
        threads=given["threads"],
    )


def _model_source(
    *, bundle: Path | None, server: ServedModel | None, vllm: str | None, vllm_prompt: Path | None, **given: Any
) -> ModelSource | VllmSource:
    from rubricrm_batch.model_source import BundleSource, ServerSource
    from rubricrm_batch.vllm_step import VllmSource

    if sum(name is not None for name in (bundle, server, vllm)) != 1:
        raise OptionInvalid("a batch needs one of --model BUNDLE, --server URL and --vllm CHECKPOINT. Give one.")
    if (vllm is None) != (vllm_prompt is None):
        raise OptionInvalid("--vllm and --vllm-prompt, the prompt directory of its model, belong together.")
    if bundle is None:
        refuse_given(("device",), "without --model")
    if vllm is not None and vllm_prompt is not None:
        return VllmSource(vllm, vllm_prompt.resolve(), given["workers"], {})
    served = _seen_by_all(server)
    if served is not None:
        return ServerSource(served, given["constrain"], given["max_concurrency"])
    assert bundle is not None
    return BundleSource(bundle.resolve(), given["device"], given["threads"], given["max_concurrency"])


def _seen_by_all(served: ServedModel | None) -> ServedModel | None:
    """Return it with the path that workers take, which run in other directories."""
    return None if served is None else replace(served, prompt=served.prompt.resolve())


def _threads(workers: int, *, is_local: bool) -> int:
    from rubricrm.runtime.machine import usable_cores

    return max(1, usable_cores() // workers) if is_local else 1


@contextmanager
def _stoppable(output: Path) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the job, and say how it goes on."""

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt what ends
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"{output}: what is written stays. The same command goes on.", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
