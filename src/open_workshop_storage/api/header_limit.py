"""Refuses requests whose headers or queries are too large."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.core.errors import HeadersTooLarge, QueryTooLarge

# In all as nginx by default, of header fields and of the request line.
_MAX_BYTES = 32 * 1024
_MAX_FIELD_BYTES = 16 * 1024
_MAX_QUERY_BYTES = 8 * 1024
_MAX_PARAMETERS = 100


class HeaderLimit:
    """Refuses requests with too large a query, or header fields: more than 16 KiB in one, or 32 KiB in all.

    The server takes ten times as much, and a list of ranges, cookies or parameters of that length takes up to a second
    of the event loop. A token or a list of entity tags of 32 KiB still takes 5 ms.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass everything else on.

        Raises:
            HeadersTooLarge: One header field has more bytes than that, or all together.
            QueryTooLarge: The query has more than 8 KiB, or 100 parameters.
        """
        if scope["type"] != "lifespan":
            size = 0
            for name, value in scope["headers"]:
                field_size = len(name) + len(value)
                size += field_size
                if field_size > _MAX_FIELD_BYTES or size > _MAX_BYTES:
                    raise HeadersTooLarge
            query = scope["query_string"]
            if len(query) > _MAX_QUERY_BYTES or query.count(b"&") >= _MAX_PARAMETERS:
                raise QueryTooLarge
        return self._app(scope, receive, send)
