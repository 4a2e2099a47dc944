"""Answers requests for stored files before FastAPI's routing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_plus

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.observability.fastapi_telemetry import name_route
from open_workshop_storage.services.runtime import Runtime


class Answering(Protocol):
    """What answers for stored files."""

    async def answer(
        self, storage_type: str, path: str, asked: str | None, scope: Scope, receive: Receive, send: Send, /
    ) -> None:
        """Answer a request for a path below the folder of a type.

        Args:
            asked: The parameter in the query that matters here, if it is there.
        """


class Shortcut:
    """Answers `GET` and `HEAD /<work>/{type}/{path}` in place of the route of that path, which describes them.

    Routing, dependencies and response classes take several times as long as all the rest of a small download, so
    these requests turn off before they begin. What stands outside of this, such as CORS, telemetry and the handling of
    unexpected errors, is the same for all routes.

    Args:
        work: The first part of the path.
        parameter: The name of the one in the query that matters.
        service: Returns what answers.
    """

    def __init__(self, app: ASGIApp, work: str, parameter: str, service: Callable[[Runtime], Answering]) -> None:
        self._app = app
        self._prefix = f"/{work}/"
        self._route = f"/{work}/{{type}}/{{path}}"
        self._parameter = parameter
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for stored files, and pass on everything else."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        storage_type, slash, name = path.removeprefix(self._prefix).partition("/")
        if not path.startswith(self._prefix) or not storage_type or not slash:
            await self._app(scope, receive, send)
            return
        name_route(scope, self._route)
        query = scope["query_string"]
        asked = _value(query.decode("latin-1"), self._parameter) if query else None
        await self._service(scope["state"]["runtime"]).answer(storage_type, name, asked, scope, receive, send)


def _value(query: str, parameter: str) -> str | None:
    """Return the last value of a parameter; `parse_qsl` takes several times as long."""
    value = None
    for pair in query.split("&"):
        name, _, text = pair.partition("=")
        if name == parameter:
            value = unquote_plus(text)
    return value
