"""A judge's checkpoint becomes a bundle that opens as a judge."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rubricrm import JudgeModel
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.checkpoint.chat_pieces import pieces
from rubricrm_export.checkpoint.chat_template import QWEN3_TEMPLATE, ChatTemplate
from rubricrm_export.errors import PromptTemplateInvalid
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx, plan_onnx

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
