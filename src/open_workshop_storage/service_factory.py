"""Builds the apps of the services: lifespan, middleware, health, documents and error answers."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from open_workshop_storage import __version__
from open_workshop_storage.api.common_headers import CommonHeaders
from open_workshop_storage.api.documents import webhooks
from open_workshop_storage.api.documents.messages import CallbackClaims, ProgressMessage, TransferTokenClaims
from open_workshop_storage.api.documents.openapi import ABOUT_ANSWERS, LICENCE, DocumentedApp, operation_id
from open_workshop_storage.api.documents.swagger import swagger_routes
from open_workshop_storage.api.error_answers import FRAMEWORK_HANDLERS, FailureMiddleware
from open_workshop_storage.api.header_limit import HeaderLimit
from open_workshop_storage.api.routes import health, metrics
from open_workshop_storage.api.shortcuts import Remembered
from open_workshop_storage.observability.logs import configure_logging
from open_workshop_storage.observability.telemetry import open_telemetry
from open_workshop_storage.services.operations.environment import environment_warnings
from open_workshop_storage.services.runtime import open_runtime
from open_workshop_storage.startup import SettingsMiddleware

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What differs between services.

    Attributes:
        title: Its name in the documents.
        description: What it does, for the documents.
        prefix: What its documents stand below, without a last slash.
        routers: Its functional routes.
        loads: Whether it takes files in and works on jobs.
        health_prefixes: What health and readiness stand below.
        protocols: Middleware that changes requests and answers before all other does.
        shortcuts: Middleware that answers some requests before FastAPI's routing does.
    """

    title: str
    description: str
    prefix: str
    routers: Sequence[APIRouter]
    loads: bool
    health_prefixes: Sequence[str]
    protocols: Sequence[Middleware] = ()
    shortcuts: Sequence[Middleware] = ()


class _App(DocumentedApp):
    """An app that gives remembered answers before its middleware is asked, also that which is not chosen here."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put what gives them around it."""
        return Remembered(super().build_middleware_stack())


def create_app(service: Service) -> FastAPI:
    """Build the app of a service. Nothing is read or opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        settings = app.state.settings
        configure_logging(settings.log_format)
        for subject, text in environment_warnings():
            _logger.warning("%s: %s", subject, text)
        async with (
            open_telemetry(app, settings) as exposition,
            open_runtime(settings, loads=service.loads) as runtime,
        ):
            # The objects that exist now stay. A full collection would scan them all, with requests and sockets waiting.
            gc.collect()
            gc.freeze()
            yield {"runtime": runtime, "exposition": exposition}

    app = _App(
        title=service.title,
        description=f"{service.description}\n\n{ABOUT_ANSWERS}",
        version=__version__,
        license_info=LICENCE,
        messages=(TransferTokenClaims, ProgressMessage, CallbackClaims) if service.loads else (),
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{service.prefix}/openapi.json",
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(SettingsMiddleware),
            *service.protocols,
            Middleware(CommonHeaders),
            Middleware(FailureMiddleware),
            Middleware(HeaderLimit),
            *service.shortcuts,
        ],
        exception_handlers=FRAMEWORK_HANDLERS,
        # Settings decide, not the variables that FastAPI would read.
        telemetry={"auto_configure": False},
        webhooks=webhooks.router if service.loads else None,
        routes=swagger_routes(service.title, service.prefix),
    )
    for prefix in service.health_prefixes:
        app.include_router(health.router, prefix=prefix)
        if prefix:
            app.include_router(metrics.router, prefix=prefix)
    for router in service.routers:
        app.include_router(router)
    return app
