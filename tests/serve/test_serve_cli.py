"""The command: what it refuses before a model is opened, and where keys come from."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_serve.opening import client_keys


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["serve", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--server", "http://x", "--prompt", "x", "--max-memory", "9"), "--max-memory has no effect with --server"),
        (("--server", "http://x", "--prompt", "x", "--threads", "2"), "--threads has no effect with --server"),
        (("--server", "nonsense", "--prompt", str(DEMO_BUNDLE), "--port", "0"), "is no server's address"),
        (("--judge-server", "nonsense", "--judge-prompt", str(DEMO_BUNDLE), "--port", "0"), "is no server's address"),
        (("-m", "nowhere", "--port", "0"), "BUNDLE_NOT_FOUND"),
        (("--judge", "nowhere", "--port", "0"), "BUNDLE_NOT_FOUND"),
        (("--max-waiting", "-1"), "OPTION_INVALID: max_waiting"),
        (("--max-concurrency", "0"), "OPTION_INVALID: max_concurrency"),
        (("--timeout", "0"), "OPTION_INVALID: timeout_s"),
        (("--grace", "nan"), "OPTION_INVALID: grace_s"),
        (("--name", " a"), "OPTION_INVALID: name"),
        (("--host", "no.such.host.invalid"), "OPTION_INVALID: cannot listen on no.such.host.invalid"),
        (("--api-key-file", "nowhere"), "OPTION_INVALID: nowhere: the keys cannot be read"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(arguments: tuple[str, ...], text: str) -> None:
    found = invoke(*arguments)
    assert found.exit_code == 2
    assert text in found.output
    assert "Traceback" not in found.output


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = invoke("--port", taken.getsockname()[1])
    assert (found.exit_code, "cannot listen on 127.0.0.1" in found.output) == (2, True)


def test_clients_keys_come_from_a_file_and_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUBRICRM_API_KEY", "one, two,")
    file = tmp_path / "keys"
    file.write_text("three\n\n four \n")
    assert client_keys(file) == ("one", "two", "three", "four")
    monkeypatch.setenv("RUBRICRM_API_KEY", "schl\u00fcssel")
    with pytest.raises(OptionInvalid, match="beyond printable ASCII"):
        client_keys(None)
    monkeypatch.delenv("RUBRICRM_API_KEY")
    assert client_keys(None) == ()


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rubricrm_serve.server", None)
    found = invoke()
    assert (found.exit_code, "DEPENDENCY_MISSING" in found.output, "serve" in found.output) == (1, True, True)
