"""Reads the settings before anything else starts."""

from __future__ import annotations

import multiprocessing
import os
import signal

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.core.settings import SettingsError, load_settings


class SettingsMiddleware:
    """Loads the settings when the server starts the app, and stops the start with one message if they are wrong.

    A lifespan function that raises would be reported with its traceback; the message has to be sent before that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but a start with faulty settings."""
        if scope["type"] == "lifespan":
            try:
                scope["app"].state.settings = load_settings()
            except SettingsError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                _end_server()
                return
        await self._app(scope, receive, send)


def _end_server() -> None:
    """End the server that would otherwise start this worker again.

    With `--respawn-failed-workers` granian gives up only if the same worker fails twice in a row, which several
    workers that fail in turn never do. Its own signals would have it end with status 0.
    """
    server = multiprocessing.parent_process()
    if server is not None and server.pid == os.getppid():
        os.kill(os.getppid(), signal.SIGUSR1)
