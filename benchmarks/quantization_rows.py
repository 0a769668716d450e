"""What every recipe lost, as it is kept in results/: the commands that were measured, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from rubricrm_export.measure.verdict import LIMITS, default_limit
from rubricrm_export.onnx_bundle.options import OnnxExport
from rubricrm_export.quantize.scheme import Scheme

RESULTS = Path(__file__).resolve().parent / "results"
MODELS = ("smollm2", "demo")
# Options of `rubricrm export onnx`, each measured with every KV cache, in the order of the tables.
RECIPES = (
    "",
    "--weights int8",
    "--weights int8 --head model",
    "--weights int8 --method gptq",
    "--weights int8 --block-size 128",
    "--weights int8 --block-size channel --head model",
    "--weights int8 --activations int8 --method rtn",
    "--weights int8 --activations int8 --method smoothquant",
    "--weights fp8",
    "--weights fp8 --block-size channel",
    "--weights fp8 --activations fp8",
    "--weights int4",
    "--weights int4 --block-size 32",
    "--weights int4 --block-size 64",
    "--weights int4 --block-size 32 --head model",
    "--weights int4 --block-size 64 --head model",
    "--weights int4 --block-size 64 --symmetric --head model",
    "--weights int4 --block-size 128 --head model",
    "--weights int4 --block-size 64 --method awq",
    "--weights int4 --method awq",
    "--weights int4 --block-size 64 --method awq --head model",
    "--weights int4 --block-size 128 --method awq --head model",
    "--weights int4 --block-size 32 --method gptq",
    "--weights int4 --block-size 64 --method gptq",
    "--weights int4 --block-size 32 --method gptq --head model",
    "--weights int4 --block-size 64 --method gptq --head model",
    "--weights int4 --block-size 128 --method gptq --head model",
    "--weights int4 --block-size 128 --method gptq --head int8",
    "--weights int4 --method gptq",
)
# And these as they are.
TENSORRT = tuple(
    f"--target tensorrt {options}"
    for options in (
        "--weights fp8 --activations fp8",
        "--weights int8 --activations int8",
        "--weights int8 --activations int8 --method rtn",
        "--weights int4",
        "--weights int4 --block-size 64",
        "--weights int4 --method gptq",
        "--weights int4 --block-size 64 --method gptq",
    )
)
# What the page on quantization shows; the whole table is a page of its own.
SHOWN = (
    "--weights int8 --kv model",
    "--weights int8 --method gptq --kv model",
    "--weights int8 --activations int8 --method smoothquant --kv model",
    "--weights fp8 --kv model",
    "--weights int4 --kv model",
    "--weights int4 --block-size 32 --kv model",
    "--weights int4 --method gptq --kv model",
    "--weights int4 --block-size 128 --method gptq --head int8 --kv model",
)
# What the README recommends for a CPU.
IN_SHORT = ("--weights int8", "--weights int4 --method gptq", "--weights int4 --block-size 32")
HEADER = (
    "| options | recipe | bundle MB | KL, nats per token | standard error | top-1 % | perplexity | export s "
    "| peak MB |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)

Row = Mapping[str, Any]


def results_path(name: str) -> Path:
    """Return the file of a model's rows."""
    return RESULTS / f"quantization-{name}.json"


def read_rows(name: str) -> list[Row]:
    """Return a model's rows, in the order of the tables."""
    order = {f"{recipe} --kv".strip(): place for place, recipe in enumerate((*RECIPES, *TENSORRT))}
    rows: list[Row] = json.loads(results_path(name).read_text("utf-8"))
    return sorted(rows, key=lambda row: order[f"{without_kv(row)} --kv".strip()])


def options_of(command: str) -> str:
    """Return the options of a command that decide what is stored."""
    _, _, rest = command.partition("-o BUNDLE ")
    kept, words = [], iter(rest.split())
    for word in words:
        if word in ("--eval-text", "--prompt-template"):
            next(words)
        elif word != "--no-rubrics":
            kept.append(word)
    return " ".join(kept)


