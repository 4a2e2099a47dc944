"""Headers that every answer has, for browsers, the answer to OPTIONS (CORS), and how large headers and queries may be.

Scripts of any origin may read answers (docs/API.md, "Answers"; Fetch standard, CORS protocol). Browsers must not guess
another content type (Fetch standard, `X-Content-Type-Options`), and must not send addresses, which may contain tokens,
to other sites (Referrer Policy).
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from open_workshop_storage.core.errors import HeadersTooLarge, QueryTooLarge

_EXPOSED = (
    "Content-Disposition, Content-Range, ETag, X-Unpacked-Bytes, Retry-After, Repr-Digest, X-Entry-CRC32, Location, "
    "Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, "
    "Upload-Defer-Length, Upload-Metadata, Upload-Expires"
)
COMMON_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": _EXPOSED,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every answer, errors included."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in COMMON_HEADERS.items()]
"""The same, as ASGI takes them."""

_PREFLIGHT_HEADERS = {
    **COMMON_HEADERS,
    "Access-Control-Allow-Methods": ",".join(METHODS),
    "Access-Control-Max-Age": "600",
    "Vary": "Access-Control-Request-Headers",
}

# In all as nginx by default, of header fields and of the request line.
_MAX_BYTES = 32 * 1024
_MAX_FIELD_BYTES = 16 * 1024
_MAX_QUERY_BYTES = 8 * 1024
_MAX_PARAMETERS = 100


class CommonHeaders:
    """Lets scripts of any origin use the services, without credentials, and adds the common headers to every answer.

    Starlette's own middleware refuses preflights with 400 and adds nothing where a request names no origin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer OPTIONS, and add the headers to all other answers."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if scope["method"] == "OPTIONS":
            # Any request header is allowed; the wildcard would leave Authorization out.
            requested = Headers(scope=scope).getlist("access-control-request-headers")
            headers = {**_PREFLIGHT_HEADERS, "Access-Control-Allow-Headers": ", ".join(requested) or "*"}
            return PlainTextResponse("OK", headers=headers)(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *RAW_HEADERS]
            await send(message)

        return self._app(scope, receive, send_with_headers)


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
