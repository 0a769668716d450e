"""Who may ask: whoever gives one of the keys."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rubricrm_serve.refusal import Refusal
from rubricrm_serve.reply import refuse

# What says nothing of requests, or is needed before a key can be typed.
_OPEN = frozenset(("/", "/health", "/ready", "/metrics", "/version", "/queue", "/page.css", "/page.js", "/icon.svg"))


class ApiKeys:
    """An ASGI application around another one. It holds hashes of the keys, and compares with all of them each time."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        """Guard an application; without keys, nothing is guarded."""
        self._app = app
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it with 401."""
        if scope["type"] != "http" or not self._hashes or self._is_open(scope) or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        await refuse(_WRONG_KEY, scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        return scope["method"] == "OPTIONS" or scope["path"].removeprefix(scope.get("root_path", "")) in _OPEN

    def _is_known(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
        matches = [secrets.compare_digest(given, known) for known in self._hashes]
        return scheme.lower() == "bearer" and any(matches)


_WRONG_KEY = Refusal(
    401,
    "This server needs a key: send the header Authorization: Bearer KEY.",
    "authentication_error",
    code="invalid_api_key",
    headers={"www-authenticate": "Bearer"},
)
