"""What the OpenAPI documents are made of: what all operations share, and the parts of a route's own description."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypedDict

from fastapi.routing import APIRoute
from pydantic import BaseModel

from open_workshop_storage.api.headers import COMMON_HEADERS
from open_workshop_storage.core import errors

LICENCE = {"name": "Mozilla Public License 2.0", "identifier": "MPL-2.0"}
ABOUT_ANSWERS = (
    "Every refusal is a short plain text that can be shown to people. Scripts of any origin may call, without "
    "credentials; `OPTIONS` is answered 200 on every path. A path that does not exist is answered 404 `Not Found`, a "
    "method that a path does not know 405 `Method Not Allowed`, with those that it knows in `Allow`. What is no HTTP, "
    "or has a request line or headers that are too long, gets 400, 414 or 431. Sizes are in bytes."
)
"""Stands in the description of each service."""

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as `responses` of a route."""


Refusal = type[errors.StorageError] | errors.StorageError | str
"""A text stands for a `BadRequest` with it."""


class RouteDocument(TypedDict):
    """What a route's decorator takes for the document alone; the description is the function's docstring."""

    summary: str
    operation_id: str | None
    responses: Responses
    openapi_extra: dict[str, Any]


FORM_ERRORS: tuple[Refusal, ...] = (
    "Malformed form",
    "Request body too large",
    errors.TooManyPieces,
    errors.ClientGone,
    errors.UploadTimedOut,
)
"""What reading a form may end in."""

FORM_TOKEN_ERRORS = (*FORM_ERRORS, errors.TokenMissing, errors.AccessDenied)
"""What reading a form and judging its token may end in."""

PATH_ERRORS = (errors.PathOutsideStorage, "Invalid path", "Path names a folder", "Path leads through a file")
"""What placing a file may end in."""

SCAN_ERRORS = (errors.MalwareFound, errors.ScannerUnavailable)
"""What a malware scan may end in."""

TRANSFER_TOKEN_ERRORS: tuple[Refusal, ...] = (
    errors.TokenMissing,
    errors.AccessDenied,
    "Invalid job id",
    "Invalid claims",
    "Invalid transfer kind",
    "Invalid pack level",
    "Invalid storage type",
    "Invalid file kind",
    "Invalid callback context",
    "Invalid max bytes",
    "Invalid download URL",
    "Invalid file name",
    errors.UnsupportedFormat,
)
"""What judging a transfer token may end in."""

RECEIVING_ERRORS: tuple[Refusal, ...] = (
    errors.ClientGone,
    errors.TransferCancelled,
    errors.DigestDiffers,
    *(error for error in errors.ArchiveRefused.__subclasses__() if error is not errors.RepackFailed),
    *(error for error in errors.ImageRefused.__subclasses__() if error is not errors.ImagePreparationFailed),
    *SCAN_ERRORS,
    errors.TooManyPieces,
    errors.UploadTimedOut,
    errors.FileTooLarge,
    errors.ServiceUnavailable,
)
"""What receiving a file and judging it may end in, whichever way it comes."""

_TAGS = {
    "downloads": "Stored files: public ones, and files of mods where the access service allows it.",
    "contents": "What is in stored archives, and single files of them.",
    "blurhashes": "Previews of stored images.",
    "files": "Single files that the Manager stores and removes.",
    "transfers": "Uploads by browsers and fetches from URLs, and what the Manager does with the result.",
    "console": "For operators: there only with the setting `CONSOLE_ENABLED`.",
    "callback": "What the loader sends to the Manager.",
    "health": "For supervisors and load balancers.",
}
_COMMON_DESCRIPTIONS = {
    "Access-Control-Allow-Origin": "Scripts of any origin may read the answer.",
    "Access-Control-Expose-Headers": "Headers that they may read besides the usual ones.",
    "X-Content-Type-Options": "Browsers must not take the answer for another type than its own.",
    "Referrer-Policy": "Browsers must not tell other sites this address, which may have a token in it.",
}


def completed(document: dict[str, Any], messages: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """Return FastAPI's document of an app with what its answers are really like.

    Args:
        messages: What travels where no operation can show it, such as in a token; stands among the schemas.
    """
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= {model.__name__: model.model_json_schema() for model in messages}
    headers = components.setdefault("headers", {})
    for name, value in COMMON_HEADERS.items():
        headers |= header(name, _COMMON_DESCRIPTIONS[name], value)
    references = {name: {"$ref": f"#/components/headers/{name}"} for name in COMMON_HEADERS}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        # What the framework refuses is answered as 400.
        if operation["responses"].get("422", {}).get("description") == "Validation Error":
            del operation["responses"]["422"]
        operation["responses"] = dict(sorted(operation["responses"].items()))
        for response in operation["responses"].values():
            response["headers"] = response.get("headers", {}) | references
    operations += [operation for path in document.get("webhooks", {}).values() for operation in path.values()]
    used = {tag for operation in operations for tag in operation["tags"]}
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items() if name in used]
    return document


