"""`rubricrm plan`."""

from __future__ import annotations

import json

import click
from rubricrm.errors import OptionInvalid

from rubricrm_bench.devices import DEVICES, Device
from rubricrm_bench.plan import SIZES, ModelSize, Plan, fastest, make_plans, to_dict


@click.command()
@click.option(
    "--model", default="4b", show_default=True, metavar="|".join((*SIZES, "CONFIG")), help="Or a config.json."
)
@click.option("--device", "name", type=click.Choice(tuple(DEVICES)), help="A known device.")
@click.option("--memory", type=float, metavar="GB", help="Of another device.")
@click.option("--bandwidth", type=float, metavar="GB/s", help="Of another device.")
@click.option("--context", type=int, default=2048, show_default=True, metavar="N", help="Positions of a request.")
@click.option("--slots", type=int, default=1, show_default=True, metavar="M", help="Requests in memory at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    model: str, name: str | None, memory: float | None, bandwidth: float | None, context: int, slots: int, as_json: bool
) -> None:
    """Say which recipe fits a device, and how fast a token can be at best. Nothing is measured."""
    size, device = ModelSize.find(model), _find_device(name, memory, bandwidth)
    plans = make_plans(size, device, context, slots)
    if as_json:
        click.echo(json.dumps(to_dict(size, device, plans), indent=2))
    else:
        click.echo(_text(size, device, plans))


def _find_device(name: str | None, memory: float | None, bandwidth: float | None) -> Device:
    given = (memory, bandwidth)
    if name is not None and given == (None, None):
        return DEVICES[name]
    if name is None and memory is not None and bandwidth is not None:
        return Device("other", int(memory * 1e9), bandwidth * 1e9, False, "--memory and --bandwidth")
    raise OptionInvalid("name a device by --device, or give both --memory and --bandwidth.")


def _text(model: ModelSize, device: Device, plans: list[Plan]) -> str:
    head = f"{'recipe':16}{'weights':>9}{'KV':>9}{'other':>9}  {'fits':5}{'floor':>9}{'expected':>18}"
    lines = [
        f"{model.name} on {device.name}: {device.memory_bytes / 1e9:.0f} GB, {device.bytes_per_s / 1e9:.0f} GB/s "
        f"({device.source})",
        head,
    ]
    for found in plans:
        sizes = "".join(f"{size / 1e9:6.2f} GB" for size in (found.weight_bytes, found.kv_bytes, found.other_bytes))
        expected = f"{found.tokens_per_s[0]:.0f} to {found.tokens_per_s[1]:.0f} tok/s"
        fits = "yes" if found.fits else "no"
        lines.append(f"{found.recipe.name:16}{sizes}  {fits:5}{found.floor_ms:6.1f} ms{expected:>18}")
    best = fastest(plans)
    lines.append("Nothing fits." if best is None else f"Fastest that fits: {best.recipe.name} ({best.recipe.options})")
    return "\n".join(lines)
