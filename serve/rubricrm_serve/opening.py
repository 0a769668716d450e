"""From the options of the command to a server that runs: keys, model, judge."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from socket import socket
from typing import Any

import click
from rubricrm.async_model import AsyncRubricModel
from rubricrm.errors import OptionInvalid
from rubricrm.judge.async_jury import AsyncJury
from rubricrm.judge.judge_model import JudgeModel
from rubricrm.text_model import DEMO_BUNDLE

from rubricrm_serve.app import create_app
from rubricrm_serve.server import Server, address_text
from rubricrm_serve.server_options import ServerOptions

_ENGINE = ("max_memory", "keep_prompts", "keep_phrases", "draft")
_PLACE = ("device", "threads", "verify")
# The engine's thread and the event loop take turns at the interpreter, and each write to a socket gives the turn away.
# With Python's own 5 ms a step of a small model is over before the loop has it back.
_TURN_S = 0.0005


async def run(given: dict[str, Any], options: ServerOptions, bound: socket, looks: dict[str, Any]) -> None:
    """Open what is to be served, serve it until a signal, and close it.

    Args:
        given: The command's options.
        options: Of the server.
        bound: Where it listens.
        looks: How it logs.

    Raises:
        RubricrmError: Something cannot be opened.
    """
    sys.setswitchinterval(_TURN_S)
    async with AsyncExitStack() as opened:
        model = await opened.enter_async_context(await _open_model(given, options))
        judge = await asyncio.to_thread(_open_judge, given, options)
        jury = None
        if judge is not None:
            opened.callback(judge.close)
            jury = AsyncJury(judge, model.model, votes=given["votes"])
        await model.warmup()
        line = f"Serving {model.model!r} at {address_text(bound)}"
        app = create_app(model, options, jury=jury)
        await Server(app, options, on_start=lambda: click.echo(line, err=True), **looks).serve([bound])


def read_keys(file: Path | None, variable: str) -> tuple[str, ...]:
    """Return the keys in a file, one per line, and in an environment variable, with commas between them.

    Raises:
        OptionInvalid: The file cannot be read, or holds no key.
    """
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


async def _open_model(given: dict[str, Any], options: ServerOptions) -> AsyncRubricModel:
    if given["url"] is not None:
        remote = {"model": given["server_model"], "constrain": given["constrain"], **_remote(given, options)}
        return await AsyncRubricModel.connect(given["url"], prompt=given["prompt"], **remote)
    if given["path"] is None:
        click.echo("Serving the demo model; --model BUNDLE serves yours.", err=True)
    engine = {name: given[name] for name in _ENGINE}
    place = {name: given[name] for name in _PLACE}
    return await AsyncRubricModel.open(given["path"] or DEMO_BUNDLE, **place, **engine, **_line(options))


def _open_judge(given: dict[str, Any], options: ServerOptions) -> JudgeModel | None:
    if given["judge_url"] is not None:
        return JudgeModel.connect(given["judge_url"], prompt=given["judge_prompt"], **_remote(given, options))
    if given["judge_path"] is None:
        return None
    place = {name: given[name] for name in _PLACE}
    line = _line(options)
    line["max_waiting"] *= 2 * given["votes"]  # a comparison asks for so many samples at once
    return JudgeModel.open(given["judge_path"], **place, keep_prompts=given["keep_prompts"], **line)


def _remote(given: dict[str, Any], options: ServerOptions) -> dict[str, Any]:
    keys = read_keys(given["server_key_file"], "RUBRICRM_SERVER_API_KEY")
    return {"api_key": keys[0] if keys else None, "dialect": given["dialect"], **_line(options)}


def _line(options: ServerOptions) -> dict[str, Any]:
    """Return what a model takes on. The server's own line is the one that counts: the model's never refuses before."""
    together, waiting = options.max_concurrency, options.max_waiting
    return {"max_concurrency": together, "max_waiting": together + waiting + 1}
