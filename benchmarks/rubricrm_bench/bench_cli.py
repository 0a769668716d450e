"""`rubricrm bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rubricrm.errors import OptionInvalid
from rubricrm.generate_cli import INTERRUPTED
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.manifest import DEVICES
from rubricrm.runtime.whole_file import write_whole
from rubricrm.server_options import server_options

if TYPE_CHECKING:
    from rubricrm.served_model import ServedModel

    from rubricrm_bench.bench import BenchResult


class _Integers(click.ParamType[tuple[int, ...]]):
    """Integers with commas between them."""

    name = "N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not of the form 1,2,4", param, ctx)


class _Limits(click.ParamType[dict[str, float]]):
    """Limits by name: ttft=500,tpot=50."""

    name = "ttft=MS,tpot=MS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        try:
            return {key: float(limit) for key, limit in (part.split("=") for part in str(value).split(","))}
        except ValueError:
            self.fail(f"{value!r} is not of the form ttft=500,tpot=50", param, ctx)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--requests", type=click.Path(path_type=Path), help='JSONL file with "request".  [default: built-in ones]'
)
@click.option("--prompt-tokens", type=_Integers(), default=(), help="Fixed shapes: lengths of prompts.")
@click.option("--new-tokens", type=_Integers(), default=(), help="Fixed shapes: lengths of answers.")
@click.option("--no-rubrics", is_flag=True, help="Run fixed shapes alone.")
@click.option("--draft", is_flag=True, help="Let steps verify drafts, also of what these very requests brought before.")
@click.option("--concurrency", type=_Integers(), default=(1,), help="Requests in flight.  [default: 1]")
@click.option("--warmup", type=int, default=2, show_default=True, metavar="N", help="Requests not counted.")
@click.option("--repeat", type=int, default=10, show_default=True, metavar="N", help="Requests counted, of each row.")
@click.option("--openings", type=int, default=3, show_default=True, metavar="N", help="Share them among openings.")
@click.option("--duration", "duration_s", type=float, metavar="S", help="Go on for so long instead.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="Where to run.  [default: the bundle's target]")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: usable cores]")
@server_options("bundle")
@click.option("--slo", type=_Limits(), default={}, help="Count requests that keep these limits.")
@click.option("--reference", type=click.Path(path_type=Path), help="Bundle of the same checkpoint to compare with.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, allow_dash=True), help="Write all figures; -: print."
)
@click.option(
    "--rivals", "rivals_path", type=click.Path(path_type=Path), help="Show results of benchmarks/rivals.py besides."
)
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page with plots.")
def bench(
    bundle: Path | None,
    server: ServedModel | None,
    json_path: Path | None,
    html_path: Path | None,
    rivals_path: Path | None,
    **options: Any,
) -> None:
    """Measure latency, throughput and memory of BUNDLE, after its answers were compared.

    With --server, the model on a server is measured as its clients see it. Its rows are ranked if --reference names a
    bundle whose rubrics they can be compared with.
    """
    model = server or bundle
    if model is None:
        raise click.UsageError("Missing argument 'BUNDLE', or --server URL with --prompt DIR.")
    try:
        from rubricrm_bench.bench import run_bench
        from rubricrm_bench.bench_job import BenchJob
        from rubricrm_bench.report import to_dict, to_markdown
        from rubricrm_bench.rival_rows import read_rivals
    except ImportError as error:
        raise missing_package("bench", error, "cpu") from error
    to_html = None if html_path is None else _page_writer()
    _check_parents(json_path, html_path)
    rivals = None if rivals_path is None else read_rivals(rivals_path)
    result = run_bench(BenchJob(model, **options), _progress)
    report = to_dict(result) | {"rivals": rivals}
    if html_path is not None and to_html is not None:
        write_whole(html_path, to_html(report))
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if json_path is not None and str(json_path) != "-":
        write_whole(json_path, text)
    click.echo(text if str(json_path) == "-" else to_markdown(report), nl=False)
    _end(result)


def _check_parents(*paths: Path | None) -> None:
    """Refuse files that could not be written, before anything is measured."""
    for path in paths:
        if path is not None and str(path) != "-" and not path.resolve().parent.is_dir():
            raise OptionInvalid(f"{path.resolve().parent}: no such directory. Make it first.")


def _end(result: BenchResult) -> None:
    """End with what became of the run, after what was measured is written."""
    if result.failure is not None:
        raise result.failure
    if result.is_partial:
        raise click.exceptions.Exit(INTERRUPTED)
    if result.proof is not None and result.proof.is_right is False:
        raise click.exceptions.Exit(1)


def _page_writer() -> Callable[[Mapping[str, Any]], str]:
    """Import what draws the plots, before anything is measured."""
    try:
        from rubricrm_bench.html_page import to_html
    except ImportError as error:
        raise missing_package("--html", error, "cpu", "bench") from error
    return to_html


def _progress(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{stage}: {done}/{total}")
