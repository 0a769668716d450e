#!/usr/bin/env python3
"""Write the tables of README.md, docs/BENCHMARKING.md and docs/QUANTIZATION*.md from what is kept in results/.

    measured.py

`results/rivals-4b/COMMIT.json` are of rivals.py, `results/bench-*.json` of `rubricrm bench --json`,
`results/opening-4b.json` of opening.py, `results/rubrics-4b.json` of rubric_rivals.py,
`results/quantization-*.json` of quantization_table.py, and `results/kv-float16.json` of kv_loss.py. The tables of
rivals are of the newest commit; one line per commit shows how ours went on. A test holds that the documents show what
this script would write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import kv_loss
from marked_table import insert
from quantization_rows import MODELS, limit_table, losses_in_short, read_rows, shown, tensorrt_table
from quantization_rows import table as loss_table
from rivals_table import table
from rubricrm_bench.rival_rows import TIMES, is_ranked, ratios

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_SHAPE = "390/200"
_RIVALS_HEADER = "| system | GB | first token, times ours | per token, times ours |\n| --- | --- | --- | --- |"
_COMMITS_HEADER = (
    "| measured | commit | processor | ours | first token ms | ms per token | fastest rival's first token, times ours "
    "| fastest rival's token, times ours |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)
_BENCH_HEADER = (
    "| result | GB | cold opening ms | warm opening ms | peak GB | prompt/new | first token ms | ms per token | "
    "times the floor | of the product |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def tables() -> Iterator[tuple[Path, str, str]]:
    """Yield each table: its document, its mark and its text."""
    commits = read_commits(RESULTS / "rivals-4b")
    rivals = commits[-1]
    reports = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("bench-*.json"))}
    yield ROOT / "README.md", "rivals", rivals_in_short(rivals)
    yield ROOT / "docs" / "BENCHMARKING.md", "rivals-4b", table(rivals)
    yield ROOT / "docs" / "BENCHMARKING.md", "rivals-4b-commits", commit_table(commits)
    yield ROOT / "docs" / "BENCHMARKING.md", "bench", bench_table(reports)
    opening = json.loads((RESULTS / "opening-4b.json").read_text("utf-8"))
    yield ROOT / "docs" / "BENCHMARKING.md", "opening", opening_table(opening)
    rubrics = json.loads((RESULTS / "rubrics-4b.json").read_text("utf-8"))
    yield ROOT / "docs" / "BENCHMARKING.md", "rubrics-4b", rubrics_table(rubrics)
    yield from _loss_tables()


def _loss_tables() -> Iterator[tuple[Path, str, str]]:
    page = ROOT / "docs" / "QUANTIZATION.md"
    yield ROOT / "README.md", "losses", losses_in_short(read_rows("smollm2"))
    yield page, "limits", limit_table()
    yield ROOT / "docs" / "TENSORRT.md", "losses", tensorrt_table(read_rows("smollm2"))
    for name in MODELS:
        rows = read_rows(name)
        yield page, name, loss_table(shown(rows))
        yield ROOT / "docs" / "QUANTIZATION_TABLES.md", name, loss_table(rows)
    yield page, "kv-float16", kv_loss.table(json.loads(kv_loss.RESULT.read_text("utf-8")))


def read_commits(folder: Path) -> list[dict[str, Any]]:
    """Read what rivals.py kept under a name, the oldest commit first; one without a row to show is left out."""
    kept = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    shown = [found for found in kept if any(_is_measured(facts) for facts in found["contenders"].values())]
    return sorted(shown, key=lambda found: found["began"])


def _is_measured(facts: Mapping[str, Any]) -> bool:
    return "rival" in facts["shapes"].get(_SHAPE, {})


def commit_table(commits: Sequence[Mapping[str, Any]]) -> str:
    """Return one line per commit: our times at one shape, and the fastest rival's as multiples of them."""
    return "\n".join([_COMMITS_HEADER, *(_commit_line(found) for found in commits)])


def _commit_line(found: Mapping[str, Any]) -> str:
    first, token = (our_median(found, key) for key in TIMES)
    cells = [found["began"][:10], f"`{found['commit']}`", found["machine"]["cpu"], found["ours"].replace(":", " ")]
    cells += [f"{first:,.0f}", f"{token:.1f}", *(_best_rival(found, key) for key in TIMES)]
    return "| " + " | ".join(cells) + " |"


def _best_rival(found: Mapping[str, Any], key: str) -> str:
    """Name the ranked rival that takes the fewest times ours; another variant of ours is none."""
    own = found["contenders"][found["ours"]]
    system = found["ours"].partition(":")[0]
    times = [
        (median(ratios(facts["shapes"][_SHAPE], key)), name.replace(":", " "))
        for name, facts in found["contenders"].items()
        if name.partition(":")[0] != system and _is_measured(facts) and is_ranked(own, facts)
    ]
    return "none" if not times else "{1}: {0:.2f}".format(*min(times))


