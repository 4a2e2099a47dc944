"""Turns telemetry and metrics on where the settings say so, and sends the rest at the end.

This module uses private names of FastAPI's instrumentation;
tests/observability/test_telemetry.py fails when a release changes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi.telemetry._api import _route_selected
from opentelemetry import metrics
from starlette.datastructures import Headers
from starlette.types import Scope

from open_workshop_storage.core.setting_types import listed
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.metrics import metrics_folder
from open_workshop_storage.utils.processes.granian import main_process_id

_logger = logging.getLogger(__name__)

# Less than a stopping worker has for its last answers (`services.operations.worker_process`).
_CLOSING_SECONDS = 3.0


@asynccontextmanager
async def open_telemetry(app: FastAPI, settings: Settings) -> AsyncIterator[Callable[[], bytes] | None]:
    """Export and count what the process does in the block, as the settings say.

    Called once in each process, after the fork: exporters have threads and connections of their own.

    Yields:
        A function that returns the metrics of all workers in Prometheus' text format; `None` without `METRICS_ENABLED`.

    Raises:
        OSError: There is no folder for the metrics.
    """
    closing: Sequence[Callable[[], None]] = ()
    meters: metrics.MeterProvider = metrics.NoOpMeterProvider()
    exposition = None
    if settings.exports_telemetry:
        # gRPC's hooks for forks may crash the child while an export is under way; no child of ours calls gRPC.
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
        # gRPC takes time and memory at import, which services without telemetry need not pay.
        from open_workshop_storage.observability.exporters import start_exporting

        meters, closing = start_exporting(settings)
    if settings.metrics_enabled:
        main_process = main_process_id()
        folder = metrics_folder(main_process)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from open_workshop_storage.observability import prometheus

        meters = prometheus.PrometheusMeterProvider(meters)
        exposition = partial(prometheus.exposition, folder, main_process)
    if settings.measures:
        metrics.set_meter_provider(meters)
    # FastAPI's records of failures contain messages of exceptions, which may hold secrets; our log lines do not.
    chosen: TelemetryConfig = {"tracing": settings.exports_telemetry, "metrics": settings.measures, "logs": False}
    if settings.measures:
        chosen["operation_spans"] = "operation" not in listed(settings.uptrace_fastapi_exclude_spans)
        chosen["exclude"] = _excluder(listed(settings.uptrace_fastapi_excluded_urls))
    instruct(app, chosen)
    try:
        yield exposition
    finally:
        await _close(closing)


def instruct(app: FastAPI, config: TelemetryConfig) -> None:
    """Change what an app records, which FastAPI itself allows only when the app is made."""
    app._telemetry.update(config)


def name_route(scope: Scope, route: str) -> None:
    """Name the span and the metrics of a request that is answered before FastAPI's routing.

    Args:
        route: As the router would write it, such as `/download/{type}/{path}`.
    """
    if "fastapi.telemetry" in scope:
        _route_selected(scope=scope, path=route)


def _excluder(patterns: list[str]) -> Callable[[Scope], bool] | None:
    """Return a function that tells whether a request's URL, without its query string, matches one of the patterns."""
    if not patterns:
        return None
    wanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def is_excluded(scope: Scope) -> bool:
        host = Headers(scope=scope).get("host", "")
        return wanted.search(f"{scope['scheme']}://{host}{scope['path']}") is not None

    return is_excluded


async def _close(closing: Sequence[Callable[[], None]]) -> None:
    """Call functions that send the rest of the telemetry; wait for `_CLOSING_SECONDS` at most."""
    threads = [threading.Thread(target=close, daemon=True) for close in closing]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _CLOSING_SECONDS
    while any(thread.is_alive() for thread in threads):
        if time.monotonic() > deadline:
            _logger.warning("the last telemetry was not taken in time, and is lost")
            return
        await asyncio.sleep(0.05)
