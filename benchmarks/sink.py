"""The least that a loader can do: it writes each chunk of a body to one file at once, and holds WebSockets open."""

from __future__ import annotations

import os
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Write a request's body to the file that the variable `SINK_FILE` names, or wait for a WebSocket's client."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    descriptor = os.open(os.environ["SINK_FILE"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while True:
        message = await receive()
        if body := message.get("body"):
            os.write(descriptor, body)
        if not message.get("more_body"):
            break
    os.close(descriptor)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
