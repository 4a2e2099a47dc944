"""`GET` and `HEAD /download/…`."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.middleware import Middleware

from open_workshop_storage.api.documents.downloads import GET_DOWNLOAD, HEAD_DOWNLOAD
from open_workshop_storage.api.shortcuts import Shortcut

router = APIRouter(tags=["downloads"])


@router.head("/download/{type}/{path:path}", response_class=Response, **HEAD_DOWNLOAD)
@router.get("/download/{type}/{path:path}", response_class=Response, **GET_DOWNLOAD)
async def download() -> Response:
    """Give out a stored file, with ranges and conditions as in RFC 9110.

    Files below `archive/mods/<id>/` go only to clients whose cookies `accessToken` and `refreshToken` satisfy
    the access service.
    """
    raise AssertionError("the shortcut answers before the routes are reached")


SHORTCUT = Middleware(Shortcut, "download", "filename", lambda runtime: runtime.downloads)
