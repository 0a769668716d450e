"""A model on llama.cpp's own server: the same text as in this process, and the grammar that it reads."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from greedy_parity import REQUESTS, check_same_logprobs, check_same_texts, check_sampled_form
from rubricrm import AsyncRubricModel, RubricModel, write_prompt_directory
from rubricrm.errors import ServerRefused
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.onnx_bundle.export import export_onnx
from rubricrm_export.onnx_bundle.options import OnnxExport

xllamacpp = pytest.importorskip("xllamacpp")
pytest.importorskip("openai")
pytest.importorskip("gguf")

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "demo" / "checkpoint"
KEY = "the-key"


@dataclass
class Served:
    """The demo model in float32, here and on a server."""

    url: str
    bundle: Path
    prompt: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from demo_gguf import write_gguf

    directory = tmp_path_factory.mktemp("served")
    bundle = export_onnx(OnnxExport(str(CHECKPOINT), directory / "bundle", weights="fp32")).path
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(write_gguf(CHECKPOINT, directory / "demo.gguf"))
    parameters.port, parameters.n_parallel, parameters.n_ctx = 0, 4, 8192
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.api_keys, parameters.warmup, parameters.verbosity = [KEY], False, 0
    server = xllamacpp.Server(parameters)
    prompt = write_prompt_directory(Bundle.open(bundle), directory / "prompt").path
    yield Served(server.listening_address, bundle, prompt)
    del server


@pytest.fixture(scope="module")
def remote(served: Served) -> Iterator[RubricModel]:
    with RubricModel.connect(served.url, prompt=served.prompt, api_key=KEY, max_concurrency=4) as model:
        yield model


@pytest.fixture(scope="module")
def local(served: Served) -> Iterator[RubricModel]:
    with RubricModel.open(served.bundle, threads=1) as model:
        yield model


@pytest.mark.parametrize("constrain", [True, False])
def test_greedy_text_is_that_of_this_process(local: RubricModel, remote: RubricModel, constrain: bool) -> None:
    check_same_texts(local, remote, constrain=constrain)


def test_a_sampled_rubric_is_held_to_the_form(remote: RubricModel) -> None:
    check_sampled_form(remote)
    again = remote.generate(REQUESTS[0], temperature=1.5, seed=3, max_new_tokens=300, constrain=False)
    assert again.seed == 3


def test_what_the_server_turned_out_to_do(remote: RubricModel) -> None:
    found = remote.capabilities
    assert found is not None
    assert (found.dialect, found.constraint, found.same_ids, found.logprobs) == ("llama.cpp", "gbnf", True, True)
    assert (found.context_length, found.priority, found.cached_tokens) == (2048, False, True)


def test_log_probabilities_are_those_of_this_process(local: RubricModel, remote: RubricModel) -> None:
    check_same_logprobs(local, remote)


def test_a_wrong_key_is_refused(served: Served) -> None:
    with pytest.raises(ServerRefused, match="401.*api_key"):
        RubricModel.connect(served.url, prompt=served.prompt, api_key="another")


def test_a_prompt_of_another_model_is_refused(served: Served, tiny_bundle: Path) -> None:
    with pytest.raises(ServerRefused, match="has another tokenizer than"):
        RubricModel.connect(served.url, prompt=tiny_bundle, api_key=KEY)


def test_a_deadline_that_is_over_at_once(remote: RubricModel) -> None:
    assert remote.generate(REQUESTS[0], timeout_s=1e-6).finish_reason == "timeout"


def test_tasks_of_an_event_loop(served: Served, local: RubricModel) -> None:
    async def main() -> list[str]:
        async with await AsyncRubricModel.connect(served.url, prompt=served.prompt, api_key=KEY) as model:
            async with model.stream(REQUESTS[0]) as stream:
                await anext(stream)
            assert (await stream.result()).finish_reason in ("cancelled", "stop")
            results = await asyncio.gather(*(model.generate(request) for request in REQUESTS[:3]))
            return [result.text for result in results]

    assert asyncio.run(main()) == [local.generate(request).text for request in REQUESTS[:3]]
