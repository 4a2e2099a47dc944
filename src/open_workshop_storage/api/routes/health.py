"""Liveness and readiness (docs/API.md, "Health")."""

from __future__ import annotations

from fastapi import APIRouter, Response

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents import health
from open_workshop_storage.api.documents.health import Health, Ready, Unavailable

router = APIRouter(tags=["health"])


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
