"""The options of commands that can use a model on a server: declared, checked and read here for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rubricrm.api_keys import checked_keys, read_keys
from rubricrm.errors import OptionInvalid
from rubricrm.remote.dialects import DIALECTS
from rubricrm.served_model import ServedModel

Command = Callable[..., Any]


def server_options(bundle: str, *, kind: str = "", replaces: bool = True) -> Callable[[Command], Command]:
    """Give a command --server, --prompt, --server-model, --dialect and --server-key-file.

    The command gets one argument for them, `server`: a `ServedModel`, or None where no server is named.

    Args:
        bundle: The command's parameter of a bundle. With --server its prompt is used if --prompt names none.
        replaces: Whether the model on the server stands in the place of that bundle: the command then gets None for it,
            and both prompts together are refused. Else the bundle has a use of its own.
        kind: What the model is, if the command knows several: "judge" gives --judge-server, --judge-prompt and so on,
            and the argument `judge_server`.
    """
    names = _Names(kind)

    def with_options(command: Command) -> Command:
        @wraps(command)
        def wrapped(**given: Any) -> Any:
            told = [given.pop(name) for name in names.parameters]
            server = _served_model(names, bundle, given[bundle], *told, replaces=replaces)
            if server is not None and replaces:
                given[bundle] = None
            return command(**given, **{names.server: server})

        decorated: Command = wrapped
        for option in reversed(_declared(names)):
            decorated = option(decorated)
        return decorated

    return with_options


def refuse_given(names: Collection[str], where: str) -> None:
    """Refuse options of the running command that were given and would have no effect.

    Args:
        names: Its parameters.
        where: Goes into the message, such as "with --server".

    Raises:
        UsageError: One was given; those of the environment are left out.
    """
    for name in names:
        if _is_given(name):
            raise click.UsageError(f"{_spelling(name)} has no effect {where}. Leave it out.")


class _Names:
    """How the options are called, for one kind of model."""

    def __init__(self, kind: str) -> None:
        self.model = kind or "model"
        before = f"{kind}-" if kind else ""
        self.options = tuple(
            f"--{before}{name}" for name in ("server", "prompt", "server-model", "dialect", "server-key-file")
        )
        self.parameters = tuple(option[2:].replace("-", "_") for option in self.options)
        self.server = self.parameters[0]
        self.key_variable = f"RUBRICRM_{before}SERVER_API_KEY".upper().replace("-", "_")


def _declared(names: _Names) -> list[Callable[[Command], Command]]:
    server, prompt, model, dialect, key_file = names.options
    directory = click.Path(path_type=Path)
    kinds = click.Choice(tuple(DIALECTS))
    key_help = f"File with its key.  [default: the variable {names.key_variable}]"
    return [
        click.option(server, metavar="URL", help=f"Use a {names.model} on this server instead; needs {prompt}."),
        click.option(prompt, type=directory, metavar="DIR", help=f"With {server}: its prompt directory, or a bundle."),
        click.option(model, metavar="NAME", help=f"With {server}: its name there.  [default: the only one]"),
        click.option(dialect, type=kinds, help=f"With {server}: what it is.  [default: as it says of itself]"),
        click.option(key_file, type=directory, metavar="FILE", help=f"With {server}: {key_help}"),
    ]


def _served_model(
    names: _Names,
    bundle: str,
    bundle_path: Path | None,
    url: str | None,
    prompt: Path | None,
    model: str | None,
    dialect: str | None,
    key_file: Path | None,
    *,
    replaces: bool,
) -> ServedModel | None:
    server, prompt_option = names.options[:2]
    if url is None:
        refuse_given(names.parameters[1:], f"without {server}")
        return None
    if replaces and prompt is not None and bundle_path is not None and _is_given(bundle):
        raise click.UsageError(
            f"{_spelling(bundle)} and {prompt_option} both name the prompt of the {names.model} on the server. Leave "
            "one out."
        )
    path = prompt or bundle_path
    if path is None:
        raise click.UsageError(
            f"{server} needs {prompt_option} DIR, the prompt directory of its {names.model}, or {_spelling(bundle)} "
            "with a bundle of it."
        )
    return ServedModel(url, path, model, dialect, _key(key_file, names.key_variable))


def _key(file: Path | None, variable: str) -> str | None:
    if file is None:
        return next(iter(checked_keys([os.environ.get(variable, "")])), None)
    keys = read_keys(file)
    if len(keys) > 1:
        raise OptionInvalid(f"{file}: holds {len(keys)} keys, expected one: that of the server.")
    return keys[0]


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _spelling(name: str) -> str:
    """Return a parameter as it is typed: `--server-model`, or `BUNDLE` for an argument."""
    parameter = next(known for known in click.get_current_context().command.params if known.name == name)
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name
