"""Every command and example of the README is run, in its order."""

import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
REPO = re.findall(r"rubricrm export onnx (\S+/\S+)", README)[0]


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def run(command: str, cwd: Path, **env: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=cwd,
        env=os.environ | {"PATH": path} | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # The random weights that stand in for the real model's write no complete rubric.
    accepted = (0, 3) if command.startswith("rubricrm generate -m ") else (0,)
    assert done.returncode in accepted, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_commands(make_checkpoint: Callable[..., Path], serve_hub: Callable[..., Any], tmp_path: Path) -> None:
    hub = serve_hub(make_checkpoint(), REPO, "0123456789abcdef0123456789abcdef01234567")
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    work = tmp_path / "work"
    work.mkdir()
    commands = [line for block in blocks("bash") for line in block.splitlines() if line]
    assert len(commands) >= 8
    for command in commands:
        if command.startswith("make "):
            # The targets themselves run in CI; here they must exist.
            run(f"{command} --dry-run", ROOT)
        elif command.startswith("pip install "):
            check_extras(command)
        elif command.startswith("rubricrm serve"):
            serve_once(command, work)
        else:
            assert run(command, work, **env), command


def serve_once(command: str, cwd: Path) -> None:
    """Start a server on a free port, have it write a rubric, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", *shlex.split(command.replace("8000", str(port)))]
    with subprocess.Popen(arguments, cwd=cwd, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            assert any(f"http://127.0.0.1:{port}" in line for line in server.stderr)
            address = f"http://127.0.0.1:{port}/v1/rubrics"
            body = b'{"request": "Write a haiku."}'
            request = Request(address, body, {"Content-Type": "application/json"})
            with urlopen(request, timeout=60) as answer:
                assert b'"finish_reason":"stop"' in answer.read().replace(b" ", b"")
        finally:
            server.terminate()
            server.stderr.read()
        assert server.wait(30) == 0


def check_extras(command: str) -> None:
    """Installing again what runs this test would prove nothing; the names of the extras must be real ones."""
    (target,) = shlex.split(command)[2:]
    asked = re.fullmatch(r"\.\[([a-z,]+)\]", target)
    assert asked is not None, command
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(asked[1].split(",")) <= set(extras)


@pytest.mark.parametrize("source", blocks("python"), ids=lambda source: source.splitlines()[0])
def test_python_example(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(source, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_no_example_cuts_its_rubric() -> None:
    assert "max-new-tokens" not in README
    assert "max_new_tokens=" not in README


def test_documents_that_are_linked_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
