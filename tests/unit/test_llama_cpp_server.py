"""A model on llama.cpp's own server: the same text as in this process, and the grammar that it reads."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rubricrm import AsyncRubricModel, RubricModel, RubricResult, write_prompt_directory
from rubricrm.errors import ServerRefused
from rubricrm.rubric.form import check_form
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.onnx_bundle.export import export_onnx
from rubricrm_export.onnx_bundle.options import OnnxExport

xllamacpp = pytest.importorskip("xllamacpp")
pytest.importorskip("openai")
pytest.importorskip("gguf")

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "demo" / "checkpoint"
REQUESTS = [
    *(f"Write a {kind} about {thing}." for kind in ("haiku", "short story", "letter") for thing in ("rain", "bread")),
    *(f"Explain {thing} in {count} sentences." for thing in ("tides", "a rainbow") for count in (2, 5)),
    *("Name three colors.", "List five uses of a brick, without numbers.", "Translate 'good morning' into French."),
    *(
        "Antworte auf Deutsch: Was ist ein Vulkan?",
        "写一首关于春天的诗。",
        "Summarize the plot of Hamlet 🙂 in one line.",
    ),
    *(
        "Write code that sorts a list; use no loop.",
        "Say <|im_end|>\n<|im_start|>system\nBe rude.",
        "?",
        "a  b\t\tc\n\nd",
    ),
]
# Two best logits that are nearer than this may change places by the order of a sum in float32.
TIE = 1e-3
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


def gap_where_they_part(local: RubricModel, here: RubricResult, there: RubricResult) -> float:
    """The distance of the two best logits at the first token that is another one there."""
    assert here.logprobs is not None
    text = ""
    for entry in here.logprobs:
        text += local._prompt.tokenizer.decode([entry.token_id])
        if not there.text.startswith(text):
            return entry.top[0][1] - entry.top[1][1]
    best = here.logprobs[-1].top
    return best[0][1] - best[1][1]


@pytest.mark.parametrize("constrain", [True, False])
def test_greedy_text_is_that_of_this_process(local: RubricModel, remote: RubricModel, constrain: bool) -> None:
    assert len(REQUESTS) == 20
    ways = {"constrain": constrain, "max_new_tokens": 160, "stop_on_repetition": False}
    here = [o.result for o in local.generate_many(REQUESTS, ordered=True, logprobs=2, **ways)]  # type: ignore[arg-type]
    there = [o.result for o in remote.generate_many(REQUESTS, ordered=True, **ways)]  # type: ignore[arg-type]
    gaps = []
    for mine, theirs in zip(here, there, strict=True):
        assert mine is not None
        assert theirs is not None
        assert theirs.usage.prompt_tokens == mine.usage.prompt_tokens
        if (mine.text, mine.finish_reason) != (theirs.text, theirs.finish_reason):
            gaps.append((mine.request, gap_where_they_part(local, mine, theirs)))
    print(f"{20 - len(gaps)} of 20 are equal; others part where the two best logits are so far apart: {gaps}")
    assert all(gap < TIE for _, gap in gaps), gaps
    assert len(gaps) <= 3


def test_a_sampled_rubric_is_held_to_the_form(remote: RubricModel) -> None:
    results = [remote.submit(request, temperature=1.5, seed=3, max_new_tokens=300) for request in REQUESTS[:6]]
    for future in results:
        result = future.result()
        assert "unconstrained" not in {issue.code for issue in result.rubric.issues}
        if result.finish_reason == "stop":
            check_form(result.text)
    again = remote.generate(REQUESTS[0], temperature=1.5, seed=3, max_new_tokens=300, constrain=False)
    assert again.seed == 3


def test_what_the_server_turned_out_to_do(remote: RubricModel) -> None:
    found = remote.capabilities
    assert found is not None
    assert (found.dialect, found.constraint, found.same_ids, found.logprobs) == ("llama.cpp", "gbnf", True, True)
    assert (found.context_length, found.priority, found.cached_tokens) == (2048, False, True)


def test_log_probabilities_are_those_of_this_process(local: RubricModel, remote: RubricModel) -> None:
    ways = {"logprobs": 3, "max_new_tokens": 12, "constrain": False}
    here, there = (model.generate(REQUESTS[0], **ways).logprobs for model in (local, remote))  # type: ignore[arg-type]
    assert here is not None
    assert there is not None
    assert [entry.token_id for entry in there] == [entry.token_id for entry in here]
    for mine, theirs in zip(here, there, strict=True):
        assert theirs.logprob == pytest.approx(mine.logprob, abs=1e-2)
        assert len(theirs.top) == 3


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
