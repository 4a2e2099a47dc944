"""What the services rely on in FastAPI's own instrumentation, against the release that is installed."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.observability.telemetry import instruct, name_route

pytestmark = pytest.mark.anyio


class Shortcut:
    """Answers everything before the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name_route(scope, "/download/{type}/{path}")
        await PlainTextResponse("answer")(scope, receive, send)


async def span_names(config: TelemetryConfig) -> list[str]:
    """Return the spans of one request to an app that was instructed after it was made."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = FastAPI(middleware=[Middleware(Shortcut)], telemetry={"auto_configure": False})
    instruct(app, {"tracer_provider": provider, **config})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://storage") as client:
        assert (await client.get("/download/avatar/7.webp")).text == "answer"
    return [span.name for span in spans.get_finished_spans()]


async def test_a_request_that_is_answered_before_the_routes_has_the_name_of_its_route() -> None:
    assert await span_names({}) == ["GET /download/{type}/{path}"]


async def test_an_app_that_is_told_not_to_record_makes_no_spans() -> None:
    assert await span_names({"tracing": False}) == []
