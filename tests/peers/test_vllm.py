"""A model on vLLM's own server: the same text as in this process, and an error for each way in which it may fail.

vLLM lives in an environment of its own (`make test-peers`); RUBRICRM_PEERS is its Python.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from greedy_parity import REQUESTS, check_same_logprobs, check_same_texts, check_sampled_form
from rubricrm import RubricModel
from rubricrm.errors import PromptTooLong, ServerBusy, ServerError, ServerRefused, ServerUnreachable
from rubricrm_export.onnx_bundle.export import export_onnx
from rubricrm_export.onnx_bundle.options import OnnxExport
from vllm_server import VllmServer, vllm_server

PYTHON = os.environ.get("RUBRICRM_PEERS", "")
CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "demo" / "checkpoint"
KEY = "the-key"
OPTIONS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--api-key", KEY)
# As many run, and as many wait: one more gets 503.
PLACES = 4

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PYTHON, reason="RUBRICRM_PEERS is not set: run `make test-peers`"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundle") / "demo"
    return export_onnx(OnnxExport(str(CHECKPOINT), target, weights="fp32")).path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("vllm") / "log"
    places = ("--max-num-seqs", str(PLACES), "--max-num-queued-reqs", str(PLACES))
    with vllm_server(PYTHON, CHECKPOINT, log, *OPTIONS, *places) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server: VllmServer, bundle: Path) -> Iterator[RubricModel]:
    with RubricModel.connect(server.url, prompt=bundle, api_key=KEY, max_concurrency=PLACES) as model:
        yield model


@pytest.fixture(scope="module")
def local(bundle: Path) -> Iterator[RubricModel]:
    with RubricModel.open(bundle, threads=1) as model:
        yield model


@pytest.mark.parametrize("constrain", [True, False])
def test_greedy_text_is_that_of_this_process(local: RubricModel, remote: RubricModel, constrain: bool) -> None:
    check_same_texts(local, remote, constrain=constrain)


def test_a_sampled_rubric_is_held_to_the_form(remote: RubricModel) -> None:
    check_sampled_form(remote)


def test_equal_seeds_give_equal_texts(remote: RubricModel) -> None:
    texts = {remote.generate(REQUESTS[0], temperature=1.0, seed=5, max_new_tokens=60).text for _ in range(3)}
    assert len(texts) == 1


def test_log_probabilities_are_those_of_this_process(local: RubricModel, remote: RubricModel) -> None:
    check_same_logprobs(local, remote)


def test_what_the_server_turned_out_to_do(remote: RubricModel) -> None:
    found = remote.capabilities
    assert found is not None
    assert (found.dialect, found.constraint, found.same_ids, found.logprobs) == ("vllm", "regex", True, True)
    assert (found.context_length, found.priority) == (1024, True)


def test_a_prompt_that_does_not_fit_there(remote: RubricModel) -> None:
    with pytest.raises(PromptTooLong):
        remote.generate("word " * 1500)


def test_a_wrong_key_is_refused(server: VllmServer, bundle: Path) -> None:
    with pytest.raises(ServerRefused, match="401.*api_key"):
        RubricModel.connect(server.url, prompt=bundle, api_key="another")


def test_a_model_that_is_not_there(server: VllmServer, bundle: Path) -> None:
    with pytest.raises(ServerRefused, match="another"):
        RubricModel.connect(server.url, prompt=bundle, api_key=KEY, model="another")


def test_a_prompt_of_another_model_is_refused(server: VllmServer, tiny_bundle: Path) -> None:
    with pytest.raises(ServerRefused, match="has another tokenizer than"):
        RubricModel.connect(server.url, prompt=tiny_bundle, api_key=KEY)


def test_a_grammar_that_is_dropped_without_a_word(server: VllmServer, bundle: Path) -> None:
    """SGLang's field for it: vLLM does not know it, and says nothing."""
    with pytest.raises(ServerRefused, match="grammar"):
        RubricModel.connect(server.url, prompt=bundle, api_key=KEY, dialect="sglang")


def test_more_than_it_takes(server: VllmServer, bundle: Path, remote: RubricModel) -> None:
    with RubricModel.connect(server.url, prompt=bundle, api_key=KEY, max_concurrency=64, max_retries=0) as crowd:
        futures = [crowd.submit(REQUESTS[0], max_new_tokens=200, temperature=1.0, seed=number) for number in range(64)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        assert 0 < len(errors) < 64
        assert {type(error) for error in errors} == {ServerBusy}
        assert all(isinstance(error, ServerError) and error.retryable and error.status == 503 for error in errors)
    assert remote.generate(REQUESTS[0], max_new_tokens=20).text


def test_a_deadline_frees_the_server(remote: RubricModel) -> None:
    ways = {"max_new_tokens": 900, "constrain": False, "stop_on_repetition": False, "temperature": 2.0}
    cut = [remote.submit(REQUESTS[0], seed=seed, timeout_s=0.3, **ways) for seed in range(8)]  # type: ignore[arg-type]
    assert "timeout" in {future.result().finish_reason for future in cut}
    assert remote.generate(REQUESTS[0]).finish_reason == "stop"


def test_a_server_that_dies(bundle: Path, tmp_path: Path) -> None:
    with vllm_server(PYTHON, CHECKPOINT, tmp_path / "log", *OPTIONS) as server:
        connected = RubricModel.connect(server.url, prompt=bundle, api_key=KEY, max_retries=0)
        with connected as model:
            with model.stream(REQUESTS[0], max_new_tokens=900, constrain=False, temperature=2.0) as stream:
                first = next(stream)
                server.kill()
                with pytest.raises(ServerError) as broken:
                    list(stream)
            assert broken.value.code in ("STREAM_BROKEN", "SERVER_UNREACHABLE")
            assert broken.value.retryable
            assert broken.value.partial_text.startswith(first.text)
            with pytest.raises(ServerUnreachable):
                model.generate(REQUESTS[0])
