"""Refuses requests whose headers or queries are too large."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.core.errors import HeadersTooLarge, QueryTooLarge

# What nginx takes by default, of header fields and of the request line.
_MAX_BYTES = 32 * 1024
_MAX_QUERY_BYTES = 8 * 1024
_MAX_PARAMETERS = 100


class HeaderLimit:
    """Refuses requests whose header fields have more than 32 KiB together, or a query of 8 KiB or 100 parameters.

    The server takes ten times as much, and a list of ranges, cookies or parameters of that length takes up to a second
    of the event loop.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else on.

        Raises:
            HeadersTooLarge: The header fields have more bytes than that.
            QueryTooLarge: The query has more bytes or parameters.
        """
        if scope["type"] != "lifespan":
            size = 0
            for name, value in scope["headers"]:
                size += len(name) + len(value)
            if size > _MAX_BYTES:
                raise HeadersTooLarge
            query = scope["query_string"]
            if len(query) > _MAX_QUERY_BYTES or query.count(b"&") >= _MAX_PARAMETERS:
                raise QueryTooLarge
        await self._app(scope, receive, send)
