"""`rubricrm judge`: which of two answers a judge prefers."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rubricrm.runtime.manifest import DEVICES
from rubricrm.server_options import refuse_given, server_options
from rubricrm.text_file import without_file_ends
from rubricrm.text_input import file_text, standard_input_text

if TYPE_CHECKING:
    from rubricrm.judge.judge_model import JudgeModel
    from rubricrm.judge.verdict import Scored, Unscored, Verdict
    from rubricrm.served_model import ServedModel

# Exit codes where there is no verdict, by its reason; the others are failures of the judge or of the rubric.
_NO_VERDICT = 3
_EXIT_CODES = {"no_quorum": _NO_VERDICT, "truncated": _NO_VERDICT, "input_invalid": 2}

_File = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("request")
@click.option("--a", "text_a", metavar="TEXT", help="An answer.")
@click.option("--a-file", type=_File, help="The file that holds it.")
@click.option("--b", "text_b", metavar="TEXT", help="The other answer.")
@click.option("--b-file", type=_File, help="The file that holds it.")
@click.option("-m", "--model", "path", type=click.Path(path_type=Path), envvar="RUBRICRM_JUDGE", help="Judge to use.")
@server_options("path")
@click.option("--rubric", "rubric_file", type=_File, help="File with the rubric.")
@click.option("--rubric-model", type=click.Path(path_type=Path), help="Bundle that writes the rubric.")
@click.option("--votes", type=click.IntRange(1), default=1, show_default=True, help="Samples in each order.")
@click.option("--orders", type=click.Choice(("both", "given")), default="both", show_default=True)
@click.option("--reward", is_flag=True, help="Also print A's reward beside B, from 0 to 1.")
@click.option("--temperature", type=float, metavar="T", help="0 is greedy.  [default: the judge's own]")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of the first vote of each order.")
@click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens of a judgment.  [default: the judge's own]")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="A judgment that takes longer is no vote.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="Where to run.  [default: the bundle's target]")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: usable cores]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the text of each vote.")
def judge(
    request: str,
    text_a: str | None,
    a_file: Path | None,
    text_b: str | None,
    b_file: Path | None,
    rubric_file: Path | None,
    rubric_model: Path | None,
    reward: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare two answers to REQUEST by a rubric; with -, the request is read from standard input.

    Without --model and --server the demo judge is used: it checks plain hard rules alone, and is no measure of
    RubricRM's quality.

    The judge sees the answers in both orders. The exit code is 0 for a verdict, a tie too; 3 where fewer than half of
    the samples name a winner; 1 where the judge or the rubric failed; 2 for texts that cannot be judged.
    """
    from rubricrm.runtime.prompt import check_text

    if (rubric_file is None) == (rubric_model is None):
        raise click.UsageError("Give either --rubric FILE or --rubric-model BUNDLE.")
    if options["server"] is not None and rubric_model is None:
        refuse_given(("device", "threads"), "with --server and --rubric")
    texts = {
        "request": standard_input_text() if request == "-" else without_file_ends(request),
        "a": _text(text_a, a_file, "--a"),
        "b": _text(text_b, b_file, "--b"),
    }
    if rubric_file is not None:
        texts["rubric"] = _text(None, rubric_file, "--rubric")
    for name, text in texts.items():  # before a large model is opened
        check_text(text, name)
    outcome = _judge(texts, rubric_model, with_reward=reward, **options)
    document = {"outcome": type(outcome).__name__.lower(), **outcome.to_dict()}
    click.echo(json.dumps(document, ensure_ascii=False, indent=2) if as_json else _lines(outcome))
    if "reason" in document:
        click.echo(f"No verdict: {document['reason']}: {document['detail']}", err=True)
        raise click.exceptions.Exit(_EXIT_CODES.get(document["reason"], 1))


def _judge(
    texts: dict[str, str],
    rubric_model: Path | None,
    *,
    path: Path | None,
    server: ServedModel | None,
    votes: int,
    orders: Literal["both", "given"],
    device: str | None,
    threads: int | None,
    with_reward: bool,
    **sampling: Any,
) -> Verdict | Scored | Unscored:
    from rubricrm.generation.options import GenerationOptions
    from rubricrm.judge.jury import Jury
    from rubricrm.model import RubricModel

    given = {name: value for name, value in sampling.items() if value is not None}
    GenerationOptions(**given)  # a wrong option is said at once, not after a large model was opened
    with ExitStack() as models:
        opened = models.enter_context(_open_judge(path, server, device, threads))
        maker = None
        if rubric_model is not None:
            maker = models.enter_context(RubricModel.open(rubric_model, device=device, threads=threads))
        jury = Jury(opened, maker, votes=votes, orders=orders, **given)
        method = jury.reward if with_reward else jury.compare
        return method(texts["request"], texts["a"], texts["b"], rubric=texts.get("rubric"))


def _open_judge(path: Path | None, server: ServedModel | None, device: str | None, threads: int | None) -> JudgeModel:
    from rubricrm.judge.judge_model import JudgeModel
    from rubricrm.text_model import DEMO_JUDGE_BUNDLE

    if server is not None:
        return server.connect(JudgeModel)
    if path is None:
        click.echo("Using the demo judge; --model JUDGE uses yours.", err=True)
    return JudgeModel.open(path or DEMO_JUDGE_BUNDLE, device=device, threads=threads)


def _text(text: str | None, file: Path | None, name: str) -> str:
    if (text is None) == (file is None):
        raise click.UsageError(f"Give either {name} TEXT or {name}-file FILE.")
    if file is None:
        return without_file_ends(str(text))
    return file_text(file)


def _lines(outcome: Verdict | Scored | Unscored) -> str:
    document = outcome.to_dict()
    if "reason" in document:
        return "winner: none"
    verdict = document.get("verdict", document)
    rows = {
        "winner": verdict["winner"],
        "votes": f"{verdict['votes_for_a']} for A, {verdict['votes_for_b']} for B, {verdict['no_vote']} for none",
        "orders agree": {True: "yes", False: "no", None: "one order was asked"}[verdict["consistent"]],
    }
    if "value" in document:
        rows["reward"] = document["value"]
    return "\n".join(f"{key}: {value}" for key, value in rows.items())
