"""vLLM inside Ray as far as a CPU can check it: what it is given, and how its answers are read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rubricrm import RubricModel
from rubricrm.generation.options import GenerationOptions
from rubricrm.rubric import form
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_batch.answering import seed_of
from rubricrm_batch.columns import staged_schema, written_schema
from rubricrm_batch.vllm_step import Encoder, VllmSource, encoded_rows, processor_config, read_answers

SOURCE = VllmSource("/models/rubricrm", DEMO_BUNDLE, 2, {"max_model_len": 4096})
STAGED = staged_schema(pa.schema([("prompt", pa.string()), ("metrics", pa.list_(pa.int32()))]))[0]
STOP_IDS = Bundle.open(DEMO_BUNDLE).manifest.prompt.stop_ids


def staged(*requests: str | None) -> pa.Table:
    rows = [
        {
            "id": f"r{number}",
            "prompt": request,
            "metrics": [number],
            "error_code": "" if request else "REQUEST_MISSING",
            "error_message": "" if request else "null",
            "input_line": "",
        }
        for number, request in enumerate(requests)
    ]
    return pa.Table.from_pylist(rows, STAGED)


def encoded(table: pa.Table, **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = encoded_rows(
        table, Encoder(SOURCE, GenerationOptions(**options), "prompt")
    ).to_pylist()
    return rows


def test_vllm_gets_ids_in_which_a_users_control_tokens_are_text() -> None:
    (row,) = encoded(staged("Say <|im_end|> twice."), max_new_tokens=50, seed=3)
    bundle = Bundle.open(DEMO_BUNDLE)
    tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
    assert row["tokenized_prompt"].count(tokenizer.split_control("<|im_end|>")[0]) == 1  # the template's
    with RubricModel.demo() as model:
        assert len(row["tokenized_prompt"]) == model.generate("Say <|im_end|> twice.").usage.prompt_tokens
    assert row["sampling_params"] == {
        "max_tokens": 50,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": seed_of("r0", 3),
        "stop_token_ids": list(STOP_IDS),
        "structured_outputs": {"regex": form.regex()},
    }


def test_columns_that_vllm_would_take_for_its_own_do_not_reach_it() -> None:
    (row,) = encoded(staged("Name a color."))
    assert row.keys() == {"id", "packed_row", "tokenized_prompt", "sampling_params"}


def answered(rows: list[dict[str, Any]], **changes: dict[str, Any]) -> pa.Table:
    """What vLLM's step hands on of encoded rows: it takes prompt and sampling values away."""
    lines = [
        {
            "id": row["id"],
            "packed_row": row["packed_row"],
            "num_input_tokens": len(row["tokenized_prompt"]),
            "generated_text": "1. The response is short. [Hard Rule]",
            "generated_tokens": [5, 6, 7, STOP_IDS[0]],
            "__inference_error__": "",
            "metrics": None,
            "prompt": "",
        }
        | changes.get(row["id"], {})
        for row in rows
    ]
    return pa.Table.from_pylist(lines)


def test_answers_are_read_into_the_schema_of_all_batches() -> None:
    table = staged("Name a color.", "Cut.", "Failed.", None, "x " * 5000)
    rows = encoded(table)
    lines = answered(
        rows,
        r1={"generated_tokens": [5, 6], "generated_text": "1. The response is"},
        r2={"__inference_error__": "ValueError: out of blocks", "generated_text": "", "generated_tokens": []},
    )
    schema = written_schema(STAGED)
    written = read_answers(lines, STOP_IDS, 0, schema)
    assert written.schema == schema
    whole, cut, failed, missing, long = written.to_pylist()
    assert (whole["prompt"], whole["metrics"], whole["finish_reason"]) == ("Name a color.", [0], "stop")
    assert (whole["num_criteria"], whole["completion_tokens"], whole["seed"]) == (1, 3, seed_of("r0", 0))
    assert (cut["finish_reason"], cut["completion_tokens"]) == ("length", 2)
    assert (failed["rubric"], failed["error_code"], failed["retryable"]) == (None, "ENGINE_FAILED", True)
    assert failed["error_message"] == "vLLM: ValueError: out of blocks"
    assert (missing["rubric"], missing["error_code"]) == (None, "REQUEST_MISSING")
    assert (long["rubric"], long["error_code"], long["retryable"]) == (None, "PROMPT_TOO_LONG", False)
    assert [rows[place]["sampling_params"]["max_tokens"] for place in (3, 4)] == [1, 1]


def test_an_identity_names_checkpoint_and_prompt() -> None:
    sha256 = Bundle.open(DEMO_BUNDLE).manifest_sha256
    assert SOURCE.identity() == {"checkpoint": "/models/rubricrm", "manifest_sha256": sha256}


@pytest.mark.filterwarnings("default")  # of Ray and of what it imports
def test_rays_configuration_accepts_what_it_is_given() -> None:
    pytest.importorskip("ray.data.llm", reason="needs ray[llm]", exc_type=ImportError)
    config = processor_config(SOURCE, 64)
    assert Path(config.model_source) == Path(SOURCE.checkpoint)
    assert (config.should_continue_on_error, config.concurrency) == (True, 2)
    assert (config.chat_template_stage, config.tokenize_stage, config.detokenize_stage) == (False, False, False)
    assert config.engine_kwargs["max_model_len"] == 4096
