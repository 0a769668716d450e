"""How far a job is, on a terminal: rows, rate and time left. Elsewhere nothing is shown."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from rubricrm_batch.runs import Run

_INTERVAL_S = 1.0


@contextmanager
def shown_progress(run: Run, total: int) -> Iterator[None]:
    """Show a bar while the block runs. It counts the rows of blocks that are written, wherever workers run."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run, total, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(run: Run, total: int, ended: threading.Event) -> None:
    counted: dict[str, int] = {}
    before, started = run.num_rows(counted), time.monotonic()
    with click.progressbar(length=total, label="Rubrics", file=sys.stderr, show_pos=True) as bar:
        bar.update(before)
        bar.start = bar.last_eta = time.time()  # the time left follows what this run does
        while not ended.wait(_INTERVAL_S):
            done = run.num_rows(counted)
            rate = (done - before) / (time.monotonic() - started)
            bar.label = f"Rubrics, {rate:.3g} per second" if done > before else "Rubrics"
            bar.update(done - bar.pos)
