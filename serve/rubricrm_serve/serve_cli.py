"""`rubricrm serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.manifest import DEVICES
from rubricrm.server_options import refuse_given, server_options

# Of a model in this process: its engine's alone, and those that a judge has too.
_ENGINE = ("max_memory", "draft", "keep_phrases")
_PLACE = ("device", "threads", "verify", "keep_prompts")
_SERVER = (
    "name",
    "max_concurrency",
    "max_waiting",
    "timeout_s",
    "max_body",
    "body_timeout_s",
    "header_timeout_s",
    "grace_s",
)


@click.command()
@click.option(
    "-m", "--model", "path", type=click.Path(path_type=Path), envvar="RUBRICRM_MODEL", help="Bundle to serve."
)
@server_options("path")
@click.option("--constrain/--no-constrain", default=True, help="Whether that server is to hold rubrics to their form.")
@click.option("--judge", "judge_path", type=click.Path(path_type=Path), help="Bundle of a judge to serve beside it.")
@server_options("judge_path", kind="judge")
@click.option(
    "--votes", type=int, default=1, show_default=True, metavar="N", help="Of the judge, in each order of answers."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--name", metavar="NAME", help="The model's id for clients.  [default: its own name]")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File with a client's key on each line.")
@click.option(
    "--max-concurrency", type=int, default=8, show_default=True, metavar="N", help="Requests computed together."
)
@click.option(
    "--max-waiting", type=int, default=200, show_default=True, metavar="N", help="Requests that may wait beside."
)
@click.option(
    "--timeout", "timeout_s", type=float, default=600.0, show_default=True, metavar="S", help="For a request."
)
@click.option("--max-body", type=int, default=1 << 20, show_default=True, metavar="BYTES", help="Of a request's body.")
@click.option(
    "--body-timeout", "body_timeout_s", type=float, default=30.0, show_default=True, metavar="S", help="To send it."
)
@click.option(
    "--header-timeout",
    "header_timeout_s",
    type=float,
    default=10.0,
    show_default=True,
    metavar="S",
    help="To send headers.",
)
@click.option(
    "--grace", "grace_s", type=float, default=30.0, show_default=True, metavar="S", help="To end after SIGTERM."
)
@click.option(
    "--max-memory", type=int, metavar="BYTES", help="Most bytes of keys and values.  [default: what is needed]"
)
@click.option("--draft/--no-draft", default=True, help="Verify drafted tokens where that is quicker.")
@click.option("--keep-prompts/--no-keep-prompts", default=True, help="Keep a prompt's state for one that begins alike.")
@click.option("--keep-phrases/--no-keep-phrases", default=False, help="Draft from phrases of earlier rubrics too.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="Where to run.  [default: the bundle's target]")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: usable cores]")
@click.option("--verify", is_flag=True, help="Compare the bundle's hashes first.")
@click.option("--root-path", default="", metavar="PATH", help="Where a proxy shows this server.")
@click.option("--access-log/--no-access-log", default=True, help="Log each request, without its content.")
@click.option("--log-level", type=click.Choice(("warning", "info", "debug")), default="info", show_default=True)
def serve(
    host: str,
    port: int,
    api_key_file: Path | None,
    root_path: str,
    access_log: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Serve a model over HTTP: rubrics, OpenAI's API, metrics, and a page at /.

    Keys of clients come from --api-key-file or the variable RUBRICRM_API_KEY: a command line can be read by others.
    Without --model and --server, the demo model is served: small, quick, and no measure of RubricRM's quality.

    Timing may tell one client what others asked: what they share is chosen by --keep-prompts and --keep-phrases.
    """
    try:
        from rubricrm_serve.opening import client_keys, run
        from rubricrm_serve.server import bind
        from rubricrm_serve.server_options import ServerOptions
    except ImportError as error:
        raise missing_package("serving", error, "cpu", "serve") from error
    if options["server"] is not None:
        refuse_given(_ENGINE if options["judge_path"] is not None else (*_ENGINE, *_PLACE), "with --server")
    keys = client_keys(api_key_file)
    chosen = ServerOptions(api_keys=keys, **{name: options[name] for name in _SERVER})
    with bind(host, port) as bound:
        looks = {"access_log": access_log, "log_level": log_level, "root_path": root_path}
        asyncio.run(run(options, chosen, bound, looks))
