"""The Manager's file calls in the OpenAPI document."""

from __future__ import annotations

from open_workshop_storage.api.documents.openapi import (
    FORM_TOKEN_ERRORS,
    PATH_ERRORS,
    SCAN_ERRORS,
    answer,
    field,
    form,
    form_token,
    operation,
)
from open_workshop_storage.core import errors
from open_workshop_storage.services.manager.file_uploads import FILE_KINDS, UPLOADABLE
from open_workshop_storage.services.storage.files import StorageType

_PATH = "covers/7.webp"
_KINDS = "`img` is normalised to WebP, `bin` is stored as it is; an avatar is always `img`."

UPLOAD = operation(
    "Store a file",
    "upload_file",
    {201: answer("The given path.", _PATH)},
    *FORM_TOKEN_ERRORS,
    errors.InvalidType,
    "Invalid file kind",
    "Avatar requires image file kind",
    "Image storage path must end with .webp",
    *PATH_ERRORS,
    "File missing",
    errors.FileTooLarge,
    errors.FileTooLarge("Send the token before the file"),
    *errors.ImageRefused.__subclasses__(),
    *SCAN_ERRORS,
    errors.NoSpace,
    errors.ServiceUnavailable,
    requestBody=form(
        {
            "token": form_token("upload_file"),
            "type": field("Where the file belongs.", choices=UPLOADABLE),
            "path": field("Its path there; of an image it ends in `.webp`.", _PATH),
            "file_kind": field(_KINDS, choices=FILE_KINDS) | {"default": "bin"},
            "file": field("The file's content.") | {"format": "binary"},
        },
        ["token", "type", "path", "file"],
        "multipart/form-data",
    ),
)
DELETE = operation(
    "Remove a file",
    "delete_file",
    {200: answer("The file is gone.", "File deleted")},
    *FORM_TOKEN_ERRORS,
    "Path missing",
    errors.InvalidType,
    errors.FileMissing,
    errors.ServiceUnavailable,
    requestBody=form(
        {
            "token": form_token("delete_file"),
            "type": field("Where the file is.", choices=StorageType),
            "path": field("Its path there.", _PATH),
        },
        ["token", "type", "path"],
    ),
)
