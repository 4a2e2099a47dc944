"""Builds the apps of the services: settings, lifespan, middleware, health, documents and error answers."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage import __version__
from open_workshop_storage.api.documents.messages import CallbackClaims, ProgressMessage, TransferTokenClaims, webhooks
from open_workshop_storage.api.documents.openapi import ABOUT_ANSWERS, LICENCE, completed, operation_id
from open_workshop_storage.api.documents.swagger import swagger_routes
from open_workshop_storage.api.error_answers import FRAMEWORK_HANDLERS, FailureMiddleware
from open_workshop_storage.api.headers import CommonHeaders, HeaderLimit
from open_workshop_storage.api.routes import health
from open_workshop_storage.api.routes.downloads import Remembered
from open_workshop_storage.api.shortcuts import Shortcut, Shortcuts
from open_workshop_storage.core.settings import SettingsError, load_settings
from open_workshop_storage.observability.logs import configure_logging
from open_workshop_storage.observability.telemetry import open_telemetry
from open_workshop_storage.services.operations.findings import environment_findings
from open_workshop_storage.services.runtime import open_runtime
from open_workshop_storage.utils.processes.granian import end_server

_logger = logging.getLogger(__name__)


class _App(FastAPI):
    """An app with a complete document, which gives remembered answers before all middleware is asked, also FastAPI's.

    Args:
        loads: Whether tokens, callbacks and messages of progress belong to its document.
        settings: What FastAPI takes.
    """

    def __init__(self, *, loads: bool, **settings: Any) -> None:
        super().__init__(webhooks=webhooks if loads else None, **settings)
        self._messages = (TransferTokenClaims, ProgressMessage, CallbackClaims) if loads else ()

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return completed(super().openapi(), self._messages)

    def build_middleware_stack(self) -> ASGIApp:
        """Put what gives remembered answers around all else."""
        return Remembered(super().build_middleware_stack())


class _SettingsMiddleware:
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


def create_app(
    title: str,
    description: str,
    prefix: str,
    routers: Sequence[APIRouter],
    *,
    loads: bool,
    health_prefixes: Sequence[str] = (),
    protocols: Sequence[Middleware] = (),
    shortcuts: Sequence[Shortcut] = (),
) -> FastAPI:
    """Build the app of a service. Nothing is read or opened before its lifespan begins.

    Args:
        title: Its name in the documents.
        description: What it does, for the documents.
        prefix: What its documents and its health stand below, without a last slash.
        routers: Its functional routes.
        loads: Whether it takes files in and works on jobs.
        health_prefixes: What its health stands below, too.
        protocols: Middleware that changes requests and answers before all other does.
        shortcuts: What is answered before FastAPI's routes are reached.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        settings = app.state.settings
        configure_logging(settings.log_format)
        for _, subject, text in environment_findings():
            _logger.warning("%s: %s", subject, text)
        async with open_telemetry(app, settings) as exposition, open_runtime(settings, loads=loads) as runtime:
            # The objects that exist now stay. A full collection would scan them all, with requests and sockets waiting.
            gc.collect()
            gc.freeze()
            yield {"runtime": runtime, "exposition": exposition}

    app = _App(
        title=title,
        description=f"{description}\n\n{ABOUT_ANSWERS}",
        version=__version__,
        license_info=LICENCE,
        loads=loads,
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{prefix}/openapi.json",
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(_SettingsMiddleware),
            *protocols,
            Middleware(CommonHeaders),
            Middleware(FailureMiddleware),
            Middleware(HeaderLimit),
            Middleware(Shortcuts, shortcuts),
        ],
        exception_handlers=FRAMEWORK_HANDLERS,
        # Settings decide, not the variables that FastAPI would read.
        telemetry={"auto_configure": False},
        routes=swagger_routes(title, prefix),
    )
    for below in (prefix, *health_prefixes):
        app.include_router(health.router, prefix=below)
        if below:
            app.include_router(health.metrics_router, prefix=below)
    for router in routers:
        app.include_router(router)
    return app
