"""The report of a GPU check as tables: answers beside the CPU's, latency beside the memory's floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ANSWERS = "| recipe | KL on the device | KL on the CPU twin | top-1 | same criteria |\n| --- | --- | --- | --- | --- |"
_LATENCY = (
    "| recipe | GB | export s | open ms | first token ms | ms per token | floor ms | of the floor |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def to_markdown(report: Mapping[str, Any]) -> str:
    """Return what `gpu-CARD.md` holds."""
    card = report["card"]
    where = f"{card['name']}, driver {card['driver_version']}" if card else "no GPU"
    title = "Rehearsal on the CPU provider" if report["is_rehearsal"] else "GPU check"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    rows = report["rows"]
    answers = [_answers_line(row) for row in rows if "demo" in row]
    latency = [_latency_line(row) for row in rows if "large" in row]
    return "\n".join(
        [
            f"# {title}: {where}",
            "",
            f"{versions}. {report['seconds']:.0f} s. KL in nats per token, against float32 on the CPU.",
            "",
            "The demo model:",
            "",
            _ANSWERS,
            *answers,
            "",
            f"Shape {report['shape']['name']}, random weights, one request of 390 prompt tokens and 200 new ones. The "
            "floor is the time that reading weights, keys and values takes at the measured rate of the memory:",
            "",
            _LATENCY,
            *latency,
            "",
        ]
    )


def _answers_line(row: Mapping[str, Any]) -> str:
    found = row["demo"]
    if "error" in found:
        return f"| {row['name']} | {found['error']} | | | |"
    exported = (found["exported_quality"] or {}).get("kl")
    agreement = found["rubric_agreement"]
    cells = [
        row["name"],
        f"{found['kl']:.2g}",
        "" if exported is None else f"{exported:.2g}",
        f"{found['top1_agreement']:.2%}",
        "" if agreement is None else f"{agreement:.1%}",
    ]
    return f"| {' | '.join(cells)} |"


def _latency_line(row: Mapping[str, Any]) -> str:
    found = row["large"]
    if "error" in found:
        return f"| {row['name']} | {found['error']} | | | | | | |"
    measured, share = found["row"], found["row"]["roofline"]["decode_share"]
    token = measured["tpot_ms"]["p50"]
    cells = [
        row["name"],
        f"{found['num_bytes'] / 1e9:.2f}",
        f"{found['export_s']:.0f}",
        f"{found['load_ms']['warm_ms']:,.0f}",
        f"{measured['ttft_ms']['p50']:,.0f}",
        f"{token:.2f}",
        f"{token * share:.2f}",
        f"{1 / share:.2f} x",
    ]
    return f"| {' | '.join(cells)} |"
