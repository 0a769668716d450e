"""What a training says of itself."""

import json
import time
from pathlib import Path


class Log:
    """Writes the mean loss and the speed of every so many steps as a line of JSON."""

    def __init__(self, path: Path, interval: int) -> None:
        self._path = path
        self._interval = interval
        self._losses: list[float] = []
        self._started = time.monotonic()
        self._num_steps = self._num_tokens = self._num_pairs = 0

    def add(self, loss: float, num_tokens: int, num_pairs: int) -> None:
        """Counts a step."""
        self._losses.append(loss)
        self._num_steps += 1
        self._num_tokens += num_tokens
        self._num_pairs += num_pairs
        if self._num_steps % self._interval:
            return
        seconds = time.monotonic() - self._started
        line = {
            "step": self._num_steps,
            "loss": round(sum(self._losses) / len(self._losses), 4),
            "tokens": self._num_tokens,
            "pairs": self._num_pairs,
            "seconds": round(seconds),
            "tokens_per_s": round(self._num_tokens / seconds),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._losses.clear()
