"""Answers in JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rubricrm_serve.refusal import Refusal


def reply(value: Any, status: int = 200) -> Response:
    """Return the answer that holds a value."""
    return Response(json.dumps(value, separators=(",", ":")), status, media_type="application/json")


def refusal_reply(refusal: Refusal) -> Response:
    """Return the answer that holds a refusal."""
    return Response(refusal.body(), refusal.status, refusal.headers, "application/json")


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a refusal, as an ASGI application."""
    await refusal_reply(refusal)(scope, receive, send)
