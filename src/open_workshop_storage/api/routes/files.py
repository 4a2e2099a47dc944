"""The Manager's file calls (docs/API.md, "Loader: files of the Manager")."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from open_workshop_storage.api.bodies import SmallForm, body_chunks, small_form
from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents.openapi import (
    FORM_ERRORS,
    PATH_ERRORS,
    form_body,
    form_token,
    plain_text_responses,
    text_example,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.manager.file_uploads import FILE_KINDS, UPLOADABLE
from open_workshop_storage.services.manager.form_tokens import FormToken
from open_workshop_storage.utils.http.forms import FormError, multipart_boundary

router = APIRouter(tags=["files"], default_response_class=PlainTextResponse)

_UPLOAD_FORM = form_body(
    {
        "token": form_token("upload_file"),
        "type": {"type": "string", "enum": [*UPLOADABLE], "description": "Where the file belongs."},
        "path": {
            "type": "string",
            "description": "Its path there; of an image it ends in `.webp`.",
            "examples": ["covers/7.webp"],
        },
        "file_kind": {
            "type": "string",
            "enum": [*FILE_KINDS],
            "default": "bin",
            "description": "`img` is normalised to WebP, `bin` is stored as it is; an avatar is always `img`.",
        },
        "file": {"type": "string", "format": "binary", "description": "The file's content."},
    },
    ["token", "type", "path", "file"],
    "multipart/form-data",
)
_DELETE_FORM = form_body(
    {
        "token": form_token("delete_file"),
        "type": {"type": "string", "enum": [*StorageType], "description": "Where the file is."},
        "path": {"type": "string", "description": "Its path there.", "examples": ["covers/7.webp"]},
    },
    ["token", "type", "path"],
)


@router.post(
    "/upload",
    summary="Store a file",
    operation_id="upload_file",
    status_code=201,
    response_description="The given path.",
    openapi_extra=_UPLOAD_FORM,
    responses={
        201: text_example("covers/7.webp"),
        **plain_text_responses(
            *FORM_ERRORS,
            errors.TokenMissing,
            errors.AccessDenied,
            errors.InvalidType,
            errors.BadRequest("Invalid file kind"),
            errors.BadRequest("Avatar requires image file kind"),
            errors.BadRequest("Image storage path must end with .webp"),
            *PATH_ERRORS,
            errors.BadRequest("File missing"),
            errors.FileTooLarge,
            errors.ImageExpected,
            errors.ImageTooLarge,
            errors.ImagePreparationFailed,
            errors.NoSpace,
            errors.ServiceUnavailable,
        ),
    },
)
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
    length = request.headers.get("content-length", "")
    announced = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    await runtime.readiness.require("storage")
    return await runtime.file_uploads.store(boundary, body_chunks(request), announced)


@router.delete(
    "/delete",
    summary="Remove a file",
    operation_id="delete_file",
    response_description="The file is gone.",
    openapi_extra=_DELETE_FORM,
    responses={
        200: text_example("File deleted"),
        **plain_text_responses(
            *FORM_ERRORS,
            errors.TokenMissing,
            errors.AccessDenied,
            errors.BadRequest("Path missing"),
            errors.InvalidType,
            errors.FileMissing,
            errors.ServiceUnavailable,
        ),
    },
)
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
