"""Turns telemetry on where there is a DSN, and sends what is left of it at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from opentelemetry import _logs, metrics, trace
from starlette.datastructures import Headers
from starlette.types import Scope

from open_workshop_storage.core.setting_types import listed
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.fastapi_telemetry import instruct

_logger = logging.getLogger(__name__)

# Shorter than what a stopping worker has left (`services.operations.shutdown`).
_CLOSING_SECONDS = 3.0
_OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


@asynccontextmanager
async def open_telemetry(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Export what the process does in the block, if `UPTRACE_DSN` is set.

    Called once in each process, after it was forked: exporters have threads and connections of their own.
    """
    if not settings.uptrace_dsn:
        instruct(app, _OFF)
        yield
        return
    # gRPC's hooks for forks may crash the child while an export is under way; no child of ours calls gRPC.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    # gRPC takes time and memory at import, which services without telemetry need not pay.
    from open_workshop_storage.observability.exporters import start_exporting

    start_exporting(settings)
    # FastAPI's records of failures contain messages of exceptions, which may hold secrets; our log lines do not.
    chosen: TelemetryConfig = {
        "logs": False,
        "operation_spans": "operation" not in listed(settings.uptrace_fastapi_exclude_spans),
        "exclude": _excluder(listed(settings.uptrace_fastapi_excluded_urls)),
    }
    instruct(app, chosen)
    try:
        yield
    finally:
        await _close()


def _excluder(patterns: list[str]) -> Callable[[Scope], bool] | None:
    """Return what tells whether one of the patterns is in a request's URL, without its query string."""
    if not patterns:
        return None
    wanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def is_excluded(scope: Scope) -> bool:
        host = Headers(scope=scope).get("host", "")
        return wanted.search(f"{scope['scheme']}://{host}{scope['path']}") is not None

    return is_excluded


async def _close() -> None:
    """Send what is left; give up after `_CLOSING_SECONDS` if the receiver does not take it."""
    providers: tuple[Any, ...] = (
        trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        _logs.get_logger_provider(),
    )
    closing = [threading.Thread(target=provider.shutdown, daemon=True) for provider in providers]
    for thread in closing:
        thread.start()
    deadline = time.monotonic() + _CLOSING_SECONDS
    while any(thread.is_alive() for thread in closing):
        if time.monotonic() > deadline:
            _logger.warning("the last telemetry was not taken in time, and is lost")
            return
        await asyncio.sleep(0.05)
