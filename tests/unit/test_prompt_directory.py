"""Prompt directories: what a bundle says without its weights, written whole, and used from the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from recorded_server import RUBRIC, RecordedServer, serving, whole
from rubricrm import Bundle, RubricModel, write_prompt_directory
from rubricrm.cli import cli
from rubricrm.errors import BundleInvalid, BundleNotFound, GraphUnusable, OutputExists
from rubricrm.runtime.prompt_directory import open_prompt_directory
from rubricrm.text_model import DEMO_BUNDLE
from tokenizers import Tokenizer

REQUEST = "Write a haiku."


def invoke(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="rubricrm")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    return write_prompt_directory(Bundle.open(DEMO_BUNDLE), tmp_path / "prompt").path


def test_it_says_what_the_bundle_says_but_for_the_weights(prompt: Path) -> None:
    whole_bundle, made = Bundle.open(DEMO_BUNDLE).manifest, Bundle.open(prompt, verify=True).manifest
    assert (made.model, made.chat, made.tokenizer, made.generation) == (
        whole_bundle.model,
        whole_bundle.chat,
        whole_bundle.tokenizer,
        whole_bundle.generation,
    )
    assert (made.graphs, made.quantization.weights, made.quality) == ((), "none", None)
    assert made.prompt.template == whole_bundle.prompt.template
    assert made.prompt.stop_ids == whole_bundle.prompt.stop_ids
    assert set(made.files) == {"tokenizer.json", "tokenizer_config.json", "grammar.npz"}
    assert sum(path.stat().st_size for path in prompt.iterdir()) < 1 << 20


def test_one_of_a_prompt_directory_is_the_same(prompt: Path, tmp_path: Path) -> None:
    again = write_prompt_directory(Bundle.open(prompt), tmp_path / "again")
    assert again.manifest_sha256 == Bundle.open(prompt).manifest_sha256


def test_it_does_not_run_here(prompt: Path) -> None:
    with pytest.raises(GraphUnusable, match="prompt directory, for use with a server"):
        RubricModel.open(prompt)


def test_nothing_is_overwritten_unasked(prompt: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(DEMO_BUNDLE)
    with pytest.raises(OutputExists, match="exists. Pass --force"):
        write_prompt_directory(bundle, prompt)
    write_prompt_directory(bundle, prompt, force=True)
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputExists, match="is not a bundle"):
        write_prompt_directory(bundle, tmp_path / "mine", force=True)


def test_a_damaged_bundle_leaves_nothing(bundle_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    path = bundle_copy / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-2] + b" }")
    with pytest.raises(BundleInvalid, match="SHA-256"):
        write_prompt_directory(bundle, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_it_is_found_in_a_directory_for_tensorrt(prompt: Path) -> None:
    assert open_prompt_directory(prompt.parent).path == prompt
    with pytest.raises(BundleNotFound):
        open_prompt_directory(prompt.parent / "nothing")


def test_the_command_writes_it(tmp_path: Path) -> None:
    result = invoke("prompt", DEMO_BUNDLE, "-o", tmp_path / "made", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert facts["manifest_sha256"] == Bundle.open(tmp_path / "made").manifest_sha256
    assert invoke("prompt", DEMO_BUNDLE, "-o", tmp_path / "made").exit_code == 2
    assert "prompt of rubricrm-demo" in invoke("prompt", DEMO_BUNDLE, "-o", tmp_path / "made", "--force").stdout


# ---- generate --server ----


@pytest.fixture
def server() -> Iterator[RecordedServer]:
    pytest.importorskip("openai")
    tokenizer = Tokenizer.from_file(str(DEMO_BUNDLE / "tokenizer.json"))
    with serving(
        RecordedServer("vllm", lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids))
    ) as running:
        yield running


def test_generate_prints_the_same_as_with_a_bundle(
    server: RecordedServer, prompt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUBRICRM_SERVER_API_KEY", "secret-1")
    result = invoke("generate", REQUEST, "--server", server.url, "--prompt", prompt)
    assert (result.exit_code, result.stdout, result.stderr) == (0, RUBRIC + "\n", "")
    assert set(server.keys) == {"Bearer secret-1"}
    result = invoke("generate", REQUEST, "--server", server.url, "-m", DEMO_BUNDLE, "--json", "--timeout", "30")
    document = json.loads(result.stdout)
    assert document["text"] == RUBRIC
    assert document["model"]["dialect"] == "vllm"
    server.write = lambda body: whole(body, "1. The response", "length")
    result = invoke("generate", REQUEST, "--server", server.url, "--prompt", prompt, "--no-stream")
    assert (result.exit_code, result.stdout) == (3, "1. The response\n")
    assert "The rubric is incomplete" in result.stderr


def test_generate_says_in_one_line_what_is_wrong(server: RecordedServer, prompt: Path) -> None:
    for arguments, said in (
        (["--server", server.url, "--prompt", prompt, "--threads", "2"], "--threads has no effect with --server"),
        (["--server", server.url, "--prompt", prompt, "--server-model", "x"], "has no model 'x'"),
        (["--server", "nonsense", "--prompt", prompt], "is no server's address"),
    ):
        result = invoke("generate", REQUEST, *arguments)  # type: ignore[arg-type]
        assert result.exit_code == 2
        assert said in result.stderr.replace("\n", " ")
    server.refusals = [(401, {"error": "Unauthorized"})]
    server.list_refusals = [(401, {"error": "Unauthorized"})]
    result = invoke("generate", REQUEST, "--server", server.url, "--prompt", prompt)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "SERVER_REFUSED" in result.stderr
