"""`GET` and `HEAD /contents/…`."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.middleware import Middleware

from open_workshop_storage.api.documents.contents import GET_CONTENTS, HEAD_CONTENTS
from open_workshop_storage.api.shortcuts import Shortcut

router = APIRouter(tags=["contents"])


@router.head("/contents/{type}/{path:path}", response_class=Response, **HEAD_CONTENTS)
@router.get("/contents/{type}/{path:path}", response_class=Response, **GET_CONTENTS)
async def contents() -> Response:
    """Tell what is in a stored ZIP, or give out one file of it.

    Types, paths, and who may have what are those of downloads.
    """
    raise AssertionError("the shortcut answers before the routes are reached")


SHORTCUT = Middleware(Shortcut, "contents", "entry", lambda runtime: runtime.contents)
