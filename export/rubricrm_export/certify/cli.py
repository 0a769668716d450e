"""`rubricrm certify`: options to a comparison, and its report to two files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rubricrm.errors import OptionInvalid, OutputExists
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.manifest import DEVICES
from rubricrm.runtime.whole_file import write_whole
from rubricrm.server_options import refuse_given, server_options

from rubricrm_export.errors import QualityTooLow
from rubricrm_export.system.progress_bar import no_progress, progress_bar

if TYPE_CHECKING:
    from rubricrm.served_model import ServedModel

    from rubricrm_export.certify.answers import Answerer
    from rubricrm_export.certify.certification import Certificate


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@server_options("reference", replaces=False)
@click.option("--chat", is_flag=True, help="With --server: ask it by messages, if it takes nothing else.")
@click.option("--reference", type=click.Path(path_type=Path), required=True, help="Bundle for the CPU to trust.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="Where TARGET runs.  [default: the bundle's target]")
@click.option("--requests", "num_requests", type=click.IntRange(1, 40), default=20, show_default=True)
@click.option("--min-tokens", type=click.FloatRange(0, 1), metavar="X", help="Share of equal tokens.  [default: 0.5]")
@click.option(
    "--min-rubrics", type=click.FloatRange(0, 1), metavar="X", help="Share of equal criteria.  [default: 0.8]"
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Report to write: NAME.json and NAME.md.")
@click.option("--force", is_flag=True, help="Replace an older report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def certify(
    target: Path | None,
    server: ServedModel | None,
    chat: bool,
    reference: Path,
    device: str | None,
    num_requests: int,
    min_tokens: float | None,
    min_rubrics: float | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Let TARGET answer built-in requests beside a CPU bundle of the same model, and say whether they agree.

    TARGET is a bundle, or a directory by `rubricrm export tensorrt`, which is built where that is needed and served for
    as long as it answers. In its place, --server names a server that runs; it is asked by the prompt of the reference
    if --prompt names no other. Exit code 1 where it is not certified.
    """
    candidate = _candidate(target, server, reference, device, chat=chat)
    files = [] if output is None else [output.with_name(f"{output.name}.{kind}") for kind in ("json", "md")]
    _require_new(files, force=force)
    certificate = _certificate(candidate, reference, num_requests, min_tokens, min_rubrics)
    text, page = certificate.to_json(), certificate.to_markdown()
    for file, contents in zip(files, (text, page), strict=False):
        write_whole(file, contents)
    click.echo(text if as_json else page, nl=False)
    if certificate.reasons:
        raise QualityTooLow(f"{certificate.candidate}: is not certified: {'; '.join(certificate.reasons)}.")


def _require_new(files: list[Path], *, force: bool) -> None:
    for file in files:
        if file.exists() and not force:
            raise OutputExists(f"{file}: exists. Pass --force to replace it, or choose another name.")
        if not file.parent.is_dir():
            raise OptionInvalid(f"{file.parent}: no such directory. Make it first.")


def _certificate(
    open_candidate: Callable[[], Answerer],
    reference: Path,
    num_requests: int,
    min_tokens: float | None,
    min_rubrics: float | None,
) -> Certificate:
    try:
        from rubricrm.runtime.bundle import Bundle
        from rubricrm.runtime.tokenizer import Tokenizer

        from rubricrm_export.calibrate.texts import builtin_requests
        from rubricrm_export.certify import certification
        from rubricrm_export.certify.answers import ModelAnswerer
        from rubricrm_export.certify.environment import environment
    except ImportError as error:
        raise missing_package("certifying", error, "cpu", "export") from error
    given = {"shared_tokens": min_tokens, "agreement": min_rubrics}
    thresholds = certification.Thresholds(**{name: value for name, value in given.items() if value is not None})
    bundle = Bundle.open(reference)
    facts = bundle.manifest
    with (
        closing(open_candidate()) as candidate,
        closing(ModelAnswerer.open(reference, device="cpu")) as trusted,
        progress_bar() as on_progress,
    ):
        return certification.certify(
            candidate,
            trusted,
            Tokenizer.from_file(bundle.file(facts.tokenizer.file)),
            builtin_requests()[:num_requests],
            environment(),
            thresholds=thresholds,
            on_progress=partial(on_progress or no_progress, "Answering requests"),
        )


def _candidate(
    target: Path | None, server: ServedModel | None, reference: Path, device: str | None, *, chat: bool
) -> Callable[[], Answerer]:
    """Return what opens the candidate, once options without effect are refused."""
    from rubricrm.engines.engine_directory import DIRECTORY_FILE

    if (target is None) == (server is None):
        raise click.UsageError("Give either TARGET, a bundle or a directory, or --server URL.")
    if server is not None:
        refuse_given(("device",), "with --server, which has its own")
        return partial(_server, server, chat=chat)
    assert target is not None
    refuse_given(("chat",), "without --server")
    if (target / DIRECTORY_FILE).is_file():
        refuse_given(("device",), "on a directory, which its reader serves")
        return partial(_directory, target, reference)
    return partial(_bundle, target, device)


def _server(server: ServedModel, *, chat: bool) -> Answerer:
    from rubricrm_export.certify.answers import ChatAnswerer, ModelAnswerer

    return ChatAnswerer(server) if chat else ModelAnswerer.connect(server)


def _directory(path: Path, reference: Path) -> Answerer:
    from rubricrm_export.certify.served_directory import DirectoryAnswerer

    return DirectoryAnswerer(path, reference)


def _bundle(path: Path, device: str | None) -> Answerer:
    from rubricrm.runtime.bundle import Bundle

    from rubricrm_export.certify.answers import ModelAnswerer

    return ModelAnswerer.open(path, device=device or Bundle.open(path).manifest.graph.target)
