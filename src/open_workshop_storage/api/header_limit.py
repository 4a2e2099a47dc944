"""Refuses requests whose headers are too large."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.core.errors import HeadersTooLarge

# What nginx takes by default.
_MAX_BYTES = 32 * 1024


class HeaderLimit:
    """Refuses requests whose header fields have more than 32 KiB together.

    The server takes ten times as much, and a list of ranges, cookies or parameters of that length takes up to a second
    of the event loop.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else on.

        Raises:
            HeadersTooLarge: The header fields have more bytes than that.
        """
        if scope["type"] == "http":
            size = 0
            for name, value in scope["headers"]:
                size += len(name) + len(value)
            if size > _MAX_BYTES:
                raise HeadersTooLarge
        await self._app(scope, receive, send)
