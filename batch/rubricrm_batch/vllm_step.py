"""vLLM's engine inside Ray, with this project's token ids. Written for ray 2.60 and never run: it needs a GPU.

Rows travel packed: vLLM's step reads and writes columns of its own, `prompt` and `metrics` among them, and would take
the input's for these.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rubricrm.errors import PromptTooLong, RequestInvalid, RubricrmError
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult, Timings, Usage
from rubricrm.rubric import form
from rubricrm.rubric.rubric import parse
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_batch.answering import Answer, seed_of
from rubricrm_batch.columns import ERROR_CODE, ID
from rubricrm_batch.errors import EngineFailed
from rubricrm_batch.worker import answered_table

if TYPE_CHECKING:
    from ray.data import Dataset

_ROW = "packed_row"
_PROMPT = "tokenized_prompt"
_SAMPLING = "sampling_params"
_ERROR = "__inference_error__"
_NO_TIMES = Timings(tokenize=0.0, prefill=0.0, first_token=None, decode=0.0, total=0.0)


@dataclass(frozen=True)
class VllmSource:
    """A checkpoint that vLLM serves inside Ray.

    Attributes:
        checkpoint: Its directory or its name on the hub, as vLLM takes it.
        prompt: A prompt directory or a bundle.
        engines: How many, each on GPUs of its own.
        engine: vLLM's own arguments: tensor_parallel_size, max_model_len, ...
    """

    checkpoint: str
    prompt: Path
    engines: int
    engine: Mapping[str, Any]

    def identity(self) -> dict[str, Any]:
        """Return what the answers depend on. Raises as `Bundle.open`."""
        return {"checkpoint": self.checkpoint, "manifest_sha256": Bundle.open(self.prompt).manifest_sha256}


@dataclass(frozen=True)
class Encoder:
    """Requests as vLLM takes them: ids, so that what a user typed stays text, and every sampling value."""

    source: VllmSource
    options: GenerationOptions
    request: str

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a packed row with ids and sampling values."""
        prompt, facts = _opened(self.source.prompt)
        stop_ids = facts.prompt.stop_ids
        ids, error = (None, None) if row[ERROR_CODE] else _ids(prompt, row[self.request], facts.model.context_length)
        most_tokens = 1 if ids is None else self.options.max_new_tokens or facts.generation.max_new_tokens
        return {
            ID: row[ID],
            _ROW: pickle.dumps((row, error)),
            _PROMPT: ids or list(stop_ids[:1]),
            _SAMPLING: self._sampling(row[ID], stop_ids, most_tokens),
        }

    def _sampling(self, row_id: str, stop_ids: tuple[int, ...], most_tokens: int) -> dict[str, Any]:
        options = self.options
        values: dict[str, Any] = {
            "max_tokens": most_tokens,
            "temperature": float(options.temperature),
            "top_k": options.top_k,
            "top_p": float(options.top_p),
            "min_p": float(options.min_p),
            "seed": seed_of(row_id, options.seed or 0),
            "stop_token_ids": list(stop_ids),
        }
        return values | ({"structured_outputs": {"regex": form.regex()}} if options.constrain else {})


def processor_config(source: VllmSource, batch_size: int) -> Any:
    """Return Ray's configuration of vLLM: no template, no tokenizer, and an error is a row's.

    Raises:
        DependencyMissing: ray[llm] is not installed.
    """
    try:
        from ray.data.llm import vLLMEngineProcessorConfig
    except ImportError as error:
        raise missing_package("vLLM inside Ray (pip install 'ray[llm]')", error, "batch") from error
    return vLLMEngineProcessorConfig(
        model_source=source.checkpoint,
        engine_kwargs={"enable_prefix_caching": True, "generation_config": "vllm", **source.engine},
        batch_size=batch_size,
        concurrency=source.engines,
        should_continue_on_error=True,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
    )


def with_vllm(
    rows: Dataset, source: VllmSource, options: GenerationOptions, schema: pa.Schema, request: str
) -> Dataset:
    """Return rows as vLLM answers them.

    Args:
        rows: Blocks of staged rows.
        source: The checkpoint.
        options: Of every row; the seed is the job's.
        schema: Of what is returned.
        request: The column of the requests.
    """
    from ray.data.llm import build_processor

    processor = build_processor(processor_config(source, batch_size=64))
    stop_ids = Bundle.open(source.prompt).manifest.prompt.stop_ids
    encoded = rows.map_batches(
        partial(encoded_rows, encoder=Encoder(source, options, request)), batch_size=None, batch_format="pyarrow"
    )
    return processor(encoded).map_batches(
        partial(read_answers, stop_ids=stop_ids, base_seed=options.seed or 0, schema=schema),
        batch_size=None,
        batch_format="pyarrow",
    )


def encoded_rows(rows: pa.Table, encoder: Encoder) -> pa.Table:
    """Return packed rows with ids and sampling values; a row without a request asks for one token of nothing."""
    encoded = [encoder.encode(row) for row in rows.to_pylist()]
    kinds = {ID: pa.string(), _ROW: pa.binary(), _PROMPT: pa.list_(pa.int64()), _SAMPLING: None}
    return pa.table({name: pa.array([row[name] for row in encoded], kind) for name, kind in kinds.items()})


def read_answers(answered: pa.Table, stop_ids: tuple[int, ...], base_seed: int, schema: pa.Schema) -> pa.Table:
    """Return the output's columns of rows that come from vLLM. The error is read before anything reads the text."""
    rows: list[dict[str, Any]] = []
    answers: dict[str, Answer] = {}
    for line in answered.to_pylist():
        row, error = pickle.loads(line[_ROW])  # packed by this job's encoder
        rows.append(row)
        if not row[ERROR_CODE]:
            answers[row[ID]] = error or _answer(line, stop_ids, seed_of(row[ID], base_seed))
    staged = pa.schema([schema.field(name) for name in rows[0]])
    return answered_table(pa.Table.from_pylist(rows, staged), answers, schema)


def _answer(line: Mapping[str, Any], stop_ids: tuple[int, ...], seed: int) -> Answer:
    if line[_ERROR]:
        return EngineFailed(f"vLLM: {line[_ERROR]}")
    tokens = list(line["generated_tokens"])
    is_ended = bool(tokens) and tokens[-1] in stop_ids  # vLLM's step hands on no finish reason
    text = line["generated_text"]
    usage = Usage(line["num_input_tokens"], 0, len(tokens) - is_ended)
    rubric = parse(text, truncated=not is_ended)
    reason = "stop" if is_ended else "length"
    return RubricResult("", text, rubric, reason, usage, _NO_TIMES, seed, None, None, {})


def _ids(prompt: Prompt, request: str, context_length: int) -> tuple[list[int] | None, RubricrmError | None]:
    """Return a request's ids, or why there are none."""
    try:
        ids = prompt.encode_request(request)
    except RequestInvalid as error:
        return None, error
    if len(ids) < context_length:
        return ids, None
    what = f"the prompt has {len(ids)} tokens, and the model's context {context_length}. Shorten the request."
    return None, PromptTooLong(what)


@lru_cache(maxsize=1)
def _opened(prompt: Path) -> tuple[Prompt, Any]:
    """Return the prompt and the manifest: once in every process of Ray."""
    bundle = Bundle.open(prompt)
    facts = bundle.manifest
    tokenizer = Tokenizer.from_file(bundle.file(facts.tokenizer.file))
    return Prompt(facts.prompt, facts.chat, tokenizer), facts
