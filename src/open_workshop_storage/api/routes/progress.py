"""The progress of a transfer, over a WebSocket (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from starlette import status
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.dependencies import read_token
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.core.events import Event, repeated
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.observability.fastapi_telemetry import name_route
from open_workshop_storage.services.runtime import Runtime

_PREFIX = "/transfer/ws/"
_ROUTE = "/transfer/ws/{job_id}"
_SILENCE_SECONDS = 30.0


class ProgressEndpoint:
    """Answers the WebSocket `/transfer/ws/{job_id}?token=…`.

    Thousands of sockets may be open and idle, so they are answered before FastAPI's routes, without what FastAPI keeps
    for each.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a job's state and then its events, until it ends or the client leaves; pass everything else on."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "websocket" else ""
        job_id = path.removeprefix(_PREFIX)
        if not path.startswith(_PREFIX) or "/" in job_id:
            await self._app(scope, receive, send)
            return
        name_route(scope, _ROUTE)
        runtime: Runtime = scope["state"]["runtime"]
        # The client's request to connect.
        await receive()
        socket = _Socket(scope, receive, send, runtime, job_id)
        if not await socket.may_watch():
            await send({"type": "websocket.close", "code": status.WS_1008_POLICY_VIOLATION})
            return
        is_full = runtime.lifetime.sockets_are_full(job_id)
        with runtime.lifetime.holding_socket(job_id):
            await send({"type": "websocket.accept"})
            # A refusal before the handshake could have no other code than that of a wrong token.
            code = status.WS_1013_TRY_AGAIN_LATER if is_full else await socket.send_until_end()
            if code is not None:
                await send({"type": "websocket.close", "code": code})


class _Socket:
    """One client's socket for one job."""

    __slots__ = ("_receive", "_send", "_runtime", "_job_id", "_expires_at")

    def __init__(self, scope: Scope, receive: Receive, send: Send, runtime: Runtime, job_id: str) -> None:
        self._receive = receive
        self._send = send
        self._runtime = runtime
        self._job_id = job_id
        self._expires_at = _expiry(scope, runtime, job_id)

    async def may_watch(self) -> bool:
        """Tell whether the token allows to watch the job now (docs/API.md, "Transfer tokens").

        One that has expired does so while its job has not ended, for `TRANSFER_RESUME_SECONDS` at most.
        """
        expired_seconds = time.time() - self._expires_at
        if expired_seconds <= 0:
            return True
        if expired_seconds > self._runtime.settings.transfer_resume_seconds:
            return False
        try:
            job = await self._runtime.store.get(self._job_id)
        except ServiceUnavailable:
            # The socket waits for Redis as others do.
            return True
        return job is not None and not job.ended

    async def send_until_end(self) -> int | None:
        """Send events until the last one; return the code to close with, `None` if the client has left."""
        told_to_stop = self._runtime.lifetime.told_to_stop
        # A task of its own, to be ended with its client: it waits for a store that is away.
        sending = asyncio.create_task(_watch(self._send, self._runtime.store, self._job_id))
        receiving = asyncio.ensure_future(self._receive())
        try:
            while True:
                awaited = (sending, receiving, told_to_stop)
                await asyncio.wait(awaited, timeout=self._next_check_seconds(), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    return sending.result()
                if told_to_stop.done():
                    return status.WS_1012_SERVICE_RESTART
                if not receiving.done():
                    if not await self.may_watch():
                        return status.WS_1008_POLICY_VIOLATION
                elif receiving.result()["type"] == "websocket.disconnect":
                    return None
                else:
                    receiving = asyncio.ensure_future(self._receive())
        finally:
            # The server's close never completes while something of the socket waits in receive().
            sending.cancel()
            receiving.cancel()
            await asyncio.wait((sending, receiving))

    def _next_check_seconds(self) -> float:
        left = self._expires_at - time.time()
        return max(left if left > 0 else left + self._runtime.settings.transfer_resume_seconds, 0) + 0.001


def _expiry(scope: Scope, runtime: Runtime, job_id: str) -> float:
    """Return the Unix time at which the socket's token expires; 0, long ago, if it does not name the job."""
    text = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
    try:
        token = read_token(text, runtime)
        return token.expires_at if parse_claims(token.claims).job_id == job_id else 0
    except StorageError:
        return 0


async def _watch(send: Send, store: JobStore, job_id: str) -> int | None:
    try:
        async with store.watch(job_id) as events:
            return await send_all(send, events)
    except ServiceUnavailable:
        return status.WS_1013_TRY_AGAIN_LATER


async def send_all(send: Send, events: AsyncIterator[Event], silence_seconds: float = _SILENCE_SECONDS) -> int | None:
    """Send events until the last one; return the code to close with, `None` if the client has left.

    Args:
        silence_seconds: After so long without a message the present state is sent again.
    """
    text = ""
    while True:
        is_final = False
        try:
            async with asyncio.timeout(silence_seconds):
                event = await anext(events)
            text, is_final = event.text, event.kind.final
        except TimeoutError:
            # Nothing to repeat yet: the store is away.
            if not text:
                continue
            text = repeated(text)
        try:
            await send({"type": "websocket.send", "text": text})
        except (RuntimeError, OSError):
            # The client has left.
            return None
        if is_final:
            return status.WS_1000_NORMAL_CLOSURE
