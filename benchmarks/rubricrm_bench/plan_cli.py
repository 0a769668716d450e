"""`rubricrm plan`."""

from __future__ import annotations

import json
import math

import click
from rubricrm.errors import OptionInvalid
from rubricrm_export.tensorrt.devices import DEVICES, FP8_CAPABILITY, ONNX_RUNTIME, DeviceFacts
from rubricrm_export.tensorrt.option_values import READERS

from rubricrm_bench.plan import SIZES, ModelSize, Plan, fastest, make_plans, to_dict


@click.command()
@click.option(
    "--model", default="4b", show_default=True, metavar="|".join((*SIZES, "CONFIG")), help="Or a config.json."
)
@click.option("--device", "name", type=click.Choice(tuple(DEVICES)), help="A known device.")
@click.option("--memory", type=float, metavar="GB", help="Of another device.")
@click.option("--bandwidth", type=float, metavar="GB/s", help="Of another device.")
@click.option("--for", "reader", type=click.Choice((*READERS, ONNX_RUNTIME)), help="Who runs it.  [default: any]")
@click.option("--context", type=int, default=2048, show_default=True, metavar="N", help="Positions of a request.")
@click.option("--slots", type=int, default=1, show_default=True, metavar="M", help="Requests in memory at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    model: str,
    name: str | None,
    memory: float | None,
    bandwidth: float | None,
    reader: str | None,
    context: int,
    slots: int,
    as_json: bool,
) -> None:
    """Say which exports fit a device, and how fast a token can be at best. Nothing is measured."""
    size, device = ModelSize.find(model), _find_device(name, memory, bandwidth)
    plans = [found for found in make_plans(size, device, context, slots) if reader in (None, found.export.reader)]
    if as_json:
        click.echo(json.dumps(to_dict(size, device, plans), indent=2))
    else:
        click.echo(_text(size, device, plans))


def _find_device(name: str | None, memory: float | None, bandwidth: float | None) -> DeviceFacts:
    given = (memory, bandwidth)
    if name is not None and given == (None, None):
        return DEVICES[name]
    if name is None and memory is not None and bandwidth is not None:
        if not (math.isfinite(memory) and math.isfinite(bandwidth)):
            raise OptionInvalid("memory and bandwidth must be positive numbers of GB and GB/s.")
        every = (*READERS, ONNX_RUNTIME)
        source = "--memory and --bandwidth"
        return DeviceFacts("other", FP8_CAPABILITY, int(memory * 1e9), bandwidth * 1e9, every, source)
    raise OptionInvalid("name a device by --device, or give both --memory and --bandwidth.")


def _text(model: ModelSize, device: DeviceFacts, plans: list[Plan]) -> str:
    lines = [
        f"{model.name} on {device.name}: {device.memory_bytes / 1e9:.0f} GB, {device.bytes_per_s / 1e9:.0f} GB/s "
        f"({device.source})",
        f"{'weights':>9}{'KV':>9}{'other':>9}  {'fits':5}{'floor':>9}{'expected':>22}  command",
        *map(_row, plans),
    ]
    best = fastest(plans)
    lines += ["", "The fastest that fits, for each reader:"] if best else ["", "Nothing fits."]
    lines += [f"{reader:17} {found.floor_ms:6.1f} ms  {found.command}" for reader, found in best.items()]
    return "\n".join(lines)


def _row(found: Plan) -> str:
    sizes = "".join(f"{size / 1e9:6.2f} GB" for size in (found.weight_bytes, found.kv_bytes, found.other_bytes))
    expected = f"{found.tokens_per_s[0]:.0f} to {found.tokens_per_s[1]:.0f} tokens/s"
    return f"{sizes}  {'yes' if found.fits else 'no':5}{found.floor_ms:6.1f} ms{expected:>22}  {found.command}"
