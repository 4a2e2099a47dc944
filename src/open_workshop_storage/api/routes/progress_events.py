"""The progress of a transfer as Server-Sent Events (docs/API.md, "GET `/transfer/events/{job_id}`")."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from contextlib import suppress

from fastapi import APIRouter, Response
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.dependencies import read_token
from open_workshop_storage.api.documents import transfers
from open_workshop_storage.api.progress_watch import ProgressWatch
from open_workshop_storage.api.telling import Ending
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import AccessDenied, ServiceUnavailable
from open_workshop_storage.observability.fastapi_telemetry import name_route
from open_workshop_storage.services.runtime import Runtime

_PREFIX = "/transfer/events/"
_ROUTE = "/transfer/events/{job_id}"
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx hands each message on as it comes.
    (b"x-accel-buffering", b"no"),
]

router = APIRouter(tags=["transfers"])


@router.get(_ROUTE, response_class=Response, **transfers.EVENTS)
async def events() -> Response:
    """Tell a job's state and then all changes, as messages that `EventSource` hands to `onmessage`.

    Each message is JSON of the schema `ProgressMessage`, as over the WebSocket `/transfer/ws/{job_id}`; its `id` is the
    version of the job. The answer ends with the transfer.
    """
    raise AssertionError("the endpoint answers before the routes are reached")


class EventsEndpoint:
    """Answers `GET /transfer/events/{job_id}?token=…` before FastAPI's routes, as `ProgressEndpoint` does sockets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Send a job's state and then its events, until it ends or the client leaves; pass everything else on."""
        is_asked = scope["type"] == "http" and scope["method"] == "GET"
        path = scope["path"].removeprefix(scope.get("root_path", "")) if is_asked else ""
        job_id = path.removeprefix(_PREFIX)
        if not path.startswith(_PREFIX) or not job_id or "/" in job_id:
            return self._app(scope, receive, send)
        name_route(scope, _ROUTE)
        return _answer(job_id, scope, receive, send)


async def _answer(job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    runtime: Runtime = scope["state"]["runtime"]
    heard = _number(Headers(scope=scope).get("last-event-id", ""))
    watch = ProgressWatch(runtime, job_id, _expiry(scope, runtime, job_id), heard)
    if not await watch.is_allowed():
        raise AccessDenied
    if heard is not None and await _has_heard_the_end(runtime, job_id, heard):
        # Nothing else keeps EventSource from asking again (HTML Standard, "Server-sent events").
        await Response(status_code=204)(scope, receive, send)
        return
    if runtime.lifetime.sockets_are_full(job_id):
        raise ServiceUnavailable

    def tell(version: int, text: str) -> Awaitable[None]:
        message = f"id: {version}\ndata: {text}\n\n"
        return send({"type": "http.response.body", "body": message.encode(), "more_body": True})

    with runtime.lifetime.holding_socket(job_id):
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if await watch.tell_until_end(tell, receive) is not Ending.LEFT:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _expiry(scope: Scope, runtime: Runtime, job_id: str) -> float:
    token = read_token(QueryParams(scope["query_string"]).get("token"), runtime)
    if parse_claims(token.claims).job_id != job_id:
        raise AccessDenied
    return token.expires_at


async def _has_heard_the_end(runtime: Runtime, job_id: str, heard: int) -> bool:
    with suppress(ServiceUnavailable):
        job = await runtime.store.get(job_id)
        return job is not None and job.ended and heard >= (job.end_version or job.version)
    return False


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None
