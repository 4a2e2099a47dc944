"""The progress of a transfer, over a WebSocket or as Server-Sent Events (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qsl

from fastapi import APIRouter, Response
from starlette import status
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from open_workshop_storage.api.dependencies import read_token
from open_workshop_storage.api.documents import transfers
from open_workshop_storage.api.progress_watch import Ending, ProgressWatch
from open_workshop_storage.api.request_bodies import number_in
from open_workshop_storage.api.shortcuts import WEBSOCKET, Shortcut
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import AccessDenied, ServiceUnavailable, StorageError
from open_workshop_storage.services.runtime import Runtime

_SOCKETS_ROUTE = "/transfer/ws/{job_id}"
_EVENTS_ROUTE = "/transfer/events/{job_id}"
_CODES = {
    Ending.COMPLETE: status.WS_1000_NORMAL_CLOSURE,
    Ending.STOPPING: status.WS_1012_SERVICE_RESTART,
    Ending.NOT_ALLOWED: status.WS_1008_POLICY_VIOLATION,
    Ending.AWAY: status.WS_1013_TRY_AGAIN_LATER,
}
_HEADERS_OF_EVENTS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx hands each message on as it comes.
    (b"x-accel-buffering", b"no"),
]

router = APIRouter(tags=["transfers"])


@router.get(_EVENTS_ROUTE, response_class=Response, **transfers.EVENTS)
async def events() -> Response:
    """Tell a job's state and then all changes, as messages that `EventSource` hands to `onmessage`.

    Each message is JSON of the schema `ProgressMessage`, as over the WebSocket `/transfer/ws/{job_id}`; its `id` is the
    version of the job. The answer ends with the transfer.
    """
    raise AssertionError("the shortcut answers before the routes are reached")


async def _answer_socket(job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    runtime: Runtime = scope["state"]["runtime"]
    # The client's request to connect.
    await receive()
    try:
        expires_at = _expiry(job_id, scope, runtime)
    except StorageError:
        expires_at = -math.inf
    watch = ProgressWatch(runtime, job_id, expires_at)
    if not await watch.is_allowed():
        await send({"type": "websocket.close", "code": status.WS_1008_POLICY_VIOLATION})
        return

    def tell(version: int, text: str) -> Awaitable[None]:
        return send({"type": "websocket.send", "text": text})

    is_full = runtime.lifetime.sockets_are_full(job_id)
    with runtime.lifetime.holding_socket(job_id):
        await send({"type": "websocket.accept"})
        # A refusal before the handshake could have no other code than that of a wrong token.
        ending = Ending.AWAY if is_full else await watch.tell_until_end(tell, receive)
        if ending is not Ending.LEFT:
            await send({"type": "websocket.close", "code": _CODES[ending]})


async def _answer_events(job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    runtime: Runtime = scope["state"]["runtime"]
    heard = number_in(Headers(scope=scope).get("last-event-id", ""))
    watch = ProgressWatch(runtime, job_id, _expiry(job_id, scope, runtime), heard)
    if not await watch.is_allowed():
        raise AccessDenied
    if heard is not None and await _has_heard_the_end(runtime, job_id, heard):
        # Nothing else keeps EventSource from asking again (HTML Standard, "Server-sent events").
        await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
        return
    if runtime.lifetime.sockets_are_full(job_id):
        raise ServiceUnavailable

    def tell(version: int, text: str) -> Awaitable[None]:
        message = f"id: {version}\ndata: {text}\n\n"
        return send({"type": "http.response.body", "body": message.encode(), "more_body": True})

    with runtime.lifetime.holding_socket(job_id):
        await send({"type": "http.response.start", "status": HTTPStatus.OK.value, "headers": _HEADERS_OF_EVENTS})
        if await watch.tell_until_end(tell, receive) is not Ending.LEFT:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _expiry(job_id: str, scope: Scope, runtime: Runtime) -> float:
    """Return the Unix time at which the token in the query expires.

    Raises:
        StorageError: There is none that names the job.
    """
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    token = read_token(query.get("token"), runtime)
    if parse_claims(token.claims).job_id != job_id:
        raise AccessDenied
    return token.expires_at


async def _has_heard_the_end(runtime: Runtime, job_id: str, heard: int) -> bool:
    with suppress(ServiceUnavailable):
        job = await runtime.store.get(job_id)
        return job is not None and job.ended and heard >= (job.end_version or job.version)
    return False


SHORTCUTS = (
    Shortcut((WEBSOCKET,), _SOCKETS_ROUTE, _answer_socket),
    Shortcut(("GET",), _EVENTS_ROUTE, _answer_events),
)
