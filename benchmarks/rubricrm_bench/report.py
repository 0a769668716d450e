"""A result as JSON and as Markdown. Units stand in the names: ms, s, bytes, per_s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rubricrm.runtime.byte_size import byte_text

from rubricrm_bench.bench import BenchResult
from rubricrm_bench.distribution import distribution
from rubricrm_bench.roofline import Limits, kv_bytes, prefill_flops, weight_bytes
from rubricrm_bench.rows import RowRun
from rubricrm_bench.sample import Sample

FORMULAS = {
    "ttft_ms": "from the call, with the request's text, to the first token: template, tokenizing, waiting and prefill",
    "e2e_ms": "from the call to the last token",
    "tpot_ms": "(e2e_ms - ttft_ms) / (new_tokens - 1)",
    "first_criterion_ms": "from the call to the end of the first criterion's line",
    "prefill_tokens_per_s": "(prompt tokens - restored ones) / prefill_ms, of all samples together",
    "decode_tokens_per_s": "(new tokens - 1) / (e2e - ttft), of all samples together",
    "rubrics_per_min": "requests that ended / wall time",
    "goodput_per_min": "requests that ended within every limit of --slo / wall time",
    "rubrics_per_min_per_gb": "rubrics_per_min / peak_rss_bytes in GB",
    "draft_acceptance": "drafted tokens that came true / drafted tokens that were verified; with --draft",
    "grammar_overrules": "how often the form of a rubric overruled the model, in all samples",
    "decode_bytes_per_s": "(weights + keys and values of the mean position) * decode_tokens_per_s; at concurrency 1",
    "prefill_flops_per_s": "2 * (parameters without the embedding) * prefill_tokens_per_s; at concurrency 1",
    "percentiles": "linear between samples",
}
_FIELDS = ("ttft_ms", "tpot_ms", "e2e_ms", "first_criterion_ms")


def to_dict(result: BenchResult) -> dict[str, Any]:
    """Return a result in JSON's types."""
    bundle = result.subject.bundle
    return {
        "partial": result.is_partial,
        "failure": None if result.failure is None else str(result.failure),
        "bundle": {
            "path": bundle.path.name,
            "manifest_sha256": bundle.manifest_sha256,
            **result.subject.weights_facts(),
        },
        "server": result.subject.server_facts(),
        "machine": {**result.machine, "threads": result.subject.threads},
        "options": {
            "warmup": result.job.warmup,
            "repeat": result.job.repeat,
            "openings": result.job.openings,
            "duration_s": result.job.duration_s,
            "slo_ms": dict(result.job.slo),
        },
        "answers": None if result.proof is None else {"right": result.proof.is_right, "compared": result.proof.reason},
        "load_ms": {key: result.opening.get(key) for key in ("cold_ms", "warm_ms")},
        "peak_rss_bytes": result.opening.get("peak_rss_bytes"),
        "roofline": _limits(result),
        "rows": [_row(result, run) for run in result.rows],
        "formulas": FORMULAS,
    }


def _limits(result: BenchResult) -> dict[str, Any] | None:
    limits = result.limits
    if limits is None:
        return None
    return {
        "read_bytes_per_s": limits.read_bytes_per_s,
        "read_bytes": limits.read_bytes,
        "flops_per_s": limits.flops_per_s,
        "weight_bytes": weight_bytes(result.subject.bundle),
    }


def _row(result: BenchResult, run: RowRun) -> dict[str, Any]:
    samples = run.samples
    return {
        "name": run.row.name,
        "concurrency": run.row.concurrency,
        "partial": run.is_partial,
        "ranked": bool(result.proof and result.proof.is_right) and not run.is_partial,
        "wall_s": run.wall_s,
        **{key: distribution([getattr(sample, key) for sample in samples]) for key in _FIELDS},
        "prefill_tokens_per_s": prefill_rate(samples),
        "decode_tokens_per_s": decode_rate(samples),
        "rubrics_per_min": 60 * len(samples) / run.wall_s if run.wall_s else None,
        "goodput_per_min": _goodput(run, result.job.slo),
        "rubrics_per_min_per_gb": _per_gb(samples, run.wall_s, result.opening.get("peak_rss_bytes")),
        "draft_acceptance": _acceptance(samples),
        "grammar_overrules": _total(sample.overrules for sample in samples),
        "roofline": _shares(result, run, result.limits),
        "samples": [{k: v for k, v in sample.to_dict().items() if k != "text"} for sample in samples],
    }


def _per_gb(samples: list[Sample], wall_s: float, peak_rss_bytes: float | None) -> float | None:
    return 60 * len(samples) / wall_s / (peak_rss_bytes / 1e9) if wall_s and peak_rss_bytes else None


def _acceptance(samples: list[Sample]) -> float | None:
    drafted = _total(sample.drafted_tokens for sample in samples)
    accepted = _total(sample.accepted_tokens for sample in samples)
    return accepted / drafted if drafted and accepted is not None else None


