"""The least that an ASGI app can do: it answers by what the path says, and decides nothing."""

from __future__ import annotations

import os
from typing import Any

from open_workshop_storage.utils.files.reading import UnlinkedOpener

_BLOCK = bytes(256 * 1024)
_OPENER = UnlinkedOpener(os.O_RDONLY, on_loop=True)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer `/path`, `/read`, `/accel/<uri>` or `/blocks/<count>`.

    That is: send the file that the variable `BARE_FILE` names by its path; look for it, read it and send its bytes; let
    nginx send what it has at the URI; send so many blocks of 256 KiB, always the same.
    """
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    _, way, argument = f"{scope['path']}/".split("/", 2)
    headers = [(b"content-type", b"image/webp")]
    if way == "accel":
        headers += [(b"x-accel-redirect", b"/" + argument.rstrip("/").encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    elif way == "read":
        content = _read(os.environ["BARE_FILE"])
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
    elif way == "blocks":
        count = int(argument.rstrip("/"))
        headers.append((b"content-length", str(count * len(_BLOCK)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(count):
            await send({"type": "http.response.body", "body": _BLOCK, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        headers.append((b"content-length", os.environ["BARE_LENGTH"].encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": os.environ["BARE_FILE"]})


def _read(path: str) -> bytes:
    """Take the steps to a file's bytes that follow no link, and know its version."""
    descriptor = _OPENER.open(path)
    assert descriptor is not None
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


async def lifespan(receive: Any, send: Any) -> None:
    """Start and end at once."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})
