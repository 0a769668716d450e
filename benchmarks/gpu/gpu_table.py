"""The report of a GPU check as tables: answers beside the CPU's, latency beside the memory's floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ANSWERS = (
    "| recipe | KL on the device | by its export, on another text | top-1 | same criteria |\n"
    "| --- | --- | --- | --- | --- |"
)
_LATENCY = (
    "| recipe | GB | export s | open ms | first token ms | ms per token | floor ms | of the floor |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)
_STEPS = (
    "| recipe | KL | top-1 | answers | as on model.onnx alone | and together | largest gap where not |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)
_MANY = (
    "| recipe | graph | sequences | tokens/s | ms of a step | ms between tokens | newcomer's first token, and alone "
    "| longest gap of the others, ms |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
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
    steps = [_steps_line(row) for row in rows if "steps" in row]
    many = [line for row in rows if "many" in row for line in _many_lines(row)]
    return "\n".join(
        [
            f"# {title}: {where}",
            "",
            f"{versions}. {report['seconds']:.0f} s. KL in nats per token, against float32 on the CPU.",
            "",
            *([report["note"], ""] if "note" in report else []),
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
            "The demo model on its graph of steps, model.step.onnx; a gap is that of two logits where answers part:",
            "",
            _STEPS,
            *steps,
            "",
            f"Several sequences of shape {report['shape']['name']}, the fixed prompt restored, 24 tokens of their own "
            "and 64 new ones each:",
            "",
            _MANY,
            *many,
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
        f"{found['export_s']:.0f}" if "export_s" in found else "",
        f"{found['load_ms']['warm_ms']:,.0f}",
        f"{measured['ttft_ms']['p50']:,.0f}",
        f"{token:.2f}",
        f"{token * share:.2f}",
        f"{1 / share:.2f} x",
    ]
    return f"| {' | '.join(cells)} |"


def _steps_line(row: Mapping[str, Any]) -> str:
    found = row["steps"]
    if "error" in found:
        return f"| {row['name']} | {found['error']} | | | | | |"
    many = found["many"]
    cells = [row["name"], f"{found['kl']:.2g}", f"{found['top1_agreement']:.2%}"]
    if "error" in many:
        return f"| {' | '.join(cells)} | {many['error']} | | | |"
    compared = many["compared"]
    count, gaps = compared["answers"], compared["gaps_where_different"]
    cells += [str(count), *(str(count - len(gaps[name])) for name in ("alone", "together"))]
    cells.append(f"{max([*gaps['alone'], *gaps['together']], default=0):.2g}")
    return f"| {' | '.join(cells)} |"


def _many_lines(row: Mapping[str, Any]) -> Iterator[str]:
    for graph, found in row["many"].items():
        if "error" in found:
            yield f"| {row['name']} | {graph} | {found['error']} | | | | | |"
            continue
        for measured in found["rows"]:
            cells = [row["name"], found["kv_update"], str(measured["sequences"])]
            if "error" in measured:
                yield f"| {' | '.join(cells)} | {measured['error']} | | | | |"
                continue
            cells += [f"{measured['tokens_per_s']:.0f}", f"{measured['step_ms']:.2f}", f"{measured['gap_ms']:.2f}"]
            new = measured["newcomer"]
            cells += (
                ["", ""]
                if new is None
                else [
                    f"{new['first_token_ms']:.0f}, {new['first_token_alone_ms']:.0f}",
                    f"{new['longest_gap_ms']:.0f}",
                ]
            )
            yield f"| {' | '.join(cells)} |"
