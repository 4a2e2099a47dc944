"""An app that shows what granian does with a worker, for tests/processes/test_granian.py."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from starlette.types import Receive, Scope, Send

from open_workshop_storage.utils.processes import granian

STUCK_SECONDS = 2.0
_SMALLEST_BUFFER = 4608

_seen: dict[str, Any] = {"told": 0, "taken": {}}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `/seen` with what was seen so far; do what the other paths name."""
    if scope["type"] == "lifespan":
        await receive()
        granian.take_stop_signal(_told)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/end":
        granian.end_server()
    elif scope["path"] == "/stop":
        granian.stop_worker(patience_seconds=10)
    elif scope["path"].startswith("/blocks/"):
        await _send_blocks(int(scope["path"].rpartition("/")[2]), send)
        return
    _seen["main"] = granian.main_process_id()
    _seen["ports"] = []
    for listener in granian.listening_sockets():
        with listener:
            _seen["ports"].append(listener.getsockname()[1])
            # Connections that it accepts from now on leave little to the kernel.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALLEST_BUFFER)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": json.dumps(_seen).encode()})


def _told() -> None:
    _seen["told"] += 1


async def _send_blocks(size: int, send: Send) -> None:
    """Send blocks until the server takes no more, and note how many bytes it took."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    taken = 0
    while True:
        sending = asyncio.ensure_future(send({"type": "http.response.body", "body": bytes(size), "more_body": True}))
        if not (await asyncio.wait([sending], timeout=STUCK_SECONDS))[0]:
            break
        taken += size
    _seen["taken"][str(size)] = taken
    await sending
