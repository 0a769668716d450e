"""vLLM and TensorRT-LLM in this process: what they are asked, and every way in which a text may end."""

import asyncio
import gc
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_engines import INSTALL, RUBRIC, Told
from rubricrm import AsyncRubricModel, Bundle, GenerationOptions, RubricModel
from rubricrm.errors import BundleInvalid, DependencyMissing, ModelClosed, OptionInvalid, PromptTooLong, RuntimeFailed
from rubricrm.rubric import form
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt_build.export import export_tensorrt

pytest.importorskip("yaml")

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "demo" / "checkpoint"
READERS = ("tensorrt-llm", "vllm")
REQUEST = "Write a haiku."


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("directories")
    weights = {"tensorrt-llm": "bf16", "vllm": "bf16", "tensorrt-llm-1.2": "bf16"}
    return {
        reader: export_tensorrt(TensorRTExport(str(CHECKPOINT), folder / reader, reader, kind)).path
        for reader, kind in weights.items()
    }


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory(directories: dict[str, Path], reader: str) -> Path:
    return directories[reader]


@pytest.fixture
def told(reader: str, monkeypatch: pytest.MonkeyPatch) -> Told:
    return INSTALL[reader](monkeypatch)


def regex_of(parameters: Any) -> str | None:
    held = getattr(parameters, "guided_decoding", None) or getattr(parameters, "structured_outputs", None)
    return None if held is None else held.regex


def waits_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


# --- what is asked


def test_a_rubric_is_asked_for_with_ids_and_every_value(told: Told, directory: Path, reader: str) -> None:
    options = GenerationOptions(
        temperature=0.7, top_k=20, top_p=0.9, min_p=0.1, seed=(5 << 31) + 7, max_new_tokens=99, logprobs=2, priority=3
    )
    with RubricModel.open(directory) as model:
        result = model.generate(REQUEST, options=options)
        ids = model._prompt.encode_request(REQUEST)
    assert result.text == RUBRIC
    assert result.rubric.render() == RUBRIC
    assert (result.finish_reason, result.seed) == ("stop", (5 << 31) + 7)
    assert result.usage.prompt_tokens == len(ids)
    assert (result.usage.completion_tokens, result.usage.cached_prompt_tokens) == (len(RUBRIC.split()), 3)
    assert result.logprobs is not None
    first = result.logprobs[0]
    assert (first.token_id, first.logprob, len(result.logprobs)) == (10, -0.5, len(RUBRIC.split()))
    assert first.top == ((10, -0.5), (11, -1.0))
    asked = told.asked[-1]
    if reader == "vllm":
        assert (asked["prompt"], asked["priority"]) == ({"prompt_token_ids": ids}, -3)
    else:
        assert (asked["inputs"], asked["streaming"]) == (ids, True)
    parameters = asked["parameters"]
    stop_ids = list(Bundle.open(directory / "prompt").manifest.prompt.stop_ids)
    expected = {
        "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "seed": 7, "max_tokens": 99, "logprobs": 2, "n": 1,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "skip_special_tokens": True,
        "stop_token_ids": stop_ids, "stop": None,
    }  # fmt: skip
    assert {name: getattr(parameters, name) for name in expected} == expected
    assert regex_of(parameters) == form.regex()
    if reader == "tensorrt-llm":
        assert (parameters.end_id, parameters.pad_id) == (stop_ids[0], stop_ids[0])


def test_greedy_texts_without_a_form(told: Told, directory: Path) -> None:
    with RubricModel.open(directory) as model:
        assert model.generate_text("Hello").text == RUBRIC
        assert regex_of(told.asked[-1]["parameters"]) is None
        assert told.asked[-1]["parameters"].temperature == 0.0
        model.generate(REQUEST, constrain=False)
        assert regex_of(told.asked[-1]["parameters"]) is None


