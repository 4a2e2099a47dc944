"""The progress of a transfer, over a WebSocket (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

from collections.abc import Awaitable
from urllib.parse import parse_qsl

from starlette import status
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.api.dependencies import read_token
from open_workshop_storage.api.progress_watch import ProgressWatch
from open_workshop_storage.api.telling import Ending
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import StorageError
from open_workshop_storage.observability.fastapi_telemetry import name_route
from open_workshop_storage.services.runtime import Runtime

_PREFIX = "/transfer/ws/"
_ROUTE = "/transfer/ws/{job_id}"
_CODES = {
    Ending.COMPLETE: status.WS_1000_NORMAL_CLOSURE,
    Ending.STOPPING: status.WS_1012_SERVICE_RESTART,
    Ending.NOT_ALLOWED: status.WS_1008_POLICY_VIOLATION,
    Ending.AWAY: status.WS_1013_TRY_AGAIN_LATER,
}


class ProgressEndpoint:
    """Answers the WebSocket `/transfer/ws/{job_id}?token=…`.

    Thousands of sockets may be open and idle, so they are answered before FastAPI's routes, without what FastAPI keeps
    for each.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Send a job's state and then its events, until it ends or the client leaves; pass everything else on."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "websocket" else ""
        job_id = path.removeprefix(_PREFIX)
        if not path.startswith(_PREFIX) or "/" in job_id:
            return self._app(scope, receive, send)
        name_route(scope, _ROUTE)
        return _answer(job_id, scope, receive, send)


async def _answer(job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    runtime: Runtime = scope["state"]["runtime"]
    # The client's request to connect.
    await receive()
    watch = ProgressWatch(runtime, job_id, _expiry(scope, runtime, job_id))
    if not await watch.is_allowed():
        await send({"type": "websocket.close", "code": status.WS_1008_POLICY_VIOLATION})
        return

    def tell(version: int, text: str) -> Awaitable[None]:
        return send({"type": "websocket.send", "text": text})

    is_full = runtime.lifetime.sockets_are_full(job_id)
    with runtime.lifetime.holding_socket(job_id):
        await send({"type": "websocket.accept"})
        # A refusal before the handshake could have no other code than that of a wrong token.
        ending = Ending.AWAY if is_full else await watch.tell_until_end(tell, receive)
        if ending is not Ending.LEFT:
            await send({"type": "websocket.close", "code": _CODES[ending]})


def _expiry(scope: Scope, runtime: Runtime, job_id: str) -> float:
    """Return the Unix time at which the socket's token expires; 0, long ago, if it does not name the job."""
    text = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
    try:
        token = read_token(text, runtime)
        return token.expires_at if parse_claims(token.claims).job_id == job_id else 0
    except StorageError:
        return 0
