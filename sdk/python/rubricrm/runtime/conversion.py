"""A bundle with its weights in the other layout: the work of `rubricrm convert`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle, file_sha256
from rubricrm.runtime.derived_data import write_derived_data
from rubricrm.runtime.manifest import FileFacts, GraphFacts
from rubricrm.runtime.published_directory import check_output, check_space, whole_directory, write_manifest


def convert_bundle(
    bundle: Bundle,
    layout: str,
    output: Path,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Bundle:
    """Write a copy of a bundle whose data file has another layout. The graphs, and what they compute, stay the same.

    Memory: the largest tensor, twice. Time: that of reading the data once, and writing and hashing them.

    Args:
        bundle: The bundle.
        layout: One of `LAYOUTS`.
        output: The directory to write.
        force: Replace an older bundle there.
        on_progress: Gets the bytes done so far, and all: each is counted when it is written, and when it is hashed.

    Raises:
        OptionInvalid: The bundle has no graph of this layout, or has the data of all of them.
        OutputExists: The output exists and may not be replaced.
        WriteFailed: The disk is full, or the output cannot be written.
        BundleInvalid: A file is damaged.
    """
    graph = _wanted_graph(bundle, layout)
    check_output(output, force=force)
    check_space(output, bundle.num_bytes)
    dropped = {other.data_file for other in bundle.manifest.graphs if other.layout != layout}
    files = {name: facts for name, facts in bundle.manifest.files.items() if name not in dropped}
    with whole_directory(output, force=force) as directory:
        for name in files:
            shutil.copyfile(bundle.file(name), directory / name)
        write_derived_data(bundle, graph, directory, lambda done, total: on_progress(done, 2 * total))
        data = directory / str(graph.data_file)
        files[data.name] = _described(data, on_progress)
        write_manifest(directory, replace(bundle.manifest, files=files))
    return Bundle.open(output)


def _wanted_graph(bundle: Bundle, layout: str) -> GraphFacts:
    """Return the graph whose data are to be made."""
    graphs = [graph for graph in bundle.manifest.graphs if graph.layout == layout and graph.data_file is not None]
    if not graphs:
        raise OptionInvalid(
            f"{bundle.path}: has no graph in the layout {layout}: only weights in blocks of 32, 64 or 128, for the "
            "target cpu, have two layouts. Use the bundle as it is."
        )
    missing = next((graph for graph in graphs if not bundle.manifest.has_data(graph)), None)
    if missing is None:
        raise OptionInvalid(f"{bundle.path}: is in the layout {layout} already. Use the bundle as it is.")
    return missing


def _described(path: Path, on_progress: Callable[[int, int], None]) -> FileFacts:
    """Hash a file that was written: the second half of the work."""
    size = done = path.stat().st_size

    def report(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        on_progress(done, 2 * size)

    return FileFacts(size, file_sha256(path, report))
