"""The least that an ASGI app can do: it sends one file by its path, whatever it is asked for."""

from __future__ import annotations

import os
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Send the file that the variable `BARE_FILE` names."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = os.environ["BARE_FILE"]
    headers = [(b"content-type", b"image/webp"), (b"content-length", os.environ["BARE_LENGTH"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.pathsend", "path": path})
