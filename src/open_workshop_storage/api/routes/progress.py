"""The progress of a transfer, over a WebSocket (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from starlette import status
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.dependencies import read_claims
from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.core.events import Event
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.observability.fastapi_telemetry import name_route
from open_workshop_storage.services.runtime import Runtime

_PREFIX = "/transfer/ws/"
_ROUTE = "/transfer/ws/{job_id}"


class ProgressEndpoint:
    """Answers the WebSocket `/transfer/ws/{job_id}?token=…`.

    Thousands of sockets may be open and idle, so what FastAPI keeps for each is spared: they turn off before its
    routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a job's state and then its events, until it ends or the client leaves; pass on everything else."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "websocket" else ""
        job_id = path.removeprefix(_PREFIX)
        if not path.startswith(_PREFIX) or "/" in job_id:
            await self._app(scope, receive, send)
            return
        name_route(scope, _ROUTE)
        runtime: Runtime = scope["state"]["runtime"]
        # The client's wish to connect.
        await receive()
        if not _may_watch(scope, runtime, job_id):
            await send({"type": "websocket.close", "code": status.WS_1008_POLICY_VIOLATION})
            return
        limit = runtime.settings.transfer_max_sockets
        is_full = limit and runtime.lifetime.open_sockets >= limit
        with runtime.lifetime.holding_socket():
            await send({"type": "websocket.accept"})
            # Before the handshake a refusal could have no other code than that of a wrong token.
            code = status.WS_1013_TRY_AGAIN_LATER if is_full else await _send_until_end(receive, send, runtime, job_id)
            if code is not None:
                await send({"type": "websocket.close", "code": code})


def _may_watch(scope: Scope, runtime: Runtime, job_id: str) -> bool:
    token = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
    try:
        return read_claims(token, runtime).job_id == job_id
    except StorageError:
        return False


async def _send_until_end(receive: Receive, send: Send, runtime: Runtime, job_id: str) -> int | None:
    """Send events until the last one; return the code to close with, `None` if the client has gone."""
    # A task of its own, to be ended with its client: a store that is away keeps watchers waiting.
    sending = asyncio.create_task(_watch(send, runtime.store, job_id))
    receiving = asyncio.ensure_future(receive())
    try:
        while True:
            awaited = (sending, receiving, runtime.lifetime.told_to_stop)
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                return sending.result()
            if not receiving.done():
                return status.WS_1012_SERVICE_RESTART
            if receiving.result()["type"] == "websocket.disconnect":
                return None
            receiving = asyncio.ensure_future(receive())
    finally:
        # The server's close never completes while something of the socket waits in receive().
        sending.cancel()
        receiving.cancel()
        await asyncio.wait((sending, receiving))


async def _watch(send: Send, store: JobStore, job_id: str) -> int | None:
    try:
        async with store.watch(job_id) as events:
            return await _send_all(send, events)
    except ServiceUnavailable:
        return status.WS_1013_TRY_AGAIN_LATER


async def _send_all(send: Send, events: AsyncIterator[Event]) -> int | None:
    async for event in events:
        try:
            await send({"type": "websocket.send", "text": event.text})
        except (RuntimeError, OSError):
            # The client has gone.
            return None
        if event.kind.final:
            return status.WS_1000_NORMAL_CLOSURE
    return None
