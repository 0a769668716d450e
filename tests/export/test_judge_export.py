"""A judge's checkpoint becomes a bundle that opens as a judge."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from recorded_server import Body, Events, RecordedServer, serving, whole
from rubricrm import JudgeModel
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt_directory import open_prompt_directory
from rubricrm_export.checkpoint.chat_pieces import pieces
from rubricrm_export.checkpoint.chat_template import QWEN3_TEMPLATE, ChatTemplate
from rubricrm_export.errors import PromptTemplateInvalid
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx, plan_onnx
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt_build.export import export_tensorrt
from tokenizers import Tokenizer

MakeCheckpoint = Callable[..., Path]
JUDGE_PAIRWISE = "judge-pairwise"
TEMPLATE = "Compare.\n{instruction}\n{rubric}\nA: {response_a}\nB: {response_b}"
CASE = ("Write a haiku.", "1. The response is a haiku. [Hard Rule]", "Rain falls.", "Drops.")


@pytest.fixture
def judge(make_checkpoint: MakeCheckpoint) -> Path:
    """A checkpoint whose card has a judge's template."""
    path = make_checkpoint()
    (path / "README.md").write_text(f"# A judge\n\n```python\nJUDGE_PROMPT_TEMPLATE = {TEMPLATE!r}\n```\n", "utf-8")
    return path


def remove_chat_template(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "tokenizer_config.json").read_text("utf-8"))
    del config["chat_template"]
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def job(checkpoint: Path, **options: Any) -> OnnxExport:
    return OnnxExport(str(checkpoint), checkpoint.parent / "bundle", prompt=JUDGE_PAIRWISE, **options)


def test_a_judge_opens_and_samples_as_the_papers_do(judge: Path) -> None:
    bundle = export_onnx(job(judge))
    manifest = bundle.manifest
    assert list(manifest.prompts) == [JUDGE_PAIRWISE]
    facts = manifest.prompts[JUDGE_PAIRWISE]
    assert (facts.template, facts.template_source, facts.grammar) == (TEMPLATE, "README.md", None)
    assert set(facts.prefix.files.values()) <= set(manifest.files)
    assert manifest.generation.max_new_tokens == min(4096, manifest.model.context_length)
    assert "--prompt judge-pairwise" in manifest.provenance.command
    with JudgeModel.open(bundle.path, threads=1) as model:
        assert model.default_options.temperature == 0.7
        result = model.judge(*CASE, max_new_tokens=4)
        assert result.judgment.issues
        assert result.usage.cached_prompt_tokens >= facts.prefix.num_tokens > 0


def test_another_temperature_is_the_callers(judge: Path) -> None:
    facts = plan_onnx(job(judge, temperature=1.0)).manifest.prompts[JUDGE_PAIRWISE]
    assert facts.extensions == {"sampling": {"temperature": 1.0}}


