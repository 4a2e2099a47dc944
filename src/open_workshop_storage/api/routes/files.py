"""The Manager's file calls (docs/API.md, "Loader: files of the Manager")."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents import files
from open_workshop_storage.api.request_bodies import SmallForm, body_chunks, number_in, small_form
from open_workshop_storage.core import errors
from open_workshop_storage.services.manager.form_tokens import FormToken
from open_workshop_storage.utils.http.forms import FormError, multipart_boundary

router = APIRouter(tags=["files"], default_response_class=PlainTextResponse)


@router.post("/upload", status_code=201, **files.UPLOAD)
async def upload(request: Request, runtime: RuntimeDep) -> str:
    """Store a file, in place of the one of that path if there is one; an image is normalised first."""
    content_type = request.headers.get("content-type", "")
    try:
        boundary = multipart_boundary(content_type)
    except FormError:
        raise errors.BadRequest("Malformed form") from None
    if boundary is None:
        form = await small_form(request, runtime)
        await runtime.form_tokens.check(FormToken.UPLOAD_FILE, form.get("token"))
        raise errors.BadRequest("File missing")
    announced = number_in(request.headers.get("content-length"))
    await runtime.readiness.require("storage")
    return await runtime.file_uploads.store(boundary, body_chunks(request), announced)


@router.delete("/delete", **files.DELETE)
async def delete(form: SmallForm, runtime: RuntimeDep) -> str:
    """Remove a file, and then the folders that are empty without it."""
    await runtime.form_tokens.check(FormToken.DELETE_FILE, form.get("token"))
    path = form.get("path")
    if not path:
        raise errors.BadRequest("Path missing")
    try:
        name = await runtime.files.resolve(form.get("type", ""), path)
    except errors.PathOutsideStorage:
        raise errors.AccessDenied from None
    except errors.BadRequest:
        # No file can have that name.
        raise errors.FileMissing from None
    await runtime.readiness.require("storage")
    await runtime.files.delete(name)
    return "File deleted"
