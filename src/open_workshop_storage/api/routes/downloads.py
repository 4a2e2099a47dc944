"""`GET` and `HEAD /download/…` and `/contents/…`, which are answered before FastAPI's routes are reached.

If the answer is remembered, it is given before all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_plus

from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.documents.downloads import GET_CONTENTS, GET_DOWNLOAD, HEAD_CONTENTS, HEAD_DOWNLOAD
from open_workshop_storage.api.headers import RAW_HEADERS
from open_workshop_storage.api.shortcuts import Shortcut
from open_workshop_storage.services.downloads.remembering import Repeatable, Request
from open_workshop_storage.services.runtime import Runtime

# What is longer is the affair of `HeaderLimit`.
_MOST_HEADER_BYTES = 16 * 1024
_TAGS, _CODINGS, _COOKIES = b"if-none-match", b"accept-encoding", b"cookie"
_USUAL_CONDITIONS = frozenset({_TAGS, _CODINGS, _COOKIES})
_CONDITIONS = _USUAL_CONDITIONS | {
    b"range",
    b"if-range",
    b"if-match",
    b"if-modified-since",
    b"if-unmodified-since",
}
"""The headers that decide on an answer."""


router = APIRouter()


@router.head("/download/{type}/{path:path}", tags=["downloads"], response_class=Response, **HEAD_DOWNLOAD)
@router.get("/download/{type}/{path:path}", tags=["downloads"], response_class=Response, **GET_DOWNLOAD)
async def download() -> Response:
    """Give out a stored file, with ranges and conditions as in RFC 9110.

    Files below `archive/mods/<id>/` go only to clients whose cookies `accessToken` and `refreshToken` satisfy
    the access service.
    """
    raise AssertionError("the shortcut answers before the routes are reached")


@router.head("/contents/{type}/{path:path}", tags=["contents"], response_class=Response, **HEAD_CONTENTS)
@router.get("/contents/{type}/{path:path}", tags=["contents"], response_class=Response, **GET_CONTENTS)
async def contents() -> Response:
    """Tell what is in a stored ZIP, or give out one file of it.

    Types, paths, and who may have what are those of downloads.
    """
    raise AssertionError("the shortcut answers before the routes are reached")


class Answering(Protocol):
    """What answers for stored files."""

    async def answer(
        self, storage_type: str, path: str, parameter: str | None, scope: Scope, receive: Receive, send: Send, /
    ) -> Repeatable | None:
        """Answer a request for a path below the folder of a type.

        Args:
            parameter: The value of the one in the query that matters here, if it is there.

        Returns:
            The answer, if the same request may get it again while the file stays as it is.
        """


class Remembered:
    """Gives remembered answers.

    It stands outside of all middleware, which costs as much as all the rest of a small download. What it would add to
    an answer is remembered with it, and what it would refuse is not remembered.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the usual requests for what was sent before, and pass on everything else."""
        if scope["type"] == "http" and scope["method"] == "GET":
            request, cookies = _usual_request(scope)
            # Before the lifespan there is nothing to be remembered.
            if request is not None and "state" in scope:
                runtime: Runtime = scope["state"]["runtime"]
                if await runtime.remembered_answers.give(request, cookies, scope, receive, send):
                    return
        await self._app(scope, receive, send)


def _shortcut(work: str, parameter: str, service: Callable[[Runtime], Answering]) -> Shortcut:
    """Return the shortcut to the answers of a service.

    Args:
        work: The first part of the path.
        parameter: The name of the one in the query that matters.
    """
    route = f"/{work}/{{type}}/{{path}}"

    async def answer(storage_type: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        value = _value(query.decode("latin-1"), parameter) if query else None
        runtime: Runtime = scope["state"]["runtime"]
        answer = await service(runtime).answer(storage_type, path, value, scope, receive, send)
        # By another name than its own, such as by a link, a file may become another one.
        if answer is not None and scope["method"] == "GET" and answer.file.name == f"{storage_type}/{path}":
            request, _ = _usual_request(scope)
            if request is not None:
                runtime.remembered_answers.remember(request, answer, RAW_HEADERS, route)

    return Shortcut(("GET", "HEAD"), route, answer)


SHORTCUTS = (
    _shortcut("download", "filename", lambda runtime: runtime.downloads),
    _shortcut("contents", "entry", lambda runtime: runtime.contents),
)


def _usual_request(scope: Scope) -> tuple[Request | None, bytes]:
    """Return what decides on the answer to a GET request, and the cookies; None if it is for a part, or long."""
    size = 0
    conditions: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in _CONDITIONS:
            if name in conditions or name not in _USUAL_CONDITIONS:
                return None, b""
            conditions[name] = value
    if size > _MOST_HEADER_BYTES:
        return None, b""
    tags, codings = conditions.get(_TAGS, b""), conditions.get(_CODINGS, b"")
    return (scope["path"], scope["query_string"], tags, codings), conditions.get(_COOKIES, b"")


def _value(query: str, parameter: str) -> str | None:
    """Return the last value of a parameter; `parse_qsl` takes several times as long."""
    value = None
    for pair in query.split("&"):
        name, _, text = pair.partition("=")
        if name == parameter:
            value = unquote_plus(text)
    return value