def test_an_engine_is_loaded_as_its_server_would_be(told: Told, directory: Path, reader: str) -> None:
    with RubricModel.open(directory) as model:
        limits = json.loads((directory / "rubricrm-tensorrt.json").read_text())["limits"]
        assert (model.context_length, model.max_concurrency) == (limits["max_seq_len"], limits["max_batch_size"])
        version = {"vllm": "vLLM 0.32.0", "tensorrt-llm": "TensorRT-LLM 1.2.0"}[reader]
        assert (model.description["kernels"], model.description["device"]) == (version, "cuda")
        assert model.description["manifest_sha256"] == Bundle.open(directory / "prompt").manifest_sha256
    (opened,) = told.opened
    assert opened["model"] == str(directory)
    if reader == "vllm":
        assert opened == {
            "model": str(directory), "kv_cache_dtype": "auto", "max_model_len": limits["max_seq_len"],
            "enable_prefix_caching": True, "max_num_seqs": limits["max_batch_size"], "quantization": None,
            "scheduling_policy": "priority", "generation_config": "vllm",
        }  # fmt: skip
    else:
        assert opened["guided_decoding_backend"] == "xgrammar"
        kind, config = opened["kv_cache_config"]
        assert (kind, config["enable_block_reuse"]) == ("KvCacheConfig", True)
        assert opened["max_seq_len"] == limits["max_seq_len"]
    assert told.num_closed == 1


# --- ends


def test_pieces_come_as_they_are_written(told: Told, directory: Path) -> None:
    with RubricModel.open(directory) as model, model.stream(REQUEST) as stream:
        pieces = [event.text for event in stream]
    assert "".join(pieces) == RUBRIC
    assert len(pieces) > 1
    assert told.num_aborted == 0


def test_length_and_stop_strings(told: Told, directory: Path) -> None:
    told.script = lambda _: (["one ", "two ", "three"], "length")
    with RubricModel.open(directory) as model:
        assert model.generate_text("x").finish_reason == "length"
        result = model.generate_text("x", stop=["two"])
        assert (result.text, result.finish_reason) == ("one ", "stop")
        waits_for(lambda: told.num_aborted == 1)


@pytest.mark.parametrize("how", ["cancel", "timeout", "close"])
def test_whoever_ends_a_text_ends_the_request(told: Told, directory: Path, how: str) -> None:
    told.script = lambda _: (["one ", 60.0, "two"], "stop")
    with RubricModel.open(directory) as model:
        cancel = threading.Event()
        future = model.submit(REQUEST, cancel=cancel, timeout_s=0.3 if how == "timeout" else None)
        waits_for(lambda: len(told.asked) == 2)
        if how == "cancel":
            cancel.set()
        if how == "close":
            model.close()
            with pytest.raises(ModelClosed):
                future.result()
        else:
            assert future.result().finish_reason == {"cancel": "cancelled", "timeout": "timeout"}[how]
        waits_for(lambda: told.num_aborted == 1)
    assert told.num_closed == 1


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "timeout", None])
def test_a_text_without_an_end_is_an_error(told: Told, directory: Path, reason: str | None) -> None:
    told.script = lambda _: (["one"], reason)
    with RubricModel.open(directory) as model, pytest.raises(RuntimeFailed, match=f"for the reason {reason!r}"):
        model.generate(REQUEST)


def test_an_engine_that_fails(told: Told, directory: Path) -> None:
    told.script = lambda _: (["one", RuntimeError("CUDA out of memory")], None)
    with RubricModel.open(directory) as model:
        with pytest.raises(RuntimeFailed, match="CUDA out of memory"):
            model.generate(REQUEST)
        told.script = lambda _: (["one"], "stop")
        assert model.generate_text("x").text == "one"  # the next request is another matter


def test_a_model_that_nobody_closed_frees_its_engine(told: Told, directory: Path) -> None:
    model = RubricModel.open(directory)
    assert model.generate(REQUEST).text == RUBRIC
    del model

    def is_freed() -> bool:
        gc.collect()  # again: the loop may still end the request's task
        return told.num_closed == 1

    waits_for(is_freed)


def test_many_at_once_and_coroutines(told: Told, directory: Path) -> None:
    async def run() -> list[str]:
        async with await AsyncRubricModel.open(directory, max_concurrency=2) as model:
            results = await asyncio.gather(*(model.generate(f"Write {n} lines.") for n in range(6)))
        return [result.text for result in results]

    assert asyncio.run(run()) == [RUBRIC] * 6
    assert len({tuple(ask.get("inputs") or ask["prompt"]["prompt_token_ids"]) for ask in told.asked}) == 7


