"""Refuses requests with more headers than anyone needs."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.failures import answer_storage_error
from open_workshop_storage.core.errors import HeadersTooLarge

# What nginx takes by default.
_MAX_BYTES = 32 * 1024


class HeaderLimit:
    """Answers 431 to a request whose header fields have more than 32 KiB together.

    The server takes ten times as much, and to read so long a list of ranges, cookies or parameters takes up to a second
    of the event loop.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything else."""
        if scope["type"] == "http":
            size = 0
            for name, value in scope["headers"]:
                size += len(name) + len(value)
            if size > _MAX_BYTES:
                response = await answer_storage_error(Request(scope), HeadersTooLarge())
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
