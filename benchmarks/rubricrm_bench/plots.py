"""Plots of a report as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#1f5fa8", "#b3261e", "#5f6368"
_SIZE = (6.4, 3.4)
_PLOT_STYLE: Any = {"svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


def report_plots(report: Mapping[str, Any]) -> list[str]:
    """Return the plots of a report's rows: latency, against lengths and requests in flight, roofline."""
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
    _legend_below(axes, len(rows))
    return _svg(figure)


def _legend_below(axes: Any, num_rows: int) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45 / (0.4 + 0.25 * num_rows)), ncols=2, frameon=False)


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
    axes.set_xticks(sorted({row["concurrency"] for row in rows}))
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


@mpl.rc_context(_PLOT_STYLE)
def rivals_plot(shape: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the plot of one shape: rows of `read_rivals`, the fastest token first."""
    figure = Figure(figsize=(_SIZE[0], 1.3 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    rows = sorted(rows, key=lambda row: float(row["tpot_ms_times_ours"]["median"]))
    for place, row in enumerate(rows):
        for key, color, shift in (("ttft_ms", _BLUE, -0.15), ("tpot_ms", _RED, 0.15)):
            found = row[f"{key}_times_ours"]
            axes.plot([found["min"], found["max"]], [place + shift] * 2, "-", color=color, alpha=0.5)
            axes.plot([found["median"]], [place + shift], "o", color=color, markersize=5)
    axes.axvline(1, color=_GREY, linewidth=1)
    axes.plot([], [], "o", color=_BLUE, label="first token")
    axes.plot([], [], "o", color=_RED, label="a token")
    axes.set_yticks(range(len(rows)), [row["name"].replace(":", " ") for row in rows])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times ours (right of the line: slower)", title=f"Prompt/new tokens {shape}")
    ticks = [tick for tick in (0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    _legend_below(axes, len(rows))
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