# --- refusals


def test_options_that_an_engine_refuses(told: Told, directory: Path, reader: str) -> None:
    del told
    with RubricModel.open(directory) as model:
        with pytest.raises(PromptTooLong):
            model.generate("long " * 5000)
        grammar: Any = type("Grammar", (), {"is_allowed": lambda *_: True})()
        with pytest.raises(OptionInvalid, match=r"this model's compile_grammar\(pattern\)"):
            model.generate(REQUEST, grammar=grammar)
        if reader == "vllm":
            with pytest.raises(
                OptionInvalid, match=r"vLLM 0.32.0 refuses the options: temperature must be in \[0, 2\]"
            ):
                model.generate(REQUEST, temperature=3.0)


def test_a_grammar_of_the_users(told: Told, directory: Path) -> None:
    pytest.importorskip("outlines_core")
    with RubricModel.open(directory) as model:
        grammar = model.compile_grammar("(yes|no)+")
        result = model.generate_text(REQUEST, grammar=grammar)
        assert regex_of(told.asked[-1]["parameters"]) == "(yes|no)+"
        assert (result.text, result.unconstrained) == (RUBRIC, True)  # the engine writes it whatever it is asked for
        lists = model.compile_grammar(r"([0-9]\. [^\n]+\n)+")
        assert not model.generate_text(REQUEST, grammar=lists).unconstrained


def test_an_engine_that_drops_the_grammar(told: Told, directory: Path) -> None:
    told.holds = False
    with pytest.raises(RuntimeFailed, match="dropped the grammar without a word"):
        RubricModel.open(directory)
    assert told.num_closed == 1


def test_an_engine_that_cannot_be_loaded(told: Told, directory: Path) -> None:
    told.load_error = RuntimeError("no GPU found")
    with pytest.raises(RuntimeFailed, match="cannot load it .*no GPU found"):
        RubricModel.open(directory)


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"threads": 2}, {"draft": False}, {"phrases": True}], ids=str)
def test_options_of_a_bundle_have_no_effect(told: Told, directory: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid, match=f"{next(iter(options))}: has no effect"):
        RubricModel.open(directory, **options)
    assert not told.opened


def test_without_the_package_the_way_out_is_told(directory: Path, reader: str, block: Callable[[str], str]) -> None:
    del block
    package = {"vllm": "vllm", "tensorrt-llm": "tensorrt_llm"}[reader]
    with pytest.raises(DependencyMissing, match=rf"needs its package {package}.*build\.sh.*RubricModel\.connect\(url"):
        RubricModel.open(directory)


def test_a_reader_that_is_not_run_here(directories: dict[str, Path]) -> None:
    with pytest.raises(OptionInvalid, match="tensorrt-llm-1.2, which is not run in this process"):
        RubricModel.open(directories["tensorrt-llm-1.2"])


def test_damage_of_the_prompt_is_found(told: Told, directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    tokenizer = copy / "prompt" / "tokenizer.json"
    text = tokenizer.read_bytes()
    tokenizer.write_bytes(text.replace(b'"', b"'", 1))
    with pytest.raises(BundleInvalid, match=r"tokenizer\.json"):
        RubricModel.open(copy, verify=True)
    assert not told.opened


def test_damage_is_found(told: Told, directory: Path, reader: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    weights = next(copy.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleInvalid, match="or was changed"):
        RubricModel.open(copy, verify=True)
    weights.unlink()
    with pytest.raises(BundleInvalid, match="is missing"):
        RubricModel.open(copy)
    (copy / "rubricrm-tensorrt.json").write_text("{")
    with pytest.raises(BundleInvalid, match="cannot be read"):
        RubricModel.open(copy)
    assert not told.opened
    if reader == "tensorrt-llm":
        shutil.rmtree(copy)
        shutil.copytree(directory, copy)
        size = (copy / "serve.yaml").stat().st_size
        (copy / "serve.yaml").write_text("[" * size)
        with pytest.raises(BundleInvalid, match="serve.yaml: cannot be read"):
            RubricModel.open(copy)
