"""Which graph of a bundle to run: the first whose words this version knows and whose device is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rubricrm.errors import GraphUnusable, OptionInvalid, RuntimeMissing
from rubricrm.runtime.kernels import Kernels
from rubricrm.runtime.manifest import DEVICES, FLOAT_TYPES, KV_TYPES, LAYOUTS, STANDARD_LAYOUT, TARGETS, GraphFacts

# The newest versions of operator domains whose operators were run.
DOMAINS = {"ai.onnx": 24, "com.microsoft": 1, "rubricrm": 1}
# Ways to append to the KV cache, by target.
KV_UPDATES = {"cpu": ("slots", "shared", "concatenate"), "cuda": ("paged", "shared"), "tensorrt": ("scatter",)}


@dataclass(frozen=True)
class GraphChoice:
    """A graph, and the device to run it on."""

    graph: GraphFacts
    device: str


def choose_graph(
    graphs: Sequence[GraphFacts],
    device: str | None,
    device_problem: Callable[[str], str | None],
    where: str,
    kernels: Kernels,
) -> GraphChoice:
    """Return the first graph that can be run, and where.

    Args:
        graphs: Of a manifest, best first.
        device: One of `DEVICES`; None takes the device that each graph was exported for.
        device_problem: Returns why a device cannot be used here, None where nothing is known to be missing.
        where: The bundle's path, for messages.
        kernels: This project's library, which some graphs need.

    Raises:
        GraphUnusable: There is no graph, or none whose words this version knows; each is named with its reason.
        OptionInvalid: No graph is of a target that `device` runs.
        RuntimeMissing: The device of every graph that is left cannot be used here.
    """
    if not graphs:
        raise GraphUnusable(
            f"{where}: has no graph: it is a prompt directory, for use with a server. Give a bundle made by `rubricrm "
            "export onnx` to run it here."
        )
    unknown = [unknown_words(graph, kernels) for graph in graphs]
    known = [graph for graph, reason in zip(graphs, unknown, strict=True) if reason is None]
    if not known:
        reasons = "; ".join(f"{graph.file}: {reason}" for graph, reason in zip(graphs, unknown, strict=True))
        raise GraphUnusable(
            f"{where}: no graph can be run here ({reasons}). Upgrade rubricrm, or export the checkpoint again."
        )
    targets = DEVICES[device] if device is not None else TARGETS
    fitting = [graph for graph in known if graph.target in targets]
    if device is not None:  # what was made for the device comes before what it runs for checking
        fitting.sort(key=lambda graph: targets.index(graph.target))
    if not fitting:
        found = ", ".join(dict.fromkeys(graph.target for graph in known))
        raise OptionInvalid(
            f"{where}: was exported for {found}, cannot run on {device}. Export with --target {targets[0]}."
        )
    problems: dict[str, str] = {}
    for graph in fitting:
        chosen = device or graph.target
        if chosen not in problems:
            problem = device_problem(chosen)
            if problem is None:
                return GraphChoice(graph, chosen)
            problems[chosen] = problem
    raise RuntimeMissing("; ".join(f"device {name} cannot be used: {problem}" for name, problem in problems.items()))


def running_kernels(graph: GraphFacts, graphs: Sequence[GraphFacts], kernels: Kernels) -> str:
    """Return which kernels run a graph: "rubricrm avx2", say, or "onnxruntime" and why not this project's.

    Args:
        graph: The one that was chosen.
        graphs: All of its bundle.
        kernels: This project's library.
    """
    if graph.requires.library is not None:
        return f"rubricrm {kernels.instruction_set}"
    ours = [other for other in graphs if other.requires.library is not None]
    reasons = [reason for other in ours if (reason := unknown_words(other, kernels)) is not None]
    return f"onnxruntime ({reasons[0] if reasons else 'the graph has no operators of rubricrm'})"


def unknown_words(graph: GraphFacts, kernels: Kernels) -> str | None:
    """Return why this installation cannot run a graph, whatever the device; None where it can."""
    if graph.target not in TARGETS:
        return f"target {graph.target!r} is none of {', '.join(TARGETS)}"
    allowed = {
        "compute_type": FLOAT_TYPES,
        "kv_type": KV_TYPES[graph.target],
        "kv_update": KV_UPDATES[graph.target],
        "layout": LAYOUTS if graph.target == "cpu" else (STANDARD_LAYOUT,),
    }
    for name, words in allowed.items():
        word = getattr(graph, name)
        if word not in words:
            return f"{name} {word!r} is none of {', '.join(words)} for the target {graph.target}"
    for domain, version in graph.requires.domains.items():
        if DOMAINS.get(domain, 0) < version:
            has = f"up to {DOMAINS[domain]}" if domain in DOMAINS else "none"
            return f"it needs version {version} of the operators of {domain}, this version knows {has}"
    wanted = graph.requires.library
    if wanted is not None and wanted != kernels.operators:
        found = f"not used: {kernels.problem}" if kernels.problem else f"of version {kernels.operators}"
        return f"it needs version {wanted} of this project's kernels, and the library is {found}"
    return None
