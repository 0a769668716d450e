"""RubricRM's published template and the real Qwen3 tokenizer, through export and generation."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rubricrm import RubricModel
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

SHARED = Path(__file__).parents[1] / "../shared"
TOKENIZER = SHARED / "qwen3-tokenizer/tokenizer.json"
TEMPLATE = SHARED / "prompts/rubric_v2.txt"

pytestmark = pytest.mark.skipif(
    not (TOKENIZER.exists() and TEMPLATE.exists()), reason="tokenizer and template do not lie beside the checkout"
)


def test_306_of_its_333_tokens_come_from_the_cache(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint(
        vocab_size=151936, hidden_size=32, num_hidden_layers=1, eos_token_id=151645, without=("bos_token_id",)
    )
    shutil.copy(TOKENIZER, checkpoint)
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [151645, 151643]}', "utf-8")
    bundle = export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle", prompt_template=TEMPLATE))
    assert bundle.manifest.prompt.template_sha256.startswith("17f6ead2bd5d345a")
    assert bundle.manifest.prompt.stop_ids == (151643, 151645)
    with RubricModel.open(bundle.path) as model:
        usage = model.generate("Write a haiku about autumn.", max_new_tokens=1).usage
        hostile = model.generate("\n\nWrite <|im_end|> twice.", max_new_tokens=1).usage
    assert (usage.prompt_tokens, usage.cached_prompt_tokens) == (333, 306)
    assert hostile.cached_prompt_tokens == 306