def rivals_in_short(found: Mapping[str, Any]) -> str:
    """Return our times at one shape in a sentence, and a table of how many times that each system takes."""
    own = found["contenders"][found["ours"]]
    first, token = (our_median(found, key) for key in TIMES)
    ours = f"Ours takes {first:,.0f} ms to the first token and {token:,.0f} ms per token after it."
    lines = [ours, "", _RIVALS_HEADER, _line(found["ours"], own, ["1", "1"])]
    for name, facts in sorted(found["contenders"].items()):
        if name == found["ours"] or not _is_measured(facts):
            continue
        ranked = is_ranked(own, facts)
        times = [f"{median(ratios(facts['shapes'][_SHAPE], key)):.2f}" if ranked else "not ranked" for key in TIMES]
        lines.append(_line(name, facts, times))
    return "\n".join(lines)


def our_median(found: Mapping[str, Any], key: str) -> float:
    """Return the median of all our times beside the rivals."""
    rows = [facts["shapes"].get(_SHAPE, {}) for facts in found["contenders"].values()]
    return median(value for row in rows if "ours" in row for value in row["ours"][key])


def _line(name: str, facts: Mapping[str, Any], times: Sequence[str]) -> str:
    return f"| {name.replace(':', ' ')} | {facts['num_bytes'] / 1e9:.2f} | {times[0]} | {times[1]} |"


def bench_table(reports: Mapping[str, Any]) -> str:
    """Return one line per row of each report."""
    lines = [_BENCH_HEADER]
    for name, report in reports.items():
        lines += [_bench_line(name, report, row) for row in report["rows"] if row["concurrency"] == 1]
    return "\n".join(lines)


def _bench_line(name: str, report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    bundle, load, roofline = report["bundle"], report["load_ms"], row["roofline"]
    cells = [
        name,
        f"{bundle['num_bytes'] / 1e9:.2f}",
        f"{load['cold_ms']:,.0f}",
        f"{load['warm_ms']:,.0f}",
        f"{report['peak_rss_bytes'] / 1e9:.2f}",
        row["name"],
        f"{row['ttft_ms']['p50']:,.0f}",
        f"{row['tpot_ms']['p50']:.1f}",
        f"{1 / roofline['decode_share']:.2f}",
        f"{roofline['prefill_share']:.0%}",
    ]
    return "| " + " | ".join(cells) + " |"


def rubrics_table(report: Mapping[str, Any]) -> str:
    """Return one line per rival: all rubrics together, from a kept beginning and from nothing, as multiples of ours."""
    lines = [
        "| system | drafted, accepted | warm: seconds, ours | times ours | cold: seconds, ours | times ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, facts in report["rivals"].items():
        cells = [name.replace(":", " "), _drafts_cell(facts)]
        for start, found in facts["summary"].items():
            rows = [row for row in facts["rows"] if row["start"] == start]
            theirs, ours = (sum(row[side]["seconds"] for row in rows) for side in ("rival", "ours"))
            least, most = found["range"]
            cells += [f"{theirs:.1f}, {ours:.1f}", f"{found['times_ours']:.2f} ({least:.2f} to {most:.2f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _drafts_cell(facts: Mapping[str, Any]) -> str:
    if not facts["drafts"]:
        return "none"
    rows = [row["rival"]["drafts"] for row in facts["rows"] if row["start"] == "warm"]
    return "{:,}, {:,}".format(*(sum(counts) for counts in zip(*rows, strict=True)))


def opening_table(report: Mapping[str, Any]) -> str:
    """Return one line per part of an opening, and one per figure of the whole: median, least and most."""
    whole, count = report["whole"], report["prompt_tokens"]
    lines = ["| what | ms | anonymous MB after it |", "| --- | --- | --- |"]
    lines += [_opening_line(part["name"], part["ms"], part["anonymous_mb"]) for part in report["parts"]]
    lines.append(_opening_line("`RubricModel.open`, imports included", whole["open_ms"], whole["anonymous_mb"]))
    first = f"process start to the first token, prompt of {count} tokens, {report['cached_prompt_tokens']} restored"
    lines += [
        _opening_line(first, whole["first_token_ms"]),
        _opening_line("the same beyond its prefill", whole["beyond_prefill_ms"]),
    ]
    alone, (one, other) = whole["pss_mb"][0], report["two_processes_pss_mb"]
    shared = f"Proportional set size: {alone:,.0f} MB of one process, {one:,.0f} and {other:,.0f} MB of two at once."
    return "\n".join([*lines, "", shared])


def _opening_line(name: str, times: Sequence[float], sizes: Sequence[float] | None = None) -> str:
    cells = [name, *("{:,.0f} ({:,.0f} to {:,.0f})".format(*found) if found else "" for found in (times, sizes))]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Write them all."""
    for document, mark, text in tables():
        insert(document, mark, text)


if __name__ == "__main__":
    main()
