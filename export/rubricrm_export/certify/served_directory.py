"""A directory by `rubricrm export tensorrt`, served by its reader's own server for as long as it is asked.

Not run on a GPU: tried with programs of the same names that only say what they are told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from rubricrm.errors import DependencyMissing, RuntimeFailed
from rubricrm.served_model import ServedModel

from rubricrm_export.certify.answers import Answerer, ChatAnswerer, ModelAnswerer, WrittenAnswer, lists_models
from rubricrm_export.tensorrt.commands import reader_install_command, serve
from rubricrm_export.tensorrt.directory import TensorRTDirectory
from rubricrm_export.tensorrt.support import choose
from rubricrm_export.tensorrt_build.engine_build import build_engine

# A server loads weights, compiles kernels, and some build an engine first.
_START_S, _END_S = 3600.0, 30.0
_POLL_S = 0.5
_LOG_LINES = 20
# The dialect of each reader's server; Edge-LLM's only chats (0.11).
_DIALECTS = {"tensorrt-llm": "tensorrt-llm", "tensorrt-llm-1.2": "tensorrt-llm", "vllm": "vllm"}


class DirectoryAnswerer:
    """Starts the server when it is made, and ends it when it is closed."""

    def __init__(self, path: Path, prompt: Path) -> None:
        """Build an engine where the reader needs one, start the server, and wait until it serves.

        Args:
            path: The directory.
            prompt: The reference's bundle, by whose prompt it is asked.

        Raises:
            BundleInvalid: It is no such directory, or was changed.
            DependencyMissing: The reader's program, or the extra `remote`, is not installed.
            RuntimeFailed: The server ended; what it printed last is in the message.
            ServerError: It serves, and cannot be used; as `RubricModel.connect`.
            RubricrmError: As `build_engine`.
        """
        directory = TensorRTDirectory.open(path, verify=True)
        self.name = f"{directory.reader} serving {path.name}"
        self._scratch = contextlib.ExitStack()
        try:
            folder = Path(self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="rubricrm-certify-")))
            self._server = self._start(directory, folder, prompt)
        except BaseException:
            self._scratch.close()
            raise

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """Answer a request."""
        return self._server.answer(request, max_new_tokens)

    def close(self) -> None:
        """End the server and remove what was built for it."""
        self._scratch.close()

    def _start(self, directory: TensorRTDirectory, folder: Path, prompt: Path) -> Answerer:
        engine = folder / "engine"
        choice = choose(directory.reader, directory.weights, kv=directory.kv)
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        lists_models(url)  # before anything takes long: what it needs may not be installed
        words = serve(choice, directory.limits, str(directory.path.resolve()), str(engine), port)
        program = shutil.which(words[0])
        if program is None:
            raise DependencyMissing(
                f"{words[0]} is not on the path, and {directory.path} is for {directory.reader}. Install "
                f"it on the GPU machine and certify it there: {reader_install_command(directory.reader)}."
            )
        if directory.reader == "tensorrt-llm-1.2":
            build_engine(directory.path, engine)
        log = folder / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [program, *words[1:]], stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._scratch.callback(_end, process)
        _wait(url, process, log, words[0])
        dialect = _DIALECTS.get(directory.reader)
        served = ServedModel(url, prompt, dialect=dialect)
        server = ChatAnswerer(served) if dialect is None else ModelAnswerer.connect(served)
        self._scratch.callback(server.close)
        return server


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, program: str) -> None:
    until = time.monotonic() + _START_S
    while not lists_models(url):
        if process.poll() is not None or time.monotonic() > until:
            ended = f"ended with {process.returncode}" if process.poll() is not None else "does not serve yet"
            lines = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise RuntimeFailed(f"{program} {ended}. It printed last:\n{lines}")
        time.sleep(_POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return
