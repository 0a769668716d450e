"""A report as one page that needs nothing else: tables, and plots as SVG inside."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rubricrm_bench.plots import report_plots, rivals_plot
from rubricrm_bench.report import partial_text

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; min-width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #d5d8dd; white-space: nowrap; }
.facts th, .facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; }
.bad { background: #fce8e6; color: #8c1d18; padding: .6rem .8rem; } .good { background: #e6f4ea; padding: .6rem .8rem; }
dt { font-family: ui-monospace, monospace; margin-top: .4rem; } dd { margin-left: 1rem; }
"""


def to_html(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    bundle, server = report["bundle"], report["server"]
    title = f"{bundle['model']}, " + (f"{bundle['weights']} weights" if server is None else f"at {server['server']}")
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _verdict(report),
        "<h2>Rows</h2>",
        _rows_table(report["rows"]),
        *(f"<figure>{svg}</figure>" for svg in report_plots(report)),
        *_rivals(report["rivals"]),
        "<h2>Opening</h2>",
        _table(("", "value"), _opening(report)),
        "<h2>Bundle and machine</h2>",
        _table(("", "value"), _facts({**bundle, **(server or {}), **_flat(report["machine"])}), "facts"),
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
        return f'<p class="bad">{html.escape(partial_text(report))}</p>'
    if answers is not None and answers["right"] is None:
        return f'<p class="bad">Not ranked: {html.escape(answers["compared"])}.</p>'
    if answers is None or not answers["right"]:
        reason = "they were not compared" if answers is None else answers["compared"]
        return f'<p class="bad">Not ranked, the answers are wrong: {html.escape(reason)}</p>'
    return f'<p class="good">Answers compared: {html.escape(answers["compared"])}.</p>'


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["requests", "in flight", "n", "first token ms", "ms per token", "whole ms", "first criterion ms"]
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


def _rivals(rivals: Mapping[str, Any] | None) -> list[str]:
    """Return the part on other systems, if their results were given."""
    if rivals is None:
        return []
    rows = [row for row in rivals["rows"] if row["ranked"]]
    left_out = sorted({row["name"] for row in rivals["rows"] if not row["ranked"]})
    what = (
        f"Checkpoint {rivals['checkpoint']}, {rivals['threads']} threads of {rivals['cpu']}: each in turns with "
        f"{rivals['ours']}, in a run of its own. A dot is the median of how many times ours a rival takes, a line all "
        "pairs."
    )
    if left_out:
        what += f" Not ranked, their answers are of another model: {', '.join(left_out)}."
    shapes = dict.fromkeys(row["shape"] for row in rows)
    plots = [rivals_plot(shape, [row for row in rows if row["shape"] == shape]) for shape in shapes]
    return ["<h2>Rivals</h2>", f"<p>{html.escape(what)}</p>", *(f"<figure>{svg}</figure>" for svg in plots)]


def _opening(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    load, peak = report["load_ms"], report["peak_rss_bytes"]
    return [
        ("from the disk, ms", _plain(load["cold_ms"])),
        ("from the page cache, ms", _plain(load["warm_ms"])),
        ("peak resident memory, MB", _plain(None if peak is None else peak / 1e6)),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _spread(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{_plain(found['p50'])} ({_plain(found['p99'])})"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, _plain(value)) for key, value in found.items()]


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(facts)
    flat |= flat.pop("packages")
    flat["load_average"] = ", ".join(f"{load:.2f}" for load in flat["load_average"] or [])
    return flat
