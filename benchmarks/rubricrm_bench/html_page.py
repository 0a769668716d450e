"""A report as one page that needs nothing else: tables, and plots as SVG inside."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#1f5fa8", "#b3261e", "#5f6368"
_SIZE = (6.4, 3.4)
_PLOT_STYLE: Any = {"svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; min-width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #d5d8dd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; }
.bad { background: #fce8e6; color: #8c1d18; padding: .6rem .8rem; } .good { background: #e6f4ea; padding: .6rem .8rem; }
dt { font-family: ui-monospace, monospace; margin-top: .4rem; } dd { margin-left: 1rem; }
"""


def to_html(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    bundle = report["bundle"]
    title = f"{bundle['model']}, {bundle['weights']} weights"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _verdict(report),
        "<h2>Rows</h2>",
        _rows_table(report["rows"]),
        *(f"<figure>{svg}</figure>" for svg in _plots(report)),
        "<h2>Opening</h2>",
        _table(("", "value"), _opening(report)),
        "<h2>Bundle and machine</h2>",
        _table(("", "value"), [(key, _plain(value)) for key, value in {**bundle, **_flat(report["machine"])}.items()]),
        "<h2>Formulas</h2>",
        "<dl>" + "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in report["formulas"].items()) + "</dl>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _verdict(report: Mapping[str, Any]) -> str:
    answers = report["answers"]
    if report["partial"]:
        return '<p class="bad">Partial: the run was interrupted.</p>'
    if answers is None or not answers["right"]:
        reason = "they were not compared" if answers is None else answers["compared"]
        return f'<p class="bad">Not ranked, the answers are wrong: {html.escape(reason)}</p>'
    return f'<p class="good">Answers compared: {html.escape(answers["compared"])}.</p>'


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["requests", "in flight", "n", "first token ms", "ms a token", "whole ms", "first criterion ms"]
    head += ["decode tokens/s", "prefill tokens/s", "rubrics/min", "good/min", "bandwidth", "multiply rate"]
    cells = []
    for row in rows:
        roofline = row["roofline"] or {}
        cells.append(
            (
                row["name"] + ("" if row["ranked"] else " (not ranked)"),
                str(row["concurrency"]),
                str(len(row["samples"])),
                *(_spread(row[key]) for key in ("ttft_ms", "tpot_ms", "e2e_ms", "first_criterion_ms")),
                *(_plain(row[key]) for key in ("decode_tokens_per_s", "prefill_tokens_per_s")),
                *(_plain(row[key]) for key in ("rubrics_per_min", "goodput_per_min")),
                *(_percent(roofline.get(key)) for key in ("decode_share", "prefill_share")),
            )
        )
    return _table(head, cells) + "<p>Medians, with the 99th percentile in parentheses.</p>"


def _opening(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    load, peak = report["load_ms"], report["peak_rss_bytes"]
    return [
        ("from the disk, ms", _plain(load["cold_ms"])),
        ("from the page cache, ms", _plain(load["warm_ms"])),
        ("peak resident memory, MB", _plain(None if peak is None else peak / 1e6)),
    ]


def _plots(report: Mapping[str, Any]) -> list[str]:
    rows = [row for row in report["rows"] if row["ttft_ms"]]
    with mpl.rc_context(_PLOT_STYLE):
        plots = [_latency_plot(rows)] if rows else []
        shapes = [row for row in rows if "/" in row["name"] and row["concurrency"] == 1]
        if len(shapes) > 1:
            plots.append(_length_plot(shapes))
        if len({row["concurrency"] for row in rows}) > 1:
            plots.append(_concurrency_plot(rows))
        if report["roofline"] and any(row["roofline"] for row in rows):
            plots.append(_roofline_plot(report["roofline"], [row for row in rows if row["roofline"]]))
    return plots


def _latency_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    figure = Figure(figsize=(_SIZE[0], 1.2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{row['name']} x{row['concurrency']}" for row in rows]
    for place, row in enumerate(rows):
        for key, color, shift in (("ttft_ms", _BLUE, 0.15), ("e2e_ms", _RED, -0.15)):
            samples = row[key]["samples"]
            axes.plot(samples, [place + shift] * len(samples), "|", color=color, alpha=0.5, markersize=9)
            axes.plot([row[key]["p50"]], [place + shift], "o", color=color, markersize=5)
    axes.plot([], [], "o", color=_BLUE, label="first token")
    axes.plot([], [], "o", color=_RED, label="whole answer")
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="milliseconds (each request a stroke, the median a dot)", title="Latency")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45 / (0.4 + 0.25 * len(rows))), ncols=2, frameon=False)
    return _svg(figure)


def _length_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _axes("Latency against the prompt's length", "prompt tokens", "first token, ms")
    points = sorted((row["samples"][0]["prompt_tokens"], row["ttft_ms"]["p50"], row["ttft_ms"]["p99"]) for row in rows)
    lengths, medians, tails = zip(*points, strict=True)
    axes.plot(lengths, medians, "o-", color=_BLUE, label="median")
    axes.plot(lengths, tails, "o--", color=_GREY, label="99th percentile")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def _concurrency_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _axes("Requests in flight", "in flight", "whole answer, ms (median)")
    for name in dict.fromkeys(row["name"] for row in rows):
        points = sorted((row["concurrency"], row["e2e_ms"]["p50"]) for row in rows if row["name"] == name)
        axes.plot(*zip(*points, strict=True), "o-", label=name)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def _roofline_plot(limits: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _axes("Roofline", "operations a byte read", "operations/s")
    bandwidth, multiply = limits["read_bytes_per_s"], limits["flops_per_s"]
    ridge = multiply / bandwidth
    span = [ridge / 300, ridge, ridge * 100]
    axes.plot(span, [min(x * bandwidth, multiply) for x in span], color=_GREY)
    for row in rows:
        found = row["roofline"]
        read = limits["weight_bytes"]
        # A prompt's tokens share one reading of the weights, a decoded token has it for itself.
        prompt = max(1, row["samples"][0]["prompt_tokens"] - row["samples"][0]["cached_tokens"])
        per_token = found["prefill_flops_per_s"] / row["prefill_tokens_per_s"]
        axes.plot([per_token / read], [per_token * row["decode_tokens_per_s"]], "o", color=_RED)
        axes.plot([per_token * prompt / read], [found["prefill_flops_per_s"]], "s", color=_BLUE)
    axes.plot([], [], "o", color=_RED, label="decode")
    axes.plot([], [], "s", color=_BLUE, label="prefill")
    axes.set(xscale="log", yscale="log")
    axes.legend(frameon=False)
    return _svg(figure)


def _axes(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _spread(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{_plain(found['p50'])} ({_plain(found['p99'])})"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(facts)
    flat |= flat.pop("packages")
    flat["load_average"] = ", ".join(f"{load:.2f}" for load in flat["load_average"] or [])
    return flat
