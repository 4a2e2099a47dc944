"""`GET /metrics` of each service (docs/API.md, "Metrics")."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from open_workshop_storage.api.documents.metrics import MEDIA_TYPE, METRICS
from open_workshop_storage.core.errors import NothingHere

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, **METRICS)
async def metrics(request: Request) -> Response:
    """Return what all workers of this service have counted, in Prometheus' text format."""
    exposition = request.state.exposition
    if exposition is None:
        raise NothingHere
    return Response(await asyncio.to_thread(exposition), media_type=MEDIA_TYPE)
