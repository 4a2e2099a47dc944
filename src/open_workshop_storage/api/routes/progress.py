"""The progress of a transfer, over a WebSocket (wire contract, section 5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, WebSocket, WebSocketDisconnect, status

from open_workshop_storage.api.dependencies import RuntimeDep, read_claims
from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.core.job import Event
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.runtime import Runtime

router = APIRouter()


@router.websocket("/transfer/ws/{job_id}")
async def progress(websocket: WebSocket, job_id: str, runtime: RuntimeDep, token: str | None = None) -> None:
    """Send a job's state and then its events, until it ends or the client leaves."""
    try:
        claims = read_claims(token, runtime)
    except StorageError:
        claims = None
    if claims is None or claims.job_id != job_id:
        await websocket.close(status.WS_1008_POLICY_VIOLATION)
        return
    with runtime.runs.attending():
        await websocket.accept()
        try:
            code = await _send_until_end(websocket, runtime, job_id)
        except ServiceUnavailable:
            code = status.WS_1013_TRY_AGAIN_LATER
        if code is not None:
            await websocket.close(code)


async def _send_until_end(websocket: WebSocket, runtime: Runtime, job_id: str) -> int | None:
    """Send events until the last one; return the code to close with, `None` if the client has gone."""
    sending = asyncio.create_task(_watch(websocket, runtime.store, job_id))
    leaving = asyncio.create_task(_wait_for_disconnect(websocket))
    restarting = asyncio.create_task(runtime.runs.stopping.wait())
    tasks = [sending, leaving, restarting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            return status.WS_1000_NORMAL_CLOSURE if sending.result() else None
        return None if leaving.done() else status.WS_1012_SERVICE_RESTART
    finally:
        # The server's close never completes while another task of the socket waits in receive().
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _watch(websocket: WebSocket, store: JobStore, job_id: str) -> bool:
    # All of it in a task that ends with its client, since a store that is away keeps watchers waiting.
    async with store.watch(job_id) as events:
        return await _send(websocket, events)


async def _send(websocket: WebSocket, events: AsyncIterator[Event]) -> bool:
    """Send events; return whether the last one was sent, and not the client gone before it."""
    async for event in events:
        try:
            await websocket.send_text(event.text)
        except (WebSocketDisconnect, RuntimeError, OSError):
            return False
        if event.kind.final:
            return True
    return False


async def _wait_for_disconnect(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
