"""The arrows between rooms, drawn from the imports: `python tests/references/room_arrows.py` prints a Mermaid graph.

A room is a folder of a package, or the modules that lie directly in a package. `ORDER` lists the rooms of each package
so that a room may import only what stands before it.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "rubricrm": ROOT / "sdk/python/rubricrm",
    "rubricrm_export": ROOT / "export/rubricrm_export",
    "rubricrm_bench": ROOT / "benchmarks/rubricrm_bench",
    "rubricrm_serve": ROOT / "serve/rubricrm_serve",
    "rubricrm_batch": ROOT / "batch/rubricrm_batch",
    "rubricrm_reward": ROOT / "reward/rubricrm_reward",
}
# Those whose code is at its end: none imports another of them, but for the server's /get_reward.
ENDS = ("rubricrm_serve", "rubricrm_batch", "rubricrm_reward")
ALLOWED = ("rubricrm_serve", "rubricrm_reward")
ORDER = {
    "rubricrm": (
        "errors",
        "_version",
        "api_keys",
        "text_file",
        "text_input",
        "rubric",
        "runtime",
        "generation",
        "remote",
        "engines",
        "text_model",
        "model",
        "async_model",
        "judge",
        "served_model",
        "server_options",
        "doctor",
        "judge_cli",
        "generate_cli",
        "phrases_cli",
        "prompt_cli",
        "cli",
        "__main__",
    ),
    "rubricrm_export": (
        "errors",
        "system",
        "checkpoint",
        "quantize",
        "graph",
        "calibrate",
        "measure",
        "onnx_bundle",
        "tensorrt",
        "tensorrt_lint",
        "tensorrt_build",
        "certify",
        "cli",
    ),
    "rubricrm_bench": (),
    "rubricrm_serve": (),
    "rubricrm_batch": (),
    "rubricrm_reward": (),
}

Arrow = tuple[str, str]


def room_of(module: str) -> str:
    """Return the room of a dotted module name: `rubricrm.runtime.bundle` is in `rubricrm.runtime`."""
    return ".".join(module.split(".")[:2]) if ORDER[module.split(".")[0]] else module.split(".")[0]


def imported_modules(path: Path) -> set[str]:
    """Return the modules of our packages that a file imports, at its top or inside a function."""
    tree = ast.parse(path.read_text("utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def room_arrows() -> Counter[Arrow]:
    """Count the imports from each room to each other room; a package's own `__init__` is no room."""
    arrows: Counter[Arrow] = Counter()
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            if inside == ("__init__",):
                continue
            room = room_of(".".join((package, *inside)))
            for module in imported_modules(path):
                target = room_of(module)
                if (target != room and target not in PACKAGES) or (not ORDER[target.split(".")[0]] and target != room):
                    arrows[room, target] += 1
    return arrows


def runs_back(arrow: Arrow) -> bool:
    """Whether an arrow points to a later room of its package, or from the SDK to another package."""
    (package, _, room), (target_package, _, target) = (name.partition(".") for name in arrow)
    if package != target_package:
        if package in ENDS or target_package in ENDS:
            return target_package != "rubricrm" and (package, target_package) != ALLOWED
        order = ("rubricrm", "rubricrm_export", "rubricrm_bench")
        return order.index(target_package) > order.index(package)
    order = ORDER[package]
    return order.index(target) > order.index(room)


def mermaid(arrows: Counter[Arrow]) -> str:
    """Return a Mermaid flow chart whose arrows carry the number of imports."""
    lines = [f"  {start} -->|{count}| {end}" for (start, end), count in sorted(arrows.items())]
    return "\n".join(["flowchart LR", *lines])


if __name__ == "__main__":
    print(mermaid(room_arrows()))
