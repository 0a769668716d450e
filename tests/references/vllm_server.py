"""vLLM's own server on the CPU, from an environment of its own, in a process that tests may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The first start takes half a minute: imports, and what it compiles.
_START_S = 300.0


@dataclass(frozen=True)
class VllmServer:
    """A server that answers.

    Attributes:
        url: Where it listens.
        process: Its process, which leads a group of its own: vLLM starts others.
    """

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End all its processes at once, as a machine that loses its power does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def vllm_server(python: str, checkpoint: Path, log: Path, *options: str, threads: int = 2) -> Iterator[VllmServer]:
    """Serve a checkpoint on a free port until the end of the block; `options` are those of `vllm serve`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(python).with_name("vllm")), "serve", str(checkpoint)]
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with (
        log.open("wb") as written,
        subprocess.Popen(
            command, stdout=written, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        ) as process,
    ):
        server = VllmServer(f"http://127.0.0.1:{port}", process)
        try:
            _wait(server, log)
            yield server
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    server.kill()


def _wait(server: VllmServer, log: Path) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
            assert time.monotonic() < end, log.read_text("utf-8", "replace")[-3000:]
            time.sleep(0.5)
