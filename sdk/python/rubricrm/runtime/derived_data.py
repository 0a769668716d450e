"""A graph's data where the bundle has them in another layout only: derived once on a machine, and kept in its cache."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rubricrm.errors import RuntimeFailed
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.cache_directory import cache_reason, own_directory, warn_without_cache
from rubricrm.runtime.data_layout import derive_data
from rubricrm.runtime.graph_tensors import read_tensors
from rubricrm.runtime.hidden_directory import hidden_directory, remove_abandoned
from rubricrm.runtime.manifest import GraphFacts
from rubricrm.runtime.whole_file import rename_whole

logger = logging.getLogger(__name__)


@contextmanager
def data_directory(bundle: Bundle, graph: GraphFacts) -> Iterator[Path]:
    """Yield the directory in which a graph's data file lies while it is opened; what is open stays usable after it.

    The first opening on a machine writes the file into the cache directory (2 GB: 2 to 4 s). Where there is no cache it
    is written into a temporary directory at each opening, with a warning.

    Raises:
        BundleInvalid: The bundle's data are damaged, or of another model than the graph.
        RuntimeFailed: The file cannot be written anywhere.
    """
    if bundle.manifest.has_data(graph):
        yield bundle.path
        return
    kept = _kept_data(bundle, graph)
    if kept is not None:
        yield kept
        return
    with ExitStack() as stack:
        try:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rubricrm-")))
            write_derived_data(bundle, graph, directory)
        except OSError as error:
            raise RuntimeFailed(
                f"{bundle.path}: its weights cannot be arranged in the layout {graph.layout} ({cache_reason(error)}). "
                "Make room on the disk of the cache directory, or convert the bundle once: `rubricrm convert`."
            ) from error
        yield directory


def _kept_data(bundle: Bundle, graph: GraphFacts) -> Path | None:
    """Return the directory of this machine's cache that holds the data, made if it is missing; None: no cache."""
    try:
        directory = own_directory(bundle.manifest_sha256, f"data-{graph.layout}")
    except OSError as error:
        warn_without_cache(error)
        return None
    path = directory / str(graph.data_file)
    expected = max((t.offset + t.num_bytes for t in read_tensors(bundle.file(graph.file)) if t.location), default=0)
    if path.is_file() and path.stat().st_size == expected:
        return directory
    remove_abandoned(path)
    try:
        with hidden_directory(path) as writing:
            write_derived_data(bundle, graph, writing)
            rename_whole(writing / path.name, path)
    except OSError as error:
        logger.warning("data in the layout %s could not be kept (%s)", graph.layout, cache_reason(error))
        return None
    return directory


def write_derived_data(
    bundle: Bundle, graph: GraphFacts, directory: Path, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a graph's data file into a directory, from the data of another graph; as `derive_data`."""
    source = next(other for other in bundle.manifest.graphs if other.data_file and bundle.manifest.has_data(other))
    logger.info("%s: arranging the weights in the layout %s", bundle.path, graph.layout)
    output = directory / str(graph.data_file)
    derive_data(bundle.file(graph.file), bundle.file(source.file), output, on_progress)
