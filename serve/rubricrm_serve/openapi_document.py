"""The OpenAPI document: what FastAPI cannot know of this server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rubricrm_serve.service import Service


def describe(document: dict[str, Any], service: Service) -> None:
    """Mend a document in place: 422 never comes, models have names, and there may be keys."""
    for _, operation in _operations(document):
        operation["responses"].pop("422", None)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for schema in schemas.values():
        if schema.get("additionalProperties") is False and (model := schema["properties"].get("model")):
            named = model["anyOf"][0] if "anyOf" in model else model
            if named["type"] == "string":  # not what a result says of its model
                named["enum"] = [service.name, service.rubric_name]
    if service.options.api_keys:
        _describe_keys(document)


def _describe_keys(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operation in _operations(document):
        if path.startswith(("/v1/", "/tokenize", "/get_reward")):
            operation["security"] = [{"key": []}]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((path, operation) for path, methods in document["paths"].items() for operation in methods.values())
