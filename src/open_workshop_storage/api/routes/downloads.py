"""`GET` and `HEAD /download/…`."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.documents.downloads import GET_DOWNLOAD, HEAD_DOWNLOAD
from open_workshop_storage.observability.fastapi_telemetry import name_route
from open_workshop_storage.services.runtime import Runtime

router = APIRouter(tags=["downloads"])

_PREFIX = "/download/"
_ROUTE = "/download/{type}/{path}"


@router.head("/download/{type}/{path:path}", response_class=Response, **HEAD_DOWNLOAD)
@router.get("/download/{type}/{path:path}", response_class=Response, **GET_DOWNLOAD)
async def download() -> Response:
    """Give out a stored file, with ranges and conditions as in RFC 9110.

    Files below `archive/mods/<id>/` go only to clients whose cookies `accessToken` and `refreshToken` satisfy
    the access service.
    """
    raise AssertionError("DownloadEndpoint answers before the routes are reached")


class DownloadEndpoint:
    """Answers `GET` and `HEAD /download/…` in place of the route `download`, which describes them.

    Routing, dependencies and response classes take several times as long as all the rest of a small download, so
    downloads turn off before they begin. What stands outside of this, such as CORS, telemetry and the handling of
    unexpected errors, is the same for all routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer downloads, and pass on everything else."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        storage_type, slash, name = path.removeprefix(_PREFIX).partition("/")
        if not path.startswith(_PREFIX) or not storage_type or not slash:
            await self._app(scope, receive, send)
            return
        name_route(scope, _ROUTE)
        query = scope["query_string"].decode("latin-1")
        filename = dict(parse_qsl(query)).get("filename") if query else None
        runtime: Runtime = scope["state"]["runtime"]
        await runtime.downloads.answer(storage_type, name, filename, scope, receive, send)
