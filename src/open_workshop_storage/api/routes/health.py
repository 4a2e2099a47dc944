"""Liveness and readiness (wire contract, section 1)."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from open_workshop_storage.api.dependencies import RuntimeDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """The service can do its work."""

    status: str = "ready"


class Unavailable(BaseModel):
    """The service cannot do its work now, for want of what is missing."""

    status: str = "unavailable"
    missing: list[str]


@router.get("/healthz", summary="Liveness")
async def healthz() -> Health:
    """Say that the process is alive, and look at nothing else."""
    return Health()


@router.get("/readyz", summary="Readiness", response_model=Ready, responses={503: {"model": Unavailable}})
async def readyz(runtime: RuntimeDep, response: Response) -> Ready | Unavailable | Response:
    """Say whether all that the service depends on is there."""
    missing = await runtime.readiness.missing()
    if missing:
        return Response(Unavailable(missing=missing).model_dump_json(), 503, media_type="application/json")
    return Ready()
