"""Liveness and readiness (docs/API.md, "Health")."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents.openapi import json_example, plain_text_responses
from open_workshop_storage.services.operations.readiness import Missing

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """The service can do its work."""

    status: Literal["ready"]


class Unavailable(BaseModel):
    """The service cannot do its work now, for want of what is missing."""

    status: Literal["unavailable"]
    missing: Annotated[list[Missing], Field(description="What is missing.")]


@router.get(
    "/healthz",
    summary="Liveness",
    response_description="It is alive.",
    responses={200: json_example(Health(status="ok"))},
)
async def healthz() -> Health:
    """Say that the process is alive, and look at nothing else."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Readiness",
    response_model=Ready,
    response_description="Nothing is missing.",
    responses={
        200: json_example(Ready(status="ready")),
        **plain_text_responses(),
        503: {
            "model": Unavailable,
            "description": "Something is missing; requests that need it are answered 503 as well.",
            **json_example(Unavailable(status="unavailable", missing=["redis", "disk"])),
        },
    },
)
async def readyz(runtime: RuntimeDep, response: Response) -> Ready | Unavailable | Response:
    """Say whether all that the service depends on is there."""
    missing = await runtime.readiness.missing()
    if missing:
        return Response(
            Unavailable(status="unavailable", missing=missing).model_dump_json(), 503, media_type="application/json"
        )
    return Ready(status="ready")
