"""`rubricrm serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.manifest import DEVICES

if TYPE_CHECKING:
    from rubricrm.async_model import AsyncRubricModel

    from rubricrm_serve.server_options import ServerOptions

_ENGINE = ("max_concurrency", "max_memory", "keep_prompts", "keep_phrases", "draft")
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
@click.option("--server", "url", metavar="URL", help="Serve a model behind this server instead; needs --prompt.")
@click.option("--prompt", type=click.Path(path_type=Path), help="Bundle or prompt directory of that model.")
@click.option("--server-model", metavar="NAME", help="The model's id there.  [default: the only one]")
@click.option("--server-key-file", type=click.Path(path_type=Path), help="File with the key for it, if it needs one.")
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
    path: Path | None,
    url: str | None,
    host: str,
    port: int,
    api_key_file: Path | None,
    root_path: str,
    access_log: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Serve a model over HTTP: rubrics, OpenAI's API, metrics, and a page at /.

    Keys of clients come from --api-key-file or RUBRICRM_API_KEY, the key of a server behind this one from
    --server-key-file or RUBRICRM_SERVER_API_KEY: a command line can be read by others. Without --model and --server,
    the demo model is served: small, quick, and no measure of RubricRM's quality.

    Timing may tell one client what others asked: what they share is chosen by --keep-prompts and --keep-phrases.
    """
    try:
        from rubricrm_serve.server import bind
        from rubricrm_serve.server_options import ServerOptions
    except ImportError as error:
        raise missing_package("serving", error, "cpu", "serve") from error
    _check_source(path, url, options["prompt"])
    keys = read_keys(api_key_file, "RUBRICRM_API_KEY")
    chosen = ServerOptions(api_keys=keys, **{name: options[name] for name in _SERVER})
    with bind(host, port) as bound:
        looks = {"access_log": access_log, "log_level": log_level, "root_path": root_path}
        asyncio.run(_run(lambda: _open(path, url, options), chosen, bound, looks))


def _check_source(path: Path | None, url: str | None, prompt: Path | None) -> None:
    if url is not None and path is not None:
        raise click.UsageError("Give --model or --server, not both.")
    if (url is None) != (prompt is None):
        raise click.UsageError("--server and --prompt belong together.")


def read_keys(file: Path | None, variable: str) -> tuple[str, ...]:
    """Return the keys in a file, one per line, and in an environment variable, with commas between them.

    Raises:
        OptionInvalid: The file cannot be read, or holds no key.
    """
    import os

    found = [key.strip() for key in os.environ.get(variable, "").split(",")]
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise OptionInvalid(f"{file}: the keys cannot be read ({error}).") from error
        if not any(lines):
            raise OptionInvalid(f"{file}: holds no key, expected one per line.")
        found += lines
    if any(not key.isascii() for key in found):
        raise OptionInvalid("a key holds characters beyond ASCII, which HTTP headers cannot carry. Make another one.")
    return tuple(key for key in found if key)


async def _open(path: Path | None, url: str | None, options: dict[str, Any]) -> AsyncRubricModel:
    from rubricrm.async_model import AsyncRubricModel
    from rubricrm.text_model import DEMO_BUNDLE

    if url is not None:
        keys = read_keys(options["server_key_file"], "RUBRICRM_SERVER_API_KEY")
        return await AsyncRubricModel.connect(
            url,
            prompt=options["prompt"],
            model=options["server_model"],
            api_key=keys[0] if keys else None,
            max_concurrency=options["max_concurrency"],
        )
    if path is None:
        click.echo("Serving the demo model; --model BUNDLE serves yours.", err=True)
    engine = {name: options[name] for name in _ENGINE}
    # The server's own line is the one that counts: the engine's never refuses before it does.
    most_waiting = options["max_concurrency"] + options["max_waiting"] + 1
    where = {name: options[name] for name in ("device", "threads", "verify")}
    return await AsyncRubricModel.open(path or DEMO_BUNDLE, **where, **engine, max_waiting=most_waiting)


async def _run(open_model: Any, options: ServerOptions, bound: Any, looks: dict[str, Any]) -> None:
    from rubricrm_serve.app import create_app
    from rubricrm_serve.server import Server, address_text

    async with await open_model() as model:
        await model.warmup()
        server = Server(create_app(model, options), options, **looks)
        click.echo(f"Serving {model.model!r} at {address_text(bound)}", err=True)
        await server.serve([bound])
