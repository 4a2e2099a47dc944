"""What is known of the insides of FastAPI's own instrumentation.

Its documentation promises none of this; tests/observability/test_fastapi_telemetry.py fails when a release changes it.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi.telemetry._api import _route_selected
from starlette.types import Scope


def instruct(app: FastAPI, config: TelemetryConfig) -> None:
    """Change what an app records; FastAPI itself takes this only when the app is made."""
    app._telemetry.update(config)


def name_route(scope: Scope, route: str) -> None:
    """Name the span and the metrics of a request that is answered before FastAPI's routing.

    Args:
        route: As the router would write it, such as `/download/{type}/{path}`.
    """
    if "fastapi.telemetry" in scope:
        _route_selected(scope=scope, path=route)
