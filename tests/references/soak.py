"""Many requests of every kind from many threads: each ends with a result or a typed error, and memory stays flat.

python soak.py BUNDLE REQUESTS THREADS
"""

import faulthandler
import gc
import json
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from rubricrm import RubricModel
from rubricrm.errors import RubricrmError

_LIMIT_S = 3600
_SAMPLES = 10


def one_request(model: RubricModel, seed: int) -> str:
    """Send a random request, and read it or leave it in a random way; return what became of it."""
    numbers = random.Random(seed)
    text = numbers.choice(["", "word " * 5000, *["word " * numbers.randrange(1, 60)] * 8])
    cancel = threading.Event()
    options = {
        "max_new_tokens": numbers.randrange(1, 60),
        "temperature": numbers.choice((0.0, 1.0)),
        "priority": numbers.randrange(-1, 2),
        "timeout_s": numbers.choice((None, None, None, 0.001, 0.05, 1.0)),
    }
    try:
        stream = model.stream(text, cancel=cancel, **options)  # type: ignore[arg-type]
        how = numbers.choice(("read", "read", "slow", "wait", "cancel", "event", "leave", "drop"))
        if how in ("read", "slow"):
            for _ in stream:
                time.sleep(0.005 if how == "slow" else 0)
        elif how == "wait":
            stream.wait()
        elif how == "drop":
            next(stream, None)
            del stream
            return "dropped"
        else:
            next(stream, None)
            {"cancel": stream.cancel, "event": cancel.set, "leave": stream.close}[how]()
            stream.wait()
        return stream.result().finish_reason
    except RubricrmError as error:
        return error.code


def main() -> None:
    """Print the number of each end, and resident memory at ten moments."""
    faulthandler.dump_traceback_later(_LIMIT_S, exit=True)
    path, count, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    process, ends, sizes = psutil.Process(), Counter[str](), []
    with RubricModel.open(path, threads=2, max_waiting=threads - 2) as model, ThreadPoolExecutor(threads) as pool:
        for part in range(_SAMPLES):
            seeds = range(part * count // _SAMPLES, (part + 1) * count // _SAMPLES)
            ends.update(pool.map(lambda seed: one_request(model, seed), seeds))
            gc.collect()
            sizes.append(process.memory_info().rss)
        final = model.generate("Write a haiku.", max_new_tokens=5)
        assert final.usage.completion_tokens == 5 or final.finish_reason == "stop"
    print(json.dumps({"ends": ends, "resident": sizes}))


if __name__ == "__main__":
    main()
