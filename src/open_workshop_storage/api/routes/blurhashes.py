"""`POST /blurhashes`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import ValidationError

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents.blurhashes import (
    BLURHASHES,
    INVALID_BODY,
    BlurhashAnswer,
    BlurhashItem,
    BlurhashRequest,
)
from open_workshop_storage.api.request_bodies import whole_body
from open_workshop_storage.core.errors import BadRequest

# Almost four hundred for each path. Thousands of clients may each leave this much here, and a chunk as large, and send
# no more.
_MAX_BODY_BYTES = 384 * 1024

router = APIRouter(tags=["blurhashes"])


@router.post("/blurhashes", **BLURHASHES)
async def blurhashes(request: Request, runtime: RuntimeDep) -> BlurhashAnswer:
    """Return the BlurHash and the size of each image.

    One that is unknown, protected or no image has null in their place, and does not fail the others.
    """
    body = await whole_body(request, _MAX_BODY_BYTES, runtime.settings.transfer_idle_timeout_seconds)
    try:
        paths = BlurhashRequest.model_validate_json(body).paths
    except ValidationError:
        raise BadRequest(INVALID_BODY) from None
    known = await runtime.blurhashes.compute(paths)
    items = [
        BlurhashItem(path=path, blurhash=image.blurhash, width=image.width, height=image.height)
        for path, image in zip(paths, known, strict=True)
    ]
    return BlurhashAnswer(items=items)
