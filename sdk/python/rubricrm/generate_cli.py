"""`rubricrm generate`: the rubric of a request, by a bundle in this process or a model on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rubricrm.runtime.manifest import DEVICES
from rubricrm.server_options import refuse_given, server_options
from rubricrm.text_file import without_file_ends
from rubricrm.text_input import standard_input_text

if TYPE_CHECKING:
    from rubricrm.generation.result import RubricResult
    from rubricrm.generation.rubric_stream import RubricStream
    from rubricrm.model import RubricModel
    from rubricrm.served_model import ServedModel

INCOMPLETE = 3
INTERRUPTED = 130


@click.command()
@click.argument("request", required=False)
@click.option("-m", "--model", "path", type=click.Path(path_type=Path), envvar="RUBRICRM_MODEL", help="Bundle to use.")
@server_options("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--no-stream", is_flag=True, help="Print the text when it is complete.")
@click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens to write.  [default: 1024]")
@click.option("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy.  [default: 0]")
@click.option("--top-k", type=int, default=0, metavar="K", help="Sample from the K most probable.  [default: all]")
@click.option("--top-p", type=float, default=1.0, metavar="P", help="Sample from this much probability.  [default: 1]")
@click.option("--min-p", type=float, default=0.0, metavar="P", help="Least probability, relative.  [default: 0]")
@click.option("--seed", type=int, metavar="N", help="Makes sampling repeatable.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given again.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Return what there is after this time.")
@click.option("--stop-on-repetition/--no-stop-on-repetition", default=True, help="End a text that goes in circles.")
@click.option("--constrain/--no-constrain", default=True, help="Hold the rubric to its form, where the bundle has it.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="Where to run.  [default: the bundle's target]")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: usable cores]")
@click.option("--verify", is_flag=True, help="Compare the bundle's hashes first.")
def generate(
    request: str | None,
    path: Path | None,
    as_json: bool,
    no_stream: bool,
    device: str | None,
    threads: int | None,
    verify: bool,
    server: ServedModel | None,
    **options: Any,
) -> None:
    """Write the rubric of REQUEST; with -, the request is read from standard input.

    Without --model the demo model is used: small, quick, and no measure of RubricRM's quality. With --server, a model
    on a server writes it.
    The exit code is 3 where the rubric is incomplete: a line on standard error says why.
    """
    from rubricrm.generation.options import GenerationOptions

    text = _request_text(request)
    checked = GenerationOptions(**options)  # a wrong option is said at once, not after a large model was opened
    if server is None:
        opened = _open_model(path, device, threads, verify)
    else:
        refuse_given(("device", "threads", "verify"), "with --server")
        opened = _connect(server, constrain=checked.constrain)
    with opened as model:
        stream = model.stream(text, options=checked)
        interrupted = _write_pieces(stream, visible=not (as_json or no_stream))
        result = stream.result()
        _print_result(result, as_json=as_json, was_streamed=not (as_json or no_stream))
        if result.finish_reason != "stop":
            click.echo(f"The rubric is incomplete: {_why_incomplete(result, model.context_length)}", err=True)
    if interrupted or result.finish_reason != "stop":
        raise click.exceptions.Exit(INTERRUPTED if interrupted else INCOMPLETE)


def _request_text(request: str | None) -> str:
    if request is None:
        raise click.UsageError("Give a REQUEST, or - to read it from standard input.")
    return standard_input_text() if request == "-" else without_file_ends(request)  # of a file that the shell put there


def _open_model(path: Path | None, device: str | None, threads: int | None, verify: bool) -> RubricModel:
    from rubricrm.model import RubricModel
    from rubricrm.text_model import DEMO_BUNDLE

    if path is None:
        click.echo("Using the demo model; --model BUNDLE uses yours.", err=True)
    return RubricModel.open(path or DEMO_BUNDLE, device=device, threads=threads, verify=verify)


def _connect(server: ServedModel, *, constrain: bool) -> RubricModel:
    from rubricrm.model import RubricModel

    return server.connect(RubricModel, constrain=constrain)


def _write_pieces(stream: RubricStream, *, visible: bool) -> bool:
    """Run a stream to its end, or to Ctrl-C; return whether it was interrupted. What was written stays."""
    try:
        for event in stream:
            if visible:
                click.echo(event.text, nl=False)
    except KeyboardInterrupt:
        return True
    return False


def _print_result(result: RubricResult, *, as_json: bool, was_streamed: bool) -> None:
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False, indent=2))
        return
    click.echo("" if was_streamed else result.text)
    for issue in result.rubric.issues:
        click.echo(f"line {issue.line}: {issue.code}: {issue.message}", err=True)


def _why_incomplete(result: RubricResult, context_length: int) -> str:
    """Return what ended a rubric before its end, and what to do."""
    usage = result.usage
    if result.finish_reason == "length" and usage.prompt_tokens + usage.completion_tokens >= context_length:
        return f"the model's context of {context_length} tokens is full. Shorten the request."
    return {
        "length": f"it reached the limit of {usage.completion_tokens} tokens. Raise --max-new-tokens.",
        "timeout": f"the time was over after {usage.completion_tokens} tokens. Raise --timeout.",
        "cancelled": f"it was interrupted after {usage.completion_tokens} tokens. Run it again.",
        "repetition": f"after {usage.completion_tokens} tokens the text goes in circles. Reword the request, or sample "
        "with --temperature 0.7; --no-stop-on-repetition lets it go on.",
    }[result.finish_reason]
