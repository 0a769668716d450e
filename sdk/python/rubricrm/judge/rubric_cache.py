"""The rubrics of requests, each made once: whoever asks for one that is being made waits for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from rubricrm.errors import OptionInvalid, RubricMalformed, RuntimeFailed
from rubricrm.generation.result import RubricResult

Key = tuple[str, str]


class RubricMaker(Protocol):
    """What makes rubrics: a `RubricModel`, in this process or on a server."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What it is; `manifest_sha256` names its prompt."""
        ...

    def submit(self, request: str) -> Future[RubricResult]:
        """Return at once the future of a request's rubric."""
        ...


class RubricCache:
    """The texts of rubrics by request, for any number of threads and event loops.

    A rubric that fails, is cut or has no canonical form is an error of all who wait for it, and is not kept: the next
    call makes it again.
    """

    def __init__(self, maker: RubricMaker, size: int) -> None:
        """Begin empty.

        Args:
            maker: Makes the rubrics.
            size: Most of them that are kept; the one that was asked for longest ago goes first.

        Raises:
            OptionInvalid: The size is no number from 1 on.
        """
        if type(size) is not int or size < 1:
            raise OptionInvalid(f"cache_size must be an integer from 1 on, got {size!r:.80}.")
        self._maker = maker
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, str] = OrderedDict()
        self._under_way: dict[Key, Future[str]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, request: str) -> Future[str]:
        """Return the future of a request's rubric, as canonical text. It belongs to others too: it cannot be canceled.

        The future raises RubricMalformed for a rubric that is cut or has no canonical form, and what the maker raised.
        """
        key = (str(self._maker.description.get("manifest_sha256")), request)
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if (text := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                future.set_result(text)
                return future
            if (others := self._under_way.get(key)) is not None:
                return others
            self._under_way[key] = future
        try:
            made = self._maker.submit(request)
        except Exception as error:  # noqa: BLE001 (whoever waits must hear of it, whatever it is)
            self._fail(key, error)
            return future
        except BaseException:
            self._fail(key, RuntimeFailed("the rubric: the program was interrupted before it was made. Ask again."))
            raise
        made.add_done_callback(lambda ended: self._end(key, ended))
        return future

    def _end(self, key: Key, made: Future[RubricResult]) -> None:
        try:
            text = _text_of(made.result())
        except Exception as error:  # noqa: BLE001 (as above)
            self._fail(key, error)
            return
        with self._lock:
            self._kept[key] = text
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            future = self._under_way.pop(key)
        future.set_result(text)

    def _fail(self, key: Key, error: Exception) -> None:
        with self._lock:
            future = self._under_way.pop(key)
        future.set_exception(error)


def _text_of(result: RubricResult) -> str:
    if result.finish_reason != "stop":
        raise RubricMalformed(
            f"the rubric of {result.request!r:.60} is cut (finish_reason {result.finish_reason!r}): a judge would miss "
            "criteria. Give the rubric model room for it, or pass a rubric."
        )
    if not result.rubric.criteria:
        raise RubricMalformed(f"the rubric of {result.request!r:.60} has no criteria. Pass a rubric.")
    return result.rubric.render()
