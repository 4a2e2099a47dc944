"""What the routes say about themselves in the OpenAPI documents, where it is the same for all of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from open_workshop_storage.core.errors import StorageError

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as `responses` of a route."""


def header(name: str, description: str, example: str | int) -> dict[str, Any]:
    """Describe one header of a response, for the `headers` of a `Responses` entry."""
    kind = "integer" if isinstance(example, int) else "string"
    return {name: {"description": description, "schema": {"type": kind}, "example": example}}


def optional_parameter(place: str, name: str, description: str, example: str) -> dict[str, Any]:
    """Describe a header or cookie that a route reads by itself, for `parameters` in its `openapi_extra`."""
    return {
        "in": place,
        "name": name,
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def plain_text_responses(*errors: type[StorageError]) -> Responses:
    """Describe refusals as a route answers them: a status and a short plain text (wire contract, preamble).

    Errors of one status become one response with an example for each, named after the class and explained by
    the first line of its docstring.
    """
    responses: Responses = {}
    for error in errors:
        response = responses.setdefault(
            error.status,
            {
                "description": HTTPStatus(error.status).phrase,
                "content": {"text/plain": {"schema": {"type": "string"}, "examples": {}}},
            },
        )
        response["content"]["text/plain"]["examples"][error.__name__] = {
            "summary": (error.__doc__ or error.message).splitlines()[0],
            "value": error.message,
        }
        if error.retry_after is not None:
            response["headers"] = header("Retry-After", "Seconds to wait before another attempt.", error.retry_after)
    return responses


def form_body(properties: dict[str, dict[str, Any]], required: list[str], *media_types: str) -> dict[str, Any]:
    """Describe a form that the route reads itself, as `openapi_extra`."""
    schema = {"type": "object", "properties": properties, "required": required}
    return {"requestBody": {"required": True, "content": {name: {"schema": schema} for name in media_types}}}
