"""What rivals.py kept, as one table per shape: ours first, ratios pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rubricrm_bench.rival_rows import TIMES, is_ranked, ratios

_HEADER = (
    "| system | GB | peak GB | first token ms | times ours | ms per token | times ours | agrees | same |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table(found: Mapping[str, Any]) -> str:
    """Return one Markdown table per shape, the fastest token first; then what failed, and how each was run."""
    contenders = dict(found["contenders"])
    own = contenders.pop(found["ours"], None)
    shapes = list(dict.fromkeys(shape for facts in contenders.values() for shape in facts["shapes"]))
    parts = [_table_of(shape, found["ours"], own, contenders) for shape in shapes]
    failed = {name: facts["error"] for name, facts in contenders.items() if facts["error"]}
    for shape in shapes:
        rows = {name: facts["shapes"].get(shape, {}) for name, facts in contenders.items()}
        failed |= {f"{name} {shape}": row["error"] for name, row in rows.items() if "error" in row}
    parts += ["\n".join(f"- {name} failed: {error}" for name, error in failed.items())] if failed else []
    settings: dict[str, dict[str, Any]] = {}
    for name, facts in found["contenders"].items():
        if "settings" in facts:
            system, _, variant = name.partition(":")
            settings.setdefault(system, {})[variant] = facts
    parts.append("\n".join(_how(system, variants) for system, variants in sorted(settings.items())))
    return "\n\n".join(parts)


def _how(system: str, variants: Mapping[str, Any]) -> str:
    facts = next(iter(variants.values()))
    pins = ", ".join(pin.format(root="rubricrm") for pin in facts["requirements"] if not pin.startswith("-"))
    runs: dict[str, list[str]] = {}
    for variant, of_variant in variants.items():
        if of_variant["runs"]:
            runs.setdefault(of_variant["runs"], []).append(variant)
    here = "; ".join(f"{' and '.join(names)} ran {what}" for what, names in runs.items())
    return f"- {system}: {facts['settings']} (`{pins}`)" + (f" Here {here}." if here else "")


def _table_of(shape: str, own_name: str, own: Mapping[str, Any], contenders: Mapping[str, Any]) -> str:
    measured = {
        name: (facts, facts["shapes"][shape])
        for name, facts in contenders.items()
        if "ours" in facts["shapes"].get(shape, {})
    }
    lines = [f"Prompt/new tokens {shape}:", "", _HEADER]
    if measured:
        lines.append(_own_line(own_name, own, [row["ours"] for _, row in measured.values()]))
    lines += [line for _, line in sorted(_line(name, own, *pair) for name, pair in measured.items())]
    return "\n".join(lines)


def _own_line(name: str, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    together = {key: [value for row in rows for value in row[key]] for key in TIMES}
    peak = max(row["peak_rss_bytes"] for row in rows)
    return _cells(name, facts, peak, _spread(together["ttft_ms"], 0), "", _spread(together["tpot_ms"], 1), "")


def _line(name: str, own: Mapping[str, Any], facts: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, str]:
    rival = row["rival"]
    first, token = (_spread(ratios(row, key), 2) if is_ranked(own, facts) else "not ranked" for key in TIMES)
    line = _cells(
        name,
        facts,
        rival["peak_rss_bytes"],
        f"{median(rival['ttft_ms']):.0f}",
        first,
        f"{median(rival['tpot_ms']):.1f}",
        token,
    )
    return median(ratios(row, "tpot_ms")), line


def _cells(name: str, facts: Mapping[str, Any], peak: int, *cells: str) -> str:
    sizes = f"{facts['num_bytes'] / 1e9:.2f}", f"{peak / 1e9:.2f}"
    return (
        "| "
        + " | ".join(
            [name.replace(":", " "), *sizes, *cells, f"{facts['agreement']:.0%}", f"{facts['same_first']:.0%}"]
        )
        + " |"
    )


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
