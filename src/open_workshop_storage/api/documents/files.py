"""The Manager's file calls in the OpenAPI document."""

from __future__ import annotations

from open_workshop_storage.api.documents.openapi import (
    FORM_TOKEN_ERRORS,
    PATH_ERRORS,
    SCAN_ERRORS,
    RouteDocument,
    form_body,
    form_token,
    plain_text_responses,
    text_example,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.manager.file_uploads import FILE_KINDS, UPLOADABLE

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

UPLOAD: RouteDocument = {
    "summary": "Store a file",
    "operation_id": "upload_file",
    "response_description": "The given path.",
    "openapi_extra": _UPLOAD_FORM,
    "responses": {
        201: text_example("covers/7.webp"),
        **plain_text_responses(
            *FORM_TOKEN_ERRORS,
            errors.InvalidType,
            errors.BadRequest("Invalid file kind"),
            errors.BadRequest("Avatar requires image file kind"),
            errors.BadRequest("Image storage path must end with .webp"),
            *PATH_ERRORS,
            errors.BadRequest("File missing"),
            errors.FileTooLarge,
            errors.FileTooLarge("Send the token before the file"),
            errors.ImageExpected,
            errors.ImageTooLarge,
            errors.ImagePreparationFailed,
            *SCAN_ERRORS,
            errors.NoSpace,
            errors.ServiceUnavailable,
        ),
    },
}
DELETE: RouteDocument = {
    "summary": "Remove a file",
    "operation_id": "delete_file",
    "response_description": "The file is gone.",
    "openapi_extra": _DELETE_FORM,
    "responses": {
        200: text_example("File deleted"),
        **plain_text_responses(
            *FORM_TOKEN_ERRORS,
            errors.BadRequest("Path missing"),
            errors.InvalidType,
            errors.FileMissing,
            errors.ServiceUnavailable,
        ),
    },
}
