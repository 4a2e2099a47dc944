"""Turns all errors, ours and the framework's, into short plain-text answers (docs/API.md, "Answers")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.headers import COMMON_HEADERS, METHODS
from open_workshop_storage.core.errors import BadRequest, StorageError

_LINGER_SECONDS = 20.0
_LINGER_IDLE_SECONDS = 5.0
_LINGER_MESSAGES = 4096


class FailureMiddleware:
    """Answers the errors of this project that requests end in, with their own status and message.

    It stands outside of the shortcuts, which are asked before FastAPI's routing and handlers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and answer what is raised: once an answer has begun, nothing raises a `StorageError`."""
        try:
            await self._app(scope, receive, send)
        except StorageError as error:
            if scope["type"] == "websocket":
                # Only what stands before the endpoints raises for sockets. Clients see a refused handshake: 403.
                await receive()
                await send({"type": "websocket.close", "code": WS_1008_POLICY_VIOLATION})
            else:
                await _answer(Request(scope), error)(scope, receive, send)


def _answer(request: Request, error: StorageError) -> Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return _plain_text(request, error.message, error.status, headers)


def _plain_text(request: Request, text: str, status: int, headers: Mapping[str, str]) -> Response:
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    if has_body and request.scope["http_version"].startswith("1"):
        # The rest of a body that was not read must not be taken for the next request.
        return _PatientAnswer(text, status, {**headers, "Connection": "close"})
    return PlainTextResponse(text, status, headers)


class _PatientAnswer(PlainTextResponse):
    """An answer that may leave before the request's body has come in.

    A connection that is closed while its client still sends is reset, and most clients then lose the answer. So the
    rest of the body is read for a while, and dropped (RFC 9112, section 9.6).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                for _ in range(_LINGER_MESSAGES):
                    async with asyncio.timeout(_LINGER_IDLE_SECONDS):
                        # After the whole body, the server reports a disconnect.
                        if not (await receive()).get("more_body", False):
                            break


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    """Answer what the framework refuses, such as an unknown path or a wrong method."""
    status = HTTPStatus(error.status_code)
    text = status.phrase if error.detail == status.phrase or not isinstance(error.detail, str) else error.detail
    headers = {"Allow": _allowed_methods(request)} if status == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return _plain_text(request, text, status, headers or {})


def _allowed_methods(request: Request) -> str:
    # The framework names the methods of the first route of that path only.
    def is_allowed(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return method == "OPTIONS" or any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(filter(is_allowed, METHODS))


async def answer_invalid_request(request: Request, error: RequestValidationError) -> Response:
    """Answer a parameter or body of the wrong form with its name."""
    location = [str(part) for part in error.errors()[0]["loc"][1:] if isinstance(part, str)]
    return _answer(request, BadRequest(f"Invalid {' '.join(location) or 'request body'}"))


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """Answer any other exception, which the server logs.

    This handler stands outside of all middleware, so it adds the common headers itself.
    """
    return PlainTextResponse("Internal server error", 500, COMMON_HEADERS)


FRAMEWORK_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Any]] = {
    HTTPException: answer_http_error,
    RequestValidationError: answer_invalid_request,
    Exception: answer_unexpected,
}