def operation_id(route: APIRoute) -> str:
    """Return the id of an operation that has none of its own: its path, as in `loader_healthz`."""
    return route.path_format.strip("/").replace("/", "_")


def header(name: str, description: str, example: str | int) -> dict[str, Any]:
    """Describe one header of a response, for the `headers` of a `Responses` entry."""
    kind = "integer" if isinstance(example, int) else "string"
    return {name: {"description": description, "schema": {"type": kind}, "example": example}}


def parameter(
    place: str, name: str, description: str, example: str | int, required: bool = False, choices: Iterable[str] = ()
) -> dict[str, Any]:
    """Describe what a route reads by itself, for `parameters` of an `operation`.

    The example stands in the schema, where Swagger UI shows it but does not send it unasked.

    Args:
        place: `path`, `query`, `header` or `cookie`.
        choices: The only values, if there are so few.
    """
    schema = field(description, example, choices)
    del schema["description"]
    return {"in": place, "name": name, "required": required, "description": description, "schema": schema}


def field(description: str, example: str | int | None = None, choices: Iterable[str] = ()) -> dict[str, Any]:
    """Describe a field of a `form`; the arguments are those of `parameter`."""
    kind = "integer" if isinstance(example, int) else "string"
    schema: dict[str, Any] = {"type": kind, "description": description}
    if example is not None:
        schema["examples"] = [example]
    if values := [*choices]:
        schema["enum"] = values
    return schema


def form_token(name: str) -> dict[str, Any]:
    """Describe the token of a form by the name of the setting that holds its hash."""
    description = f"The plain token whose hash is the setting `{name}`."
    return field(description, "plain-token-of-the-manager") | {"format": "password"}


def form(
    properties: dict[str, dict[str, Any]], required: list[str], media_type: str = "application/x-www-form-urlencoded"
) -> dict[str, Any]:
    """Describe a form that the route reads itself, as `requestBody` of an `operation`.

    Forms without a file may be multipart as well. The document says so in words only: openapi-python-client makes
    functions that cannot be called of operations whose body has two types.
    """
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    body = {"required": bool(required), "content": {media_type: {"schema": schema}}}
    if media_type != "multipart/form-data":
        body["description"] = "May be `multipart/form-data` as well."
    return body


def bytes_body(media_type: str, description: str, example: str, required: bool = False) -> dict[str, Any]:
    """Describe a body that is a file or a part of one, as `requestBody` of an `operation`."""
    schema = {"type": "string", "format": "binary", "examples": [example]}
    return {"required": required, "description": description, "content": {media_type: {"schema": schema}}}


def answer(
    description: str, example: BaseModel | str | None = None, headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Describe an answer that is JSON, plain text or nothing, for a `Responses` entry."""
    described: dict[str, Any] = {"description": description, "headers": headers or {}}
    if isinstance(example, str):
        described["content"] = {"text/plain": {"schema": {"type": "string"}, "example": example}}
    elif example is not None:
        described["content"] = {"application/json": {"example": example.model_dump(mode="json")}}
    return described


def operation(
    summary: str, operation_id: str | None, answers: Responses, *refusals: Refusal, **openapi: Any
) -> RouteDocument:
    """Describe what a route does.

    Args:
        operation_id: Its name for generated clients; None for what `operation_id` makes of its path.
        answers: What it answers besides refusals.
        refusals: What it may end in.
        openapi: Other parts, such as `parameters`.
    """
    responses = plain_text_responses(*refusals) | answers
    return {"summary": summary, "operation_id": operation_id, "responses": responses, "openapi_extra": openapi}


def plain_text_responses(*refusals: Refusal) -> Responses:
    """Describe refusals as a route answers them: a status and a short plain text (docs/API.md, "Answers").

    Errors of one status become one response with an example for each, which the first line of the class's docstring
    explains where the message is the class's own. A fault of the service itself is always among them.
    """
    responses: Responses = {}
    for refusal in (*refusals, errors.StorageError):
        error = errors.BadRequest(refusal) if isinstance(refusal, str) else refusal
        schema = {"type": "string"}
        response = responses.setdefault(
            error.status,
            {"description": _phrase(error.status), "content": {"text/plain": {"schema": schema, "examples": {}}}},
        )
        example = {"value": error.message}
        if error is errors.StorageError:
            example["summary"] = "A fault of the service; its log tells more."
        elif isinstance(error, type):
            example["summary"] = (error.__doc__ or "").splitlines()[0]
        response["content"]["text/plain"]["examples"][error.message] = example
        if error.retry_after is not None:
            response["headers"] = header("Retry-After", "Seconds to wait before another attempt.", error.retry_after)
    return responses


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Checksum mismatch"
