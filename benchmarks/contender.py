"""A system under comparison: its environment, what it made of the checkpoint, and its process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = Path(__file__).resolve().parent / "systems"
sys.path.insert(0, str(SYSTEMS))  # the systems import their protocol as a neighbor: each also runs alone
_LAST_LINES = 3


class SystemFailedError(Exception):
    """A system cannot be installed, converted or run."""


@dataclass(frozen=True)
class Contender:
    """A system with one of its settings.

    Attributes:
        name: System and settings: "ort_genai:int4-32".
        python: Interpreter of its environment.
        directory: What it made of the checkpoint.
        requirements: What its environment holds.
        settings: How its system is run, in words.
    """

    name: str
    python: Path
    directory: Path
    requirements: tuple[str, ...]
    settings: str

    @property
    def num_bytes(self) -> int:
        """Of its files."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())


def known_contenders() -> list[str]:
    """Return every system with each of its settings."""
    return [f"{system}:{variant}" for system in _systems() for variant in _load(system).VARIANTS]


def model_of(name: str) -> str:
    """Return the contender whose converted model a contender runs: mostly its own."""
    system, _, variant = name.partition(":")
    found: str = getattr(_load(system), "MODEL_OF", {}).get(variant, name)
    return found


def is_drafting(name: str) -> bool:
    """Whether a contender verifies drafts."""
    system, _, variant = name.partition(":")
    return variant in getattr(_load(system), "DRAFTING", {})


def _systems() -> list[str]:
    return sorted(path.stem for path in SYSTEMS.glob("*.py") if path.stem != "protocol")


def make_contender(name: str, checkpoint: Path, work: Path, environments: dict[str, Path], commit: str) -> Contender:
    """Install a system and convert the checkpoint, unless that was done.

    What holds this repository's code is made again for each commit, in a folder of that name.

    Raises:
        SystemFailedError: One of the two failed.
    """
    system, _, variant = name.partition(":")
    facts = _load(system)
    if variant not in facts.VARIANTS:
        raise SystemExit(f"{system} has the variants {', '.join(facts.VARIANTS)}, got {variant!r}")
    place = work / commit if any("{root}" in requirement for requirement in facts.REQUIREMENTS) else work
    python = environments.get(system) or _install(system, facts, place)
    if (converted := model_of(name)) != name:
        directory = make_contender(converted, checkpoint, work, environments, commit).directory
    else:
        directory = place / "models" / f"{system}-{variant}"
        _prepare(system, variant, python, checkpoint, directory)
    return Contender(name, python, directory, facts.REQUIREMENTS, " ".join(facts.__doc__.split()))


def _prepare(system: str, variant: str, python: Path, checkpoint: Path, directory: Path) -> None:
    if directory.exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    making = directory.with_name(f"{directory.name}.making")
    shutil.rmtree(making, ignore_errors=True)  # of a run that was interrupted
    words = [python, SYSTEMS / f"{system}.py", "prepare", checkpoint, making, variant]
    try:
        _run([str(word) for word in words], directory.with_name(f"{directory.name}.log"))
    except SystemFailedError:
        shutil.rmtree(making, ignore_errors=True)  # it may be as large as the checkpoint
        raise
    making.rename(directory)


def _load(system: str) -> Any:
    path = SYSTEMS / f"{system}.py"
    spec = importlib.util.spec_from_file_location(f"systems_{system}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"no system {system!r}; there are {', '.join(_systems())}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _install(system: str, facts: Any, place: Path) -> Path:
    environment = place / "environments" / system
    python, done = environment / "bin" / "python", environment / "installed"
    if not done.is_file():
        log = place / f"install-{system}.log"
        _run([sys.executable, "-m", "venv", str(environment)], log)
        words = [requirement.format(root=ROOT) for requirement in facts.REQUIREMENTS]
        _run([str(python), "-m", "pip", "install", "--quiet", *words], log, getattr(facts, "BUILD", {}))
        done.touch()
    return python


def _run(words: list[str], log: Path, variables: Mapping[str, str] = MappingProxyType({})) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | variables
    with log.open("w") as stream:
        done = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise SystemFailedError(_failure(done.returncode, log))


def _failure(code: int, log: Path) -> str:
    """Say how a process ended; a kill leaves no message of its own, and comes mostly from a lack of memory."""
    if code < 0:
        return f"ended by signal {-code}" + (
            ": killed, most likely for lack of memory" if code == -signal.SIGKILL else ""
        )
    return f"exit code {code}: {_end_of(log)}"


def _end_of(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-_LAST_LINES:]) or "no message"


class Server:
    """A contender's process: it opens the model, then answers.

    Attributes:
        load_ms: How long it took to open the model.
        runs: Which code it chose here, in words; None: it does not say.
    """

    def __init__(self, contender: Contender, threads: int, work: Path) -> None:
        system, _, variant = contender.name.partition(":")
        words = [contender.python, SYSTEMS / f"{system}.py", "serve", contender.directory, variant, str(threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        self._log = work / f"serve-{contender.name.replace(':', '-')}.log"
        with self._log.open("w") as stream:
            self._process = subprocess.Popen(
                words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True
            )
        try:
            opened = self._read()
        except SystemFailedError:
            self.close()
            raise
        self.load_ms: float = opened["load_ms"]
        self.runs: str | None = opened["runs"]

    def ask(
        self, ids: Sequence[int], new_tokens: int, kept: int = 0, text: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Let it generate; the state of the first `kept` ids is made before the time starts.

        With a text, one that drafts writes its tokens in place of the model's choices.

        Raises:
            SystemFailedError: It ended, or cannot do it.
        """
        asked = {"ids": list(ids), "new_tokens": new_tokens, "kept": kept}
        return self._asked(asked if text is None else asked | {"text": list(text)})

    def best(self, ids: Sequence[int], count: int) -> list[int]:
        """Let a referee name the likeliest next tokens, the best first.

        Raises:
            SystemFailedError: It ended, or cannot do it.
        """
        found: list[int] = self._asked({"ids": list(ids), "best": count})["best"]
        return found

    def _asked(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said is read below
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemFailedError(_failure(self._process.wait(), self._log))
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise SystemFailedError(found["error"])
        return found
