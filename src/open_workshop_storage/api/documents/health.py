"""Liveness, readiness and metrics in the OpenAPI documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.openapi import RouteDocument, answer, operation
from open_workshop_storage.core.errors import NothingHere
from open_workshop_storage.services.operations.readiness import Missing

MEDIA_TYPE_OF_METRICS = "text/plain; version=1.0.0; charset=utf-8"
"""Of Prometheus' text format."""

_METRICS_EXAMPLE = 'storage_transfers_total{kind="archive",origin="upload",outcome="success"} 3.0\n'


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


HEALTHZ: RouteDocument = {
    "summary": "Liveness",
    "operation_id": None,
    "responses": {200: answer("It is alive.", Health(status="ok"))},
    "openapi_extra": {},
}
READYZ = operation(
    "Readiness",
    None,
    {
        200: answer("Nothing is missing.", Ready(status="ready")),
        503: answer(
            "Something is missing; requests that need it are answered 503 as well.",
            Unavailable(status="unavailable", missing=["redis", "disk"]),
        )
        | {"model": Unavailable},
    },
)
METRICS = operation(
    "Metrics for Prometheus",
    None,
    {
        200: {
            "description": "Counters, histograms and levels of all workers of this service on this host.",
            "content": {MEDIA_TYPE_OF_METRICS: {"schema": {"type": "string"}, "example": _METRICS_EXAMPLE}},
        }
    },
    NothingHere,
)
