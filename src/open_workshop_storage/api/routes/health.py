"""Liveness and readiness (docs/API.md, "Health"), and metrics (docs/API.md, "Metrics")."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents import health
from open_workshop_storage.api.documents.health import MEDIA_TYPE_OF_METRICS, Health, Ready, Unavailable
from open_workshop_storage.core.errors import NothingHere

router = APIRouter(tags=["health"])
metrics_router = APIRouter(tags=["health"])
"""Each service has its own metrics, so they stand below its prefix only."""


@router.get("/healthz", **health.HEALTHZ)
async def healthz() -> Health:
    """Say that the process is alive, and look at nothing else."""
    return Health(status="ok")


@router.get("/readyz", response_model=Ready, **health.READYZ)
async def readyz(runtime: RuntimeDep) -> Ready | Response:
    """Say whether all that the service depends on is there."""
    missing = await runtime.readiness.missing()
    if missing:
        answer = Unavailable(status="unavailable", missing=missing)
        return Response(answer.model_dump_json(), 503, media_type="application/json")
    return Ready(status="ready")


@metrics_router.get("/metrics", response_class=Response, **health.METRICS)
async def metrics(request: Request) -> Response:
    """Return what all workers of this service have counted, in Prometheus' text format."""
    exposition = request.state.exposition
    if exposition is None:
        raise NothingHere
    return Response(await asyncio.to_thread(exposition), media_type=MEDIA_TYPE_OF_METRICS)
