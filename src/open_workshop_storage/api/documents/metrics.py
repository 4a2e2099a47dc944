"""Metrics in the OpenAPI documents."""

from __future__ import annotations

from open_workshop_storage.api.documents.openapi import RouteDocument, plain_text_responses
from open_workshop_storage.core.errors import NothingHere

MEDIA_TYPE = "text/plain; version=1.0.0; charset=utf-8"
"""Of Prometheus' text format."""

_EXAMPLE = 'storage_transfers_total{kind="archive",origin="upload",outcome="success"} 3.0\n'

METRICS: RouteDocument = {
    "summary": "Metrics for Prometheus",
    "response_description": "Counters, histograms and levels of all workers of this service on this host.",
    "responses": {
        200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}}},
        **plain_text_responses(NothingHere),
    },
}
