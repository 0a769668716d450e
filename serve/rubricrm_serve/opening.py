"""From the options of the command to a server that runs: keys, model, judge."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import click
from rubricrm.api_keys import checked_keys, read_keys
from rubricrm.async_model import AsyncRubricModel
from rubricrm.judge.async_jury import AsyncJury
from rubricrm.judge.judge_model import JudgeModel
from rubricrm.model import RubricModel
from rubricrm.served_model import ServedModel
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


def client_keys(file: Path | None) -> tuple[str, ...]:
    """Return the keys in a file, one per line, and in RUBRICRM_API_KEY, with commas between them.

    Raises:
        OptionInvalid: As `read_keys`.
    """
    told = checked_keys(os.environ.get("RUBRICRM_API_KEY", "").split(","))
    return told if file is None else told + read_keys(file)


async def _open_model(given: dict[str, Any], options: ServerOptions) -> AsyncRubricModel:
    server: ServedModel | None = given["server"]
    if server is not None:
        connect = partial(server.connect, RubricModel, constrain=given["constrain"], **_line(options))
        return AsyncRubricModel(await asyncio.to_thread(connect))
    if given["path"] is None:
        click.echo("Serving the demo model; --model BUNDLE serves yours.", err=True)
    engine = {name: given[name] for name in _ENGINE}
    place = {name: given[name] for name in _PLACE}
    return await AsyncRubricModel.open(given["path"] or DEMO_BUNDLE, **place, **engine, **_line(options))


def _open_judge(given: dict[str, Any], options: ServerOptions) -> JudgeModel | None:
    server: ServedModel | None = given["judge_server"]
    if server is not None:
        return server.connect(JudgeModel, **_line(options))
    if given["judge_path"] is None:
        return None
    place = {name: given[name] for name in _PLACE}
    line = _line(options)
    line["max_waiting"] *= 2 * given["votes"]  # a comparison asks for so many samples at once
    return JudgeModel.open(given["judge_path"], **place, keep_prompts=given["keep_prompts"], **line)


def _line(options: ServerOptions) -> dict[str, Any]:
    """Return what a model takes on. The server's own line is the one that counts: the model's never refuses before."""
    together, waiting = options.max_concurrency, options.max_waiting
    return {"max_concurrency": together, "max_waiting": together + waiting + 1}
