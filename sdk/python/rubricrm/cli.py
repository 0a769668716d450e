"""The command line: options to calls, results to text or JSON. Other rooms add commands by entry point."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rubricrm._version import __version__
from rubricrm.errors import RubricrmError
from rubricrm.generate_cli import INTERRUPTED, generate
from rubricrm.judge_cli import judge
from rubricrm.phrases_cli import phrases
from rubricrm.prompt_cli import prompt
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.manifest import LAYOUTS
from rubricrm.text_file import decode_text
from rubricrm.text_input import standard_input

if TYPE_CHECKING:
    from rubricrm.rubric.rubric import Rubric
    from rubricrm.runtime.bundle import Bundle
    from rubricrm.runtime.manifest import GraphFacts

COMMANDS = "rubricrm.commands"


class Commands(click.Group):
    """The commands of this file and those of installed entry points; turns the package's errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, own and added ones."""
        return sorted({*super().list_commands(ctx), *(entry.name for entry in entry_points(group=COMMANDS))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, loading an added one when it is first asked for."""
        if (own := super().get_command(ctx, name)) is not None:
            return own
        for entry in entry_points(group=COMMANDS, name=name):
            command: click.Command = entry.load()
            return command
        return None

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and say what went wrong in one line."""
        try:
            return super().invoke(ctx)
        except RubricrmError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rubricrm")
def cli() -> None:
    """Turn requests into typed evaluation rubrics, and export the models that do it."""


def main() -> None:
    """Run the command line. Text is UTF-8 whatever the terminal's locale says: rubrics hold any character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        cli(prog_name="rubricrm")
    except OSError as error:  # most likely from writing the output: a full disk
        if sys.stdout is not None:
            # What could not be written is dropped, or Python would try again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


@cli.command()
@click.argument("file", default="-", type=click.Path(allow_dash=True, dir_okay=False, exists=True, path_type=Path))
@click.option("--answers", is_flag=True, help="FILE holds the answers of Edge-LLM's llm_inference.")
@click.option("--starts-in-thought", is_flag=True, help="The prompt that it answers ended with an opening tag.")
@click.option("--json", "as_json", is_flag=True, help="Print the rubric as one JSON object.")
def parse(file: Path, answers: bool, starts_in_thought: bool, as_json: bool) -> None:
    """Read a rubric's text from FILE (or -, standard input) and print what is in it.

    Any text is read: what is not in the usual form is listed as an issue, and the exit code is 0.
    """
    from rubricrm.rubric.rubric import parse as parse_rubric

    contents = standard_input() if str(file) == "-" else file.read_bytes()
    text = decode_text(contents)
    if answers:
        _parse_answers(text, "standard input" if str(file) == "-" else str(file), as_json=as_json)
        return
    rubric = parse_rubric(text, starts_in_thought=starts_in_thought)
    click.echo(json.dumps(rubric.to_dict(), ensure_ascii=False, indent=2) if as_json else _rubric_text(rubric))


def _parse_answers(text: str, where: str, *, as_json: bool) -> None:
    """Print the rubrics of a file of answers; exit code 1 where a request failed."""
    from rubricrm.rubric.answer_file import read_answers

    answers = read_answers(text, where)
    if as_json:
        click.echo(json.dumps({"answers": [answer.to_dict() for answer in answers]}, ensure_ascii=False, indent=2))
    else:
        for answer in answers:
            click.echo(f"request {answer.request}:")
            click.echo("failed" if answer.failed else _rubric_text(answer.rubric))
    if any(answer.failed for answer in answers):
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Hash every file and compare with the manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(bundle: Path, verify: bool, as_json: bool) -> None:
    """Show what BUNDLE holds, and check that it is whole."""
    from rubricrm.runtime.bundle import Bundle

    opened = Bundle.open(bundle)
    if verify:
        hidden = not sys.stderr.isatty()
        with click.progressbar(length=opened.num_bytes, label="Verifying", file=sys.stderr, hidden=hidden) as progress:
            opened.verify(progress.update)
    if as_json:
        manifest = json.loads(opened.manifest.to_json())
        facts = {"manifest_sha256": opened.manifest_sha256, "num_bytes": opened.num_bytes, "verified": verify}
        click.echo(json.dumps({**facts, "manifest": manifest}, ensure_ascii=False, indent=2))
    else:
        click.echo(_bundle_text(opened, verify))


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="How the weights are arranged.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Bundle to write.")
@click.option("--force", is_flag=True, help="Replace an older bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def convert(bundle: Path, layout: str, output: Path, force: bool, as_json: bool) -> None:
    """Write a copy of BUNDLE with its weights in another layout.

    `packed` is what this project's kernels read in place, `standard` what ONNX Runtime's own and other runtimes read.
    """
    from rubricrm.runtime.bundle import Bundle
    from rubricrm.runtime.conversion import convert_bundle

    opened = Bundle.open(bundle)
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label="Converting", file=sys.stderr, hidden=hidden) as progress:

        def report(done: int, total: int) -> None:
            progress.length = total
            progress.update(done - progress.pos)

        made = convert_bundle(opened, layout, output, force=force, on_progress=report)
    facts = {"bundle": str(made.path), "layout": layout, "num_bytes": made.num_bytes}
    if as_json:
        click.echo(json.dumps({**facts, "manifest_sha256": made.manifest_sha256}, ensure_ascii=False, indent=2))
    else:
        click.echo(f"{facts['bundle']}: {layout}, {byte_text(made.num_bytes)}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Show versions, kernels, devices, cores and memory; what is missing, and how to get it."""
    from rubricrm.doctor import examine

    checkup = examine()
    click.echo(json.dumps(checkup.to_dict(), indent=2) if as_json else checkup.to_text())
    if not checkup.can_generate:
        raise click.exceptions.Exit(1)


for command in (generate, judge, phrases, prompt):
    cli.add_command(command)


def _rubric_text(rubric: Rubric) -> str:
    lines = [
        f"{'-' if c.number is None else c.number}. {c.text} {c.kind.tag if c.kind else '[no tag]'}"
        for c in rubric.criteria
    ]
    lines += [f"line {issue.line}: {issue.code}: {issue.message}" for issue in rubric.issues]
    return "\n".join(lines)


def _bundle_text(bundle: Bundle, verified: bool) -> str:
    facts = bundle.manifest
    model, stored = facts.model, facts.quantization
    loss = {name: f"{value:.4g}" for name, value in (facts.quality or {}).items()}
    rows = {
        "model": f"{model.name} ({model.architecture}, {model.num_parameters:,} parameters)",
        "license": model.license or "not declared",
        "graphs": "\n".ljust(11).join(map(_graph_text, facts.graphs))
        or "none: a prompt directory, for use with a server",
        "weights": f"{stored.weights} ({stored.method}), activations {stored.activations}",
        "loss": _flat(loss) or "nothing was quantized",
        "context": f"{model.context_length} tokens",
        "prompts": _lines(
            f"{name}: {prompt.prefix.num_tokens} tokens fixed, template {prompt.template_sha256[:12]}"
            for name, prompt in facts.prompts.items()
        ),
        "size": f"{byte_text(bundle.num_bytes)} in {len(facts.files)} files",
        "hashes": "verified" if verified else "not compared (--verify)",
    }
    return "\n".join(f"{key:9} {value}" for key, value in rows.items())


def _lines(texts: Iterable[str]) -> str:
    return f"\n{'':10}".join(texts)


def _graph_text(graph: GraphFacts) -> str:
    from rubricrm.runtime.graph_choice import unknown_words
    from rubricrm.runtime.kernels import find_kernels

    problem = unknown_words(graph, find_kernels())
    skipped = "" if problem is None else f" (skipped: {problem})"
    types = f"computes in {graph.compute_type}, KV cache {graph.kv_type}, weights {graph.layout}"
    return f"{graph.file} for {graph.target}, {types}{skipped}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "missing" if value is None else str(value)
