"""A server of OpenAI's API that answers as it is told: recorded answers of real servers, and every way to fail.

The forms of its answers are those of vLLM 0.32, SGLang 0.5.23, TensorRT-LLM (main 0076e939) and llama.cpp
(xllamacpp 2026.10.11549): `PROFILES` has what tells them apart.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
# What is written to an event stream: a chunk, a text as it is, or seconds to wait.
Events = list[Body | str | float]

# owned_by, entry of the list of models, path of the tokenizer, and how an error looks.
PROFILES: dict[str, tuple[str, Body, str]] = {
    "vllm": ("vllm", {"max_model_len": 2048}, "/tokenize"),
    "sglang": ("sglang", {"max_model_len": 2048}, "/tokenize"),
    "tensorrt-llm": ("tensorrt_llm", {}, "/_internal/tokenize"),
    "llama.cpp": ("llamacpp", {"meta": {"n_ctx": 2048}}, "/tokenize"),
    "openai": ("somebody", {}, "/nowhere"),
}
RUBRIC = "1. The response is short. [Hard Rule]\n2. The response is kind. [Principle]\n"


def chunk(text: str = "", finish_reason: str | None = None, model: str = "demo", **choice: Any) -> Body:
    """A chunk of a completion."""
    content = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason, **choice}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model, "choices": [content]}


def usage(prompt_tokens: int, completion_tokens: int = 8, cached: int | None = None, model: str = "demo") -> Body:
    """The chunk that holds the tokens."""
    counted: Body = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    counted["total_tokens"] = prompt_tokens + completion_tokens
    counted["prompt_tokens_details"] = None if cached is None else {"cached_tokens": cached}
    return chunk(model=model) | {"choices": [], "usage": counted}


def whole(body: Body, text: str = RUBRIC, reason: str = "stop", model: str = "demo") -> Events:
    """A stream that ends as it should, a word a chunk."""
    words = text.split(" ")
    pieces = [word + " " for word in words[:-1]] + words[-1:]
    count = usage(len(body["prompt"]), len(pieces), cached=4, model=model)
    return [*(chunk(piece, model=model) for piece in pieces), chunk("", reason, model), count, "[DONE]"]


@dataclass
class RecordedServer:
    """What the server answers, and what it was asked.

    Attributes:
        kind: A key of `PROFILES`.
        encode: Makes ids of a text, as the tokenizer of the served model does.
        model: The name of its model.
        holds: Whether it holds a text to a grammar.
        refusals: Statuses and bodies that the next completions are answered with; headers with them.
        write: The events of a completion that is no trial.
        chat: The events of a chat; None: there is no such endpoint.
        bodies: The completions that it was asked for.
        paths: All that it was asked for.
        keys: The Authorization headers.
        left: How many streams their client left.
        url: Where it listens.
    """

    kind: str
    encode: Callable[[str], list[int]]
    model: str = "demo"
    holds: bool = True
    refusals: list[tuple[int, Body | str]] = field(default_factory=list)
    list_refusals: list[tuple[int, Body | str]] = field(default_factory=list)
    write: Callable[[Body], Events] = whole
    chat: Callable[[Body], Events] | None = None
    bodies: list[Body] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    left: int = 0
    url: str = ""

    def models(self) -> Body:
        owned_by, facts, _ = PROFILES[self.kind]
        return {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": owned_by, **facts}]}

    def events(self, body: Body) -> Events:
        """The answer to a completion: to a trial as a sound server's."""
        self.bodies.append(body)
        grammar = self.grammar(body)
        if grammar is not None and "Held: " in grammar:
            return whole(body, "Held: 42" if self.holds else RUBRIC, model=self.model)
        if body["max_tokens"] == 1:
            return whole(body, "1", "length", self.model)
        return self.write(body)

    def grammar(self, body: Body) -> str | None:
        """The grammar where this kind of server looks for it."""
        places: dict[str, Any] = {
            "vllm": (body.get("structured_outputs") or {}).get("regex"),
            "sglang": body.get("regex"),
            "tensorrt-llm": (body.get("response_format") or {}).get("regex"),
            "llama.cpp": body.get("grammar"),
            "openai": None,
        }
        found: str | None = places[self.kind]
        return found


class _Handler(BaseHTTPRequestHandler):
    """Answers as the server that it belongs to."""

    protocol_version = "HTTP/1.1"
    server: _Listening

    def do_GET(self) -> None:
        told = self._note()
        if told.list_refusals:
            self._answer(*told.list_refusals.pop(0))
        else:
            self._answer(200, told.models())

    def do_POST(self) -> None:
        told = self._note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == PROFILES[told.kind][2]:
            ids = told.encode(body.get("prompt") or body["content"])
            self._answer(200, {"tokens": ids, "count": len(ids)})
        elif self.path == "/v1/chat/completions" and told.chat is not None:
            told.bodies.append(body)
            self._stream(told, told.chat(body))
        elif self.path != "/v1/completions":
            self._answer(404, {"detail": "Not Found"})
        elif told.refusals:
            self._answer(*told.refusals.pop(0))
        else:
            self._stream(told, told.events(body))

    def _note(self) -> RecordedServer:
        told = self.server.told
        told.paths.append(self.path)
        told.keys.append(self.headers.get("Authorization"))
        return told

    def _answer(self, status: int, body: Body | str) -> None:
        content = body if isinstance(body, str) else json.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if isinstance(body, dict) else "text/html")
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def _stream(self, told: RecordedServer, events: Events) -> None:
        told.running += 1
        told.most_running = max(told.most_running, told.running)
        self.close_connection = True
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for event in events:
                self._write(event)
        except OSError:  # the client left
            told.left += 1
        finally:
            told.running -= 1

    def _write(self, event: Body | str | float) -> None:
        if isinstance(event, float):
            end = time.monotonic() + event
            while time.monotonic() < end:  # comments are no events: the first one after the client left fails
                time.sleep(0.02)
                self.wfile.write(b": wait\n\n")
        else:
            data = event if isinstance(event, str) else json.dumps(event)
            self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    told: RecordedServer


@contextmanager
def serving(server: RecordedServer, port: int = 0) -> Iterator[RecordedServer]:
    """Let a server listen on this machine as long as the block runs."""
    listening = _Listening(("127.0.0.1", port), _Handler)
    listening.told = server
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
