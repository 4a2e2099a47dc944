"""Reads the settings before anything else starts."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.core.settings import SettingsError, load_settings
from open_workshop_storage.utils.processes.granian import end_server


class SettingsMiddleware:
    """Loads the settings when the server starts the app, and stops the start with one message if they are wrong.

    A lifespan function that raises is reported with its traceback, so the message is sent before the lifespan begins.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass everything on, except a start with faulty settings."""
        return (self._start if scope["type"] == "lifespan" else self._app)(scope, receive, send)

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["app"].state.settings = load_settings()
        except SettingsError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            end_server()
            return
        await self._app(scope, receive, send)
