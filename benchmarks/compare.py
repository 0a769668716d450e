#!/usr/bin/env python3
"""Before and after: is one bundle, or one state of the code, slower than another?

    compare.py OLD NEW [--bundle BUNDLE] [--openings 12] [--pairs 4] [--new-tokens 64] [--json]

OLD and NEW are bundles; or checkouts or commits of this repository, which then run one bundle, or each its own demo
model, on kernels that are built from each. Each side answers in a process of its own; requests go to both in turns, A B
then B A, so that what else the machine does meets both. After some pairs both processes are opened again: two of the
same code differ for as long as they live. The verdict is of the median of the ratios pair by pair, with a 95 % interval
by resampling openings and their pairs: "slower" or "faster" where all of the interval is beyond 3 %, else "no
difference".
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rubricrm.runtime.kernels import find_kernels

ROOT = Path(__file__).resolve().parents[1]
SDK = Path("sdk") / "python"
DEMO = SDK / "rubricrm" / "demo_bundle"
WORKER = Path(__file__).resolve().parent / "compare_worker.py"
QUANTITIES = ("first_token_ms", "token_ms", "whole_ms")
RESAMPLES = 4000
LEAST = 0.03  # a smaller difference is not worth a verdict here
# Threads of a runtime spin for a while after their work: the side that has just answered would slow the other down.
PAUSE_S = 0.2

Times = dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """What the pairs say of one quantity.

    Attributes:
        ratio: Median of new / old.
        low, high: The interval of 95 %.
        verdict: "slower", "faster" or "no difference".
    """

    ratio: float
    low: float
    high: float
    verdict: str


def judge(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Verdict:
    """Compare pairs of times, [openings][pairs] of each side."""
    ratios = np.array(new, np.float64) / np.array(old, np.float64)
    (openings, pairs), rng = ratios.shape, np.random.default_rng(0)
    chosen = rng.integers(openings, size=(RESAMPLES, openings, 1))
    resampled = ratios[chosen, rng.integers(pairs, size=(RESAMPLES, openings, pairs))]
    medians = np.median(resampled.reshape(RESAMPLES, -1), axis=1)
    low, high = (float(bound) for bound in np.percentile(medians, (2.5, 97.5)))
    verdict = "slower" if low > 1 + LEAST else "faster" if high < 1 / (1 + LEAST) else "no difference"
    return Verdict(float(np.median(ratios)), low, high, verdict)


class Side:
    """One side: a process that answers when it is told to."""

    def __init__(self, code: Path, bundle: Path, kernels: Path | None, new_tokens: int) -> None:
        chosen = {"RUBRICRM_KERNELS": "off"} if kernels is None else {"RUBRICRM_KERNELS_LIBRARY": str(kernels)}
        environment = os.environ | {"PYTHONPATH": str(code / SDK)} | chosen
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(bundle), str(new_tokens)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, number: int) -> Times:
        """Let it answer a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with exit code {self._process.wait()}; its message stands above")
        found: Times = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def resolved(name: str, bundle: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield the code and the bundle that a side's name means; without a bundle a checkout's own demo model."""
    path = Path(name)
    if (path / "rubricrm.json").is_file():
        yield ROOT, path.resolve()
    elif (path / SDK).is_dir():
        yield path.resolve(), bundle or path.resolve() / DEMO
    else:
        with tempfile.TemporaryDirectory(prefix="rubricrm-compare-") as folder:
            checkout = Path(folder) / "checkout"
            command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", "--quiet", str(checkout), name]
            if subprocess.run(command, check=False).returncode:
                raise SystemExit(f"{name}: is no bundle, no checkout and no commit of {ROOT}")
            try:
                yield checkout, bundle or checkout / DEMO
            finally:
                subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(checkout)], check=False)


def kernels_of(code: Path, folder: Path) -> Path | None:
    """Return the library of a checkout: what is in use here, or what is built in a folder; None: it has none."""
    if code == ROOT:
        return find_kernels().library
    if not (code / "CMakeLists.txt").is_file():
        return None  # a commit from before there were kernels
    places = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    if (cmake := shutil.which("cmake", path=os.pathsep.join(places))) is None:
        raise SystemExit(f"{code}: its kernels cannot be built without cmake: pip install cmake")
    built = folder / "build"
    for words in (["-S", str(code), "-B", str(built)], ["--build", str(built), "--target", "rubricrm_kernels"]):
        if subprocess.run([cmake, *words], stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit(f"{code}: its kernels cannot be built; the message stands above")
    return built / "librubricrm_kernels.so"


def one_opening(
    chosen: Sequence[tuple[Path, Path, Path | None]], pairs: int, new_tokens: int
) -> tuple[list[Times], list[Times]]:
    """Open both sides and let them answer in turns; return the times of each."""
    found: tuple[list[Times], list[Times]] = ([], [])
    with ExitStack() as stack:
        sides = []
        for code, bundle, kernels in chosen:
            sides.append(Side(code, bundle, kernels, new_tokens))
            stack.callback(sides[-1].close)
        for side in sides:
            side.ask(0)  # the first request of a process is not counted
        for pair in range(pairs):
            for place in (0, 1) if pair % 2 == 0 else (1, 0):
                time.sleep(PAUSE_S)
                found[place].append(sides[place].ask(pair))
    return found


def main() -> None:
    """Run both sides and print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--openings", type=int, default=12, help="of both processes")
    parser.add_argument("--pairs", type=int, default=4, help="counted pairs of each opening")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.openings < 2 or options.pairs < 2 or options.new_tokens < 2:
        parser.error("at least 2 openings with 2 pairs of 2 new tokens are needed")
    with ExitStack() as stack:
        chosen = []
        for name in (options.old, options.new):
            code, bundle = stack.enter_context(resolved(name, options.bundle and options.bundle.resolve()))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rubricrm-kernels-")))
            chosen.append((code, bundle, kernels_of(code, folder)))
        found = [one_opening(chosen, options.pairs, options.new_tokens) for _ in range(options.openings)]
    verdicts = {
        key: judge(*([[times[key] for times in opening[place]] for opening in found] for place in (0, 1)))
        for key in QUANTITIES
    }
    if options.json:
        print(json.dumps({key: asdict(verdict) for key, verdict in verdicts.items()}, indent=2))
        return
    for key, verdict in verdicts.items():
        print(f"{key:15} {verdict.verdict:14} {verdict.ratio:.3f} ({verdict.low:.3f} to {verdict.high:.3f})")


if __name__ == "__main__":
    main()
