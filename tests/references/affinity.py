"""A worker of pytest-xdist keeps to its share of the cores, and so does each process that it starts.

Models this small are slower on two threads than on one, and far slower where another worker's threads spin beside them.
Imported before numpy, which makes its threads then.

Attributes:
    ALL_CORES: What this process might use before.
"""

import os

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


def _keep_to_share() -> None:
    worker, count = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker is not None and len(ALL_CORES) >= count:
        os.sched_setaffinity(0, sorted(ALL_CORES)[int(worker.removeprefix("gw")) :: count])


_keep_to_share()
