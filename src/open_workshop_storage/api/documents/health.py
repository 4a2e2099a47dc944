"""Liveness, readiness and metrics in the OpenAPI documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.openapi import RouteDocument, json_example, plain_text_responses
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
    "response_description": "It is alive.",
    "responses": {200: json_example(Health(status="ok"))},
}
READYZ: RouteDocument = {
    "summary": "Readiness",
    "response_description": "Nothing is missing.",
    "responses": {
        200: json_example(Ready(status="ready")),
        **plain_text_responses(),
        503: {
            "model": Unavailable,
            "description": "Something is missing; requests that need it are answered 503 as well.",
            **json_example(Unavailable(status="unavailable", missing=["redis", "disk"])),
        },
    },
}
METRICS: RouteDocument = {
    "summary": "Metrics for Prometheus",
    "response_description": "Counters, histograms and levels of all workers of this service on this host.",
    "responses": {
        200: {"content": {MEDIA_TYPE_OF_METRICS: {"schema": {"type": "string"}, "example": _METRICS_EXAMPLE}}},
        **plain_text_responses(NothingHere),
    },
}
