"""How long opening takes and how much memory it needs: each time in a process of its own.

Run as a module it opens one bundle, writes one rubric of a few tokens, and prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rubricrm.errors import RuntimeFailed
from rubricrm.runtime.bundle import Bundle

_TIMES = 3
# Kilobytes on Linux, bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def measure_opening(path: Path, device: str | None, threads: int | None) -> dict[str, Any]:
    """Open a bundle several times, from the disk and from the page cache.

    Returns:
        `cold_ms` (None where the system cannot drop a file from its cache), `warm_ms` (the median) and
        `peak_rss_bytes` of a process that opens it and writes eight tokens.

    Raises:
        RuntimeFailed: The process failed; its last line is told.
    """
    cold = _open_in_process(path, device, threads)["load_ms"] if _drop_from_cache(path) else None
    warm = [_open_in_process(path, device, threads) for _ in range(_TIMES)]
    times = sorted(found["load_ms"] for found in warm)
    return {
        "cold_ms": cold,
        "warm_ms": times[len(times) // 2],
        "peak_rss_bytes": max(found["peak_rss_bytes"] for found in warm),
    }


def _drop_from_cache(path: Path) -> bool:
    if not hasattr(os, "posix_fadvise"):
        return False
    for name in Bundle.open(path).manifest.files:
        with (path / name).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _open_in_process(path: Path, device: str | None, threads: int | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "rubricrm_bench.opening", json.dumps([str(path), device, threads])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeFailed(f"opening {path} in a process of its own failed with {done.returncode}: {last[0]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _main() -> None:
    path, device, threads = json.loads(sys.argv[1])
    started = time.perf_counter()
    from rubricrm import RubricModel

    with RubricModel.open(path, device=device, threads=threads) as model:
        load_ms = (time.perf_counter() - started) * 1000
        model.generate("Name three colors.", max_new_tokens=8)
    sys.stdout.write(json.dumps({"load_ms": load_ms, "peak_rss_bytes": _peak_rss()}))


def _peak_rss() -> int:
    """Return the most bytes that this process had in memory; what getrusage says includes its parent's at the start."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


if __name__ == "__main__":
    _main()
