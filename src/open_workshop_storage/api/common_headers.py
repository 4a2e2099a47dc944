"""Headers that every answer has, for browsers, and the answer to OPTIONS (CORS).

Scripts of any origin may read answers (docs/API.md, "Answers"; Fetch standard, CORS protocol). Browsers must not guess
another content type (Fetch standard, `X-Content-Type-Options`), and must not send addresses, which may contain tokens,
to other sites (Referrer Policy).
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
            asked = Headers(scope=scope).getlist("access-control-request-headers")
            headers = {**_PREFLIGHT_HEADERS, "Access-Control-Allow-Headers": ", ".join(asked) or "*"}
            return PlainTextResponse("OK", headers=headers)(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *RAW_HEADERS]
            await send(message)

        return self._app(scope, receive, send_with_headers)