def test_a_tokenizer_without_chat_template_gets_qwen3s(judge: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_template = export_onnx(job(judge)).manifest
    remove_chat_template(judge)
    with caplog.at_level(logging.WARNING):
        bundle = export_onnx(job(judge, force=True))
    assert "no chat template: that of Qwen3 is used" in caplog.text
    assert bundle.manifest.chat == with_template.chat
    assert bundle.manifest.prompts[JUDGE_PAIRWISE].stop_ids == with_template.prompts[JUDGE_PAIRWISE].stop_ids
    stored = json.loads((bundle.path / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    assert stored == QWEN3_TEMPLATE.read_text("utf-8")


def test_without_the_tokens_of_that_template_another_is_asked_for(judge: Path) -> None:
    remove_chat_template(judge)
    tokenizer = json.loads((judge / "tokenizer.json").read_text("utf-8"))
    for token in tokenizer["added_tokens"]:
        token["content"] = token["content"].replace("think", "muse")
    tokenizer["model"]["vocab"] = {
        token.replace("think", "muse"): token_id for token, token_id in tokenizer["model"]["vocab"].items()
    }
    (judge / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    with pytest.raises(PromptTemplateInvalid, match="--chat-template FILE"):
        plan_onnx(job(judge))


def test_a_model_of_rubrics_without_chat_template_is_refused_as_before(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    remove_chat_template(path)
    with pytest.raises(PromptTemplateInvalid, match="--chat-template FILE"):
        plan_onnx(OnnxExport(str(path), path.parent / "bundle"))


def test_the_built_in_template_is_qwen3s_form() -> None:
    chat = pieces(ChatTemplate(QWEN3_TEMPLATE.read_text("utf-8"), "qwen3", {}), ())
    assert (chat.opening, chat.user.before, chat.user.after) == ("", "<|im_start|>user\n", "<|im_end|>\n")
    assert chat.generation == "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert chat.system is not None
    assert chat.system.before == "<|im_start|>system\n"
    assert not chat.starts_in_thought


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "int4"}, "Pass --eval-text FILE"),
        ({"weights": "int4", "method": "gptq", "eval_text": Path("x")}, "Pass --calibration FILE"),
        ({"temperature": -1.0}, "temperature"),
        ({"prompt": "judge"}, "prompt must be one of rubric, judge-pairwise"),
        ({"prompt": "rubric", "temperature": 0.5}, "--temperature has no meaning with --prompt rubric"),
    ],
)
def test_options_that_a_judge_cannot_have(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        OnnxExport("x", Path("y"), **{"prompt": JUDGE_PAIRWISE, **options})


def test_a_quantized_judge_is_measured_on_a_text(judge: Path, tmp_path: Path) -> None:
    text = tmp_path / "judgments.txt"
    text.write_text("--- Final Judgment ---\nJustification: it is short.\nWinner: Response A\n" * 20, "utf-8")
    bundle = export_onnx(job(judge, weights="int4", eval_text=text, max_kl="none"))
    assert bundle.manifest.quality is not None
    assert "rubric_agreement" not in bundle.manifest.quality
    with JudgeModel.open(Bundle.open(bundle.path).path, threads=1) as model:
        assert model.judge(*CASE, max_new_tokens=2).usage.completion_tokens == 2


def for_tensorrt(checkpoint: Path, reader: str = "vllm", weights: str = "bf16", **options: Any) -> TensorRTExport:
    output = checkpoint.parent / "directory"
    return TensorRTExport(str(checkpoint), output, reader, weights, prompt=JUDGE_PAIRWISE, **options)


@pytest.mark.parametrize("reader", ["vllm", "tensorrt-llm", "tensorrt-llm-1.2"])
def test_a_directory_for_a_server_has_the_judges_prompt(judge: Path, reader: str) -> None:
    bundle = export_onnx(job(judge, temperature=1.0)).manifest
    directory = export_tensorrt(for_tensorrt(judge, reader, temperature=1.0))
    prompt = open_prompt_directory(directory.path)
    assert prompt.manifest.prompts[JUDGE_PAIRWISE] == replace(
        bundle.prompts[JUDGE_PAIRWISE], prefix=prompt.manifest.prompts[JUDGE_PAIRWISE].prefix
    )
    assert (prompt.manifest.chat, prompt.manifest.generation) == (bundle.chat, bundle.generation)
    assert (directory.template, directory.request_field) == (TEMPLATE, "{instruction}")
    assert "--prompt judge-pairwise --temperature 1.0" in directory.command
    assert not {"request.json", "requests.json"} & directory.files.keys()  # which ask for a rubric
    readme = (directory.path / "README.md").read_text("utf-8")
    assert ("rubricrm judge" in readme, "rubricrm certify" in readme) == (True, False)


def test_a_served_judge_is_asked_by_the_directory_that_was_exported(judge: Path) -> None:
    pytest.importorskip("openai")
    remove_chat_template(judge)
    directory = export_tensorrt(for_tensorrt(judge))
    bundle = export_onnx(job(judge))
    tokenizer = Tokenizer.from_file(str(judge / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def write(body: Body) -> Events:
        return whole(body, "Winner: Response B")

    with serving(RecordedServer("vllm", encode, write=write)) as server:
        with JudgeModel.connect(server.url, prompt=directory.path) as model:
            assert model.judge(*CASE, seed=3).judgment.winner == "B"
        sent = server.bodies[-1]
    with JudgeModel.open(bundle.path, threads=1) as here:
        fields = ("instruction", "rubric", "response_a", "response_b")
        assert sent["prompt"] == here.prompt.encode(dict(zip(fields, CASE, strict=True)))
    assert (sent["temperature"], sent["seed"]) == (0.7, 3)
    assert "structured_outputs" not in sent


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reader": "edge-llm", "weights": "fp16"}, "no server that takes token ids"),
        ({"weights": "fp8"}, "--calibration self has a model write rubrics. Pass --calibration FILE"),
        ({"temperature": -1.0}, "temperature must be 0"),
    ],
    ids=str,
)
def test_what_a_judges_directory_cannot_be(judge: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionInvalid, match=said):
        export_tensorrt(for_tensorrt(judge, **options))
    assert not (judge.parent / "directory").exists()


def test_the_command_writes_a_judges_directory(judge: Path, tmp_path: Path) -> None:
    words = ["export", "tensorrt", judge, "-o", tmp_path / "made", "--for", "vllm", "--weights", "bf16"]
    found = CliRunner().invoke(cli, [str(word) for word in [*words, "--prompt", "judge-pairwise", "--json"]])
    assert found.exit_code == 0, found.output
    assert list(open_prompt_directory(tmp_path / "made").manifest.prompts) == [JUDGE_PAIRWISE]
    found = CliRunner().invoke(cli, [str(word) for word in [*words, "--temperature", "0.5", "--force"]])
    assert (found.exit_code, "--temperature has no meaning with --prompt rubric" in found.output) == (2, True)
