"""Who answers requests: a bundle in this process, or a server that speaks OpenAI's API.

Such servers are trtllm-serve, vllm serve and tensorrt-edgellm-serve.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rubricrm.errors import OptionInvalid, RuntimeFailed
from rubricrm.model import RubricModel
from rubricrm.runtime.manifest import REQUEST_FIELD

_TIMEOUT_S = 600


@dataclass(frozen=True)
class WrittenAnswer:
    """What was written for a request.

    Attributes:
        text: The text.
        is_complete: Whether the model ended by itself; else its tokens were used up.
        first_ms: From the call to the first piece of text, milliseconds; None where nothing came.
        total_ms: From the call to the end.
    """

    text: str
    is_complete: bool
    first_ms: float | None
    total_ms: float


class Answerer(Protocol):
    """Answers requests one at a time, greedily."""

    @property
    def name(self) -> str:
        """What is told of it in a report."""
        ...

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """WrittenAnswer a request.

        Raises:
            RuntimeFailed: It failed.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


class BundleAnswerer:
    """A bundle."""

    def __init__(self, path: Path, *, device: str, threads: int | None = None) -> None:
        """Open it; errors as `RubricModel.open`."""
        self._model = RubricModel.open(path, device=device, threads=threads)
        self.name = f"bundle on {device}"

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """WrittenAnswer a request."""
        result = self._model.generate(request, max_new_tokens=max_new_tokens, constrain=False)
        timings = result.timings_ms
        return WrittenAnswer(result.text, result.finish_reason == "stop", timings.first_token, timings.total)

    def close(self) -> None:
        """Close the bundle."""
        self._model.close()


class ServerAnswerer:
    """A server with /v1/chat/completions, given the model's own prompt. Times are those of its stream, as seen here."""

    def __init__(self, url: str, template: str) -> None:
        """Look at the URL and connect to nothing yet.

        Args:
            url: Such as http://127.0.0.1:8000.
            template: The prompt's template, with the request's place in it.

        Raises:
            OptionInvalid: It is no URL of a server.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionInvalid(f"{url}: is no server's address, expected one such as http://127.0.0.1:8000.")
        self.name = f"server {url}"
        self._url = url
        self._template = template
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self._model: str | None = None

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """WrittenAnswer a request, streaming.

        Raises:
            RuntimeFailed: The server cannot be reached, refuses, or answers something else.
        """
        body = {
            "model": self._served_model(),
            "messages": [{"role": "user", "content": self._template.replace(REQUEST_FIELD, request)}],
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "stream": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        started = time.perf_counter()
        first: float | None = None
        pieces, reason = [], None
        for piece, ended_by in self._pieces("/v1/chat/completions", body):
            if piece and first is None:
                first = time.perf_counter()
            pieces.append(piece)
            reason = ended_by or reason
        ended = time.perf_counter()
        if reason not in ("stop", "length"):
            raise self._failed("/v1/chat/completions", f"it ended for the reason {reason!r}, expected stop or length")
        first_ms = None if first is None else 1000 * (first - started)
        return WrittenAnswer("".join(pieces), reason == "stop", first_ms, 1000 * (ended - started))

    def is_ready(self) -> bool:
        """Whether it serves a model by now."""
        try:
            self._served_model()
        except RuntimeFailed:
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _served_model(self) -> str:
        if self._model is None:
            try:
                self._model = str(json.loads(self._request("GET", "/v1/models").read())["data"][0]["id"])
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError) as error:
                self._connection.close()
                raise RuntimeFailed(
                    f"{self._url}/v1/models: names no model ({error!r}). Is it an OpenAI API?"
                ) from error
        return self._model

    def _pieces(self, path: str, body: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Yield each text of a stream, and why it ended. A stream that ends before [DONE] was cut off."""
        response = self._request("POST", path, json.dumps(body).encode())
        try:
            for line in response:
                data = line.decode("utf-8").strip().removeprefix("data:").strip()
                if data == "[DONE]":
                    response.read()
                    return
                if not data or not line.startswith(b"data:"):
                    continue
                found = _read_event(json.loads(data))
                if found is None:
                    raise self._failed(path, f"its stream broke off with {data[:300]}")
                yield found
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise self._failed(path, f"its stream broke off ({error!r})") from error
        raise self._failed(path, "its stream broke off before data: [DONE]")

    def _failed(self, path: str, finding: str) -> RuntimeFailed:
        self._connection.close()
        return RuntimeFailed(f"{self._url}{path}: {finding}. That is no answer: see the server's log.")

    def _request(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, self._path + path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            if response.status != 200:
                text = response.read(500).decode("utf-8", "replace")
                raise RuntimeFailed(f"{self._url}{path}: answered {response.status}: {text}")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise RuntimeFailed(f"{self._url}{path}: cannot be reached ({error}). Start the server first.") from error
        return response


def _read_event(event: object) -> tuple[str, str | None] | None:
    """Return the text of an event of a stream, and why the text ended, if it did; None: it is no part of an answer."""
    match event:
        case {"error": error} if error:
            return None
        case {"object": "error"}:
            return None
        case {"choices": [{**choice}, *_]}:
            delta, reason = choice.get("delta") or {}, choice.get("finish_reason")
            piece = (delta.get("content") or "") if isinstance(delta, dict) else None
            return (piece, reason) if isinstance(piece, str) and isinstance(reason, str | None) else None
        case {"choices": []} | {"usage": _}:
            return "", None
    return None