def _total(values: Iterable[int | None]) -> int | None:
    """Return a sum; None where nobody tells one of them."""
    told = list(values)
    return None if None in told else sum(value for value in told if value is not None)


def prefill_rate(samples: list[Sample]) -> float | None:
    """Return computed prompt tokens per second; None where nobody tells how long they took."""
    told = [
        (s.prompt_tokens - s.cached_tokens, s.prefill_ms)
        for s in samples
        if s.cached_tokens is not None and s.prefill_ms is not None
    ]
    seconds = sum(prefill_ms for _, prefill_ms in told) / 1000
    return sum(tokens for tokens, _ in told) / seconds if seconds else None


def decode_rate(samples: list[Sample]) -> float | None:
    """Return tokens per second after the first, as one sender sees them."""
    decoded = [sample for sample in samples if sample.tpot_ms is not None]
    tokens = sum(sample.new_tokens - 1 for sample in decoded)
    seconds = sum(sample.e2e_ms - (sample.ttft_ms or 0) for sample in decoded) / 1000
    return tokens / seconds if seconds else None


def _goodput(run: RowRun, slo: Mapping[str, float]) -> float | None:
    if not slo or not run.wall_s:
        return None
    good = sum(all(_within(sample, key, limit) for key, limit in slo.items()) for sample in run.samples)
    return 60 * good / run.wall_s


def _within(sample: Sample, key: str, limit: float) -> bool:
    value = getattr(sample, f"{key}_ms")
    return value is not None and value <= limit


def _shares(result: BenchResult, run: RowRun, limits: Limits | None) -> dict[str, float] | None:
    """Return what a row achieved of the machine's limits; of rows with one request in flight."""
    prefill, decode = prefill_rate(run.samples), decode_rate(run.samples)
    if limits is None or run.row.concurrency != 1 or prefill is None or decode is None:
        return None
    # A token in the middle of an answer sees the prompt and half of the answer.
    mean_position = sum(s.prompt_tokens + s.new_tokens / 2 for s in run.samples) / len(run.samples)
    bundle = result.subject.bundle
    read = (weight_bytes(bundle) + kv_bytes(bundle, mean_position)) * decode
    multiplied = prefill_flops(bundle, 1) * prefill
    return {
        "decode_bytes_per_s": read,
        "decode_share": read / limits.read_bytes_per_s,
        "prefill_flops_per_s": multiplied,
        "prefill_share": multiplied / limits.flops_per_s,
    }


def to_markdown(report: Mapping[str, Any]) -> str:
    """Return a report's table and what it belongs to."""
    lines = [
        _heading(report),
        "",
        "| requests | in flight | first token ms | ms per token | whole ms | tokens/s | rubrics/min | of bandwidth |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(row) for row in report["rows"]]
    answers = report["answers"]
    if answers is None:
        lines += ["", "**Interrupted before the answers were compared.**"]
    elif answers["right"] is None:
        lines += ["", f"**Not ranked:** {answers['compared']}."]
    elif not answers["right"]:
        lines += ["", f"**Not ranked, the answers are wrong:** {answers['compared']}"]
    else:
        lines += ["", f"Answers compared: {answers['compared']}."]
    if report["partial"]:
        lines += ["", f"**{partial_text(report)}**"]
    lines += ["", "Medians, with the 99th percentile in parentheses."]
    return "\n".join(lines) + "\n"


def partial_text(report: Mapping[str, Any]) -> str:
    """Return what ended a run that is not whole."""
    failure = report["failure"]
    return "Partial: the run was interrupted." if failure is None else f"Partial: the server failed. {failure}"


def _heading(report: Mapping[str, Any]) -> str:
    bundle, server, machine = report["bundle"], report["server"], report["machine"]
    if server is not None:
        return (
            f"`{bundle['model']}` at {server['server']} ({server['dialect']}), weights and machine unknown; asked by "
            f"one process on {machine['cpu']}."
        )
    return (
        f"`{bundle['model']}`, weights {bundle['weights']} ({bundle['method']}), KV cache {bundle['kv_type']}, "
        f"{byte_text(bundle['num_bytes'])}; {machine['threads']} threads of {machine['cpu']}."
    )


def _line(row: Mapping[str, Any]) -> str:
    roofline = row["roofline"]
    share = f"{roofline['decode_share']:.0%}" if roofline else ""
    name = row["name"] if row["ranked"] else f"{row['name']} (not ranked)"
    cells = [name, str(row["concurrency"]), *(_median(row[key]) for key in ("ttft_ms", "tpot_ms", "e2e_ms"))]
    return (
        "| " + " | ".join([*cells, _number(row["decode_tokens_per_s"]), _number(row["rubrics_per_min"]), share]) + " |"
    )


def _median(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{_number(found['p50'])} ({_number(found['p99'])})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
