"""What the packages warn of while a command runs: printed at once, and told again in the command's report."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("rubricrm", "rubricrm_export")


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Yield a list that warnings are added to, each once, while the block runs; they go to standard error too."""
    handler = _Collector(logging.WARNING)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield handler.warnings
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.warnings:  # a copy of the model that is made on the way warns of the same
            self.warnings.append(message)
            print(f"warning: {message}", file=sys.stderr)