def without_kv(row: Row) -> str:
    """Return the options of a row but for its KV cache."""
    return options_of(row["command"]).partition("--kv")[0].strip()


def scheme_of(command: str) -> Scheme:
    """Return the scheme that a command asks for."""
    words = iter(options_of(command).split())
    options: dict[str, Any] = {}
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        options[name] = True if name == "symmetric" else next(words)
    return OnnxExport("checkpoint", Path("bundle"), **options).scheme("bf16")


def described(command: str) -> dict[str, str]:
    """Return the command of a row, and its recipe in words."""
    return {"command": command, "recipe": scheme_of(command).recipe}


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table."""
    return "\n".join([HEADER, *map(_line, rows)])


def shown(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of `SHOWN`, in its order."""
    by_options = {options_of(row["command"]): row for row in rows}
    return [by_options[options] for options in SHOWN]


def tensorrt_table(rows: Iterable[Row]) -> str:
    """Return the rows of `TENSORRT` as a Markdown table."""
    lines = [
        "| SmolLM2, options | MB | KL, nats per token | top-1 % | perplexity |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if (options := options_of(row["command"])) in TENSORRT:
            figures = f"{row['num_bytes'] / 1e6:.1f} | {row['kl']:.4f} | {100 * row['top1_agreement']:.1f}"
            lines.append(f"| `{options}` | {figures} | {row['perplexity']:.3f} |")
    return "\n".join(lines)


def limit_table() -> str:
    """Return the default limits of `measure.verdict` as a Markdown table."""
    lines = ["| weights | activations | refused beyond, nats per token | because |", "| --- | --- | ---: | --- |"]
    lines += [
        f"| {weights} | {inputs} | {limit.max_kl:g} | {limit.reason} |" for (weights, inputs), limit in LIMITS.items()
    ]
    return "\n".join(lines)


def losses_in_short(rows: Sequence[Row]) -> str:
    """Return what the recipes that the README names lost, each with its options."""
    by_options = {options_of(row["command"]).removesuffix(" --kv model"): row for row in rows}
    return f"SmolLM2-135M-Instruct lost, in nats per token: {', '.join(_lost(by_options[name]) for name in IN_SHORT)}."


def _lost(row: Row) -> str:
    is_refused = row["kl"] > default_limit(scheme_of(row["command"])).max_kl
    options = options_of(row["command"]).removesuffix(" --kv model")
    return f"{row['kl']:.2g} by `{options}`" + (" (refused without `--max-kl`)" if is_refused else "")


def _line(row: Row) -> str:
    cells = [
        f"`{options_of(row['command'])}`",
        row["recipe"],
        f"{row['num_bytes'] / 1e6:.1f}",
        f"{row['kl']:.4f}",
        "" if row["kl_stderr"] is None else f"{row['kl_stderr']:.4f}",
        f"{100 * row['top1_agreement']:.1f}",
        f"{row['perplexity']:.3f}",
        "" if row["export_s"] is None else f"{row['export_s']:.0f}",
        "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def usual_kl() -> dict[str, tuple[float | None, float]]:
    """Return what `measure.verdict` states of each recipe that SmolLM2 was measured by.

    The least that the demo model lost and the most that SmolLM2 did, of all KV caches; two digits, and all lie between.
    """
    by_model = {name: read_rows(name) for name in MODELS}
    found: dict[str, tuple[float | None, float]] = {}
    for recipe in dict.fromkeys(row["recipe"] for row in by_model["smollm2"]):
        demo, smollm2 = (
            [row["kl"] for row in by_model[name] if row["recipe"] == recipe] for name in ("demo", "smollm2")
        )
        low = _rounded(min(demo), ROUND_FLOOR) if demo else None
        found[recipe] = low, _rounded(max(smollm2), ROUND_CEILING)
    return found


def _rounded(value: float, how: str) -> float:
    exact = Decimal(str(value))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), how))
