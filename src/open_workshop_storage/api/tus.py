"""What holds for all requests of tus, whichever route they are for (tus.io, "Resumable upload protocol 1.0.x")."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.utils.http.tus import CHECKSUM_ALGORITHMS, EXTENSIONS, VERSION

PREFIX = "/transfer/tus/"


class TusProtocol:
    """Obeys `X-HTTP-Method-Override`, and puts the protocol's headers on all answers, those to `OPTIONS` too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on everything else as it is."""
        if scope["type"] != "http" or not scope["path"].removeprefix(scope.get("root_path", "")).startswith(PREFIX):
            return self._app(scope, receive, send)
        headers = Headers(scope=scope)
        method = headers.get("x-http-method-override", scope["method"]).upper()
        settings: Settings = scope["app"].state.settings

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Tus-Resumable"] = VERSION
                if method == "OPTIONS" or message["status"] == HTTPStatus.PRECONDITION_FAILED:
                    answer["Tus-Version"] = VERSION
                if method == "OPTIONS":
                    answer["Tus-Extension"] = ",".join(EXTENSIONS)
                    answer["Tus-Checksum-Algorithm"] = ",".join(CHECKSUM_ALGORITHMS)
                    if settings.transfer_max_bytes:
                        answer["Tus-Max-Size"] = str(settings.transfer_max_bytes)
            await send(message)

        return self._app({**scope, "method": method}, receive, send_with_headers)
