"""What the documents say of uploads over tus."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

from open_workshop_storage.api.documents.openapi import (
    SCAN_ERRORS,
    TRANSFER_TOKEN_ERRORS,
    RouteDocument,
    header,
    parameter,
    plain_text_responses,
)
from open_workshop_storage.api.documents.transfers import token_parameter
from open_workshop_storage.core import errors
from open_workshop_storage.utils.http.tus import MEDIA_TYPE

UploadId = Annotated[str, Path(description="The transfer's name.", examples=["job-7f3a9c21"])]
_TOKEN = token_parameter(required=False)
_VERSION = parameter("header", "Tus-Resumable", "Version of the protocol.", "1.0.0", required=True)
_LENGTH = parameter("header", "Upload-Length", "The file's size in bytes.", 52428800)
_CHECKSUM = parameter(
    "header", "Upload-Checksum", "`sha256` or `sha1` and the digest in Base64.", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="
)
_DIGEST = parameter(
    "header",
    "Repr-Digest",
    "The whole file's SHA-256, by which it is judged.",
    "sha-256=:JY9F0EFU1EpA2Kwbl0Ip3rVK/y46pfQSmoG4m8WT/JI=:",
)
_RESUMABLE = header("Tus-Resumable", "Version of the protocol.", "1.0.0")
_PROGRESS = (
    _RESUMABLE
    | header("Upload-Offset", "Bytes that are on the disk.", 31457280)
    | header("Upload-Expires", "When the upload ends unless more bytes come.", "Tue, 06 Jan 2026 12:00:00 GMT")
)
_BODY = {
    "required": False,
    "description": "Bytes of the file.",
    "content": {
        MEDIA_TYPE: {"schema": {"type": "string", "format": "binary", "examples": ["some of the file's bytes"]}}
    },
}
_SECURITY: dict[str, Any] = {"security": [{}]}


class _Refused(errors.StorageError):
    """What other routes answer with 500 or 507: the attempt has ended."""

    status = 422


class _Busy(errors.StorageBusy):
    """As many uploads run as may run at once."""

    status = 503


_RECEIVING_ERRORS: tuple[type[errors.StorageError] | errors.StorageError, ...] = (
    errors.BadRequest("Malformed upload header"),
    errors.BadRequest("Upload length differs"),
    errors.BadRequest("More bytes than the upload has"),
    errors.ClientGone,
    errors.TransferCancelled,
    errors.DigestDiffers,
    *(error for error in errors.ArchiveRefused.__subclasses__() if error is not errors.RepackFailed),
    *(error for error in errors.ImageRefused.__subclasses__() if error is not errors.ImagePreparationFailed),
    *SCAN_ERRORS,
    errors.TooManyPieces,
    errors.UploadTimedOut,
    errors.VersionUnknown,
    errors.FileTooLarge,
    errors.ChecksumDiffers,
    _Refused("Upload not accepted"),
    _Refused("Repack failed"),
    _Refused("Image preparation failed"),
    _Refused("Upload failed"),
    _Refused("No space left"),
    errors.UploadTaken,
    errors.UploadStalled,
    _Busy("Storage busy"),
    errors.ServiceUnavailable,
)

CREATE: RouteDocument = {
    "summary": "Begin an upload in several requests",
    "operation_id": "create_resumable_upload",
    "openapi_extra": _SECURITY
    | {
        "parameters": [
            _TOKEN,
            _VERSION,
            _LENGTH,
            parameter(
                "header", "Upload-Defer-Length", "`1` in place of `Upload-Length`: a later request tells it.", "1"
            ),
            parameter("header", "Upload-Metadata", "`filename` and the name in Base64.", "filename bW9kLnppcA=="),
            _CHECKSUM,
            _DIGEST,
        ],
        "requestBody": _BODY,
    },
    "responses": {
        201: {
            "description": "The upload, new or as far as it is.",
            "headers": _PROGRESS | header("Location", "Where its bytes go.", "/transfer/tus/job-7f3a9c21?token=…"),
        },
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            *_RECEIVING_ERRORS,
            errors.BadRequest("Either Upload-Length or Upload-Defer-Length: 1 expected"),
            errors.BadRequest("Token is for a URL transfer"),
            errors.UploadInProgress,
            errors.UploadFinished,
        ),
    },
}
HEAD: RouteDocument = {
    "summary": "Ask from where to go on",
    "operation_id": "find_resumable_upload",
    "openapi_extra": _SECURITY | {"parameters": [_TOKEN]},
    "responses": {
        200: {
            "description": "How far the upload is; a request that still held on to it has been ended.",
            "headers": _PROGRESS
            | header("Upload-Length", "The file's size in bytes, once it is known.", 52428800)
            | header("Upload-Defer-Length", "`1` until the size is known.", "1")
            | header("Upload-Metadata", "As the creation brought it.", "filename bW9kLnppcA==")
            | header("Cache-Control", "Always `no-store`.", "no-store"),
        },
        **plain_text_responses(*TRANSFER_TOKEN_ERRORS, errors.JobMissing, errors.UploadGone, errors.ServiceUnavailable),
    },
}
PATCH: RouteDocument = {
    "summary": "Send bytes from an offset on",
    "operation_id": "continue_resumable_upload",
    "openapi_extra": _SECURITY
    | {
        "parameters": [
            _TOKEN,
            _VERSION,
            parameter("header", "Upload-Offset", "Where in the file the bytes belong.", 31457280, required=True),
            _LENGTH,
            _CHECKSUM,
            _DIGEST,
        ],
        "requestBody": _BODY | {"required": True},
    },
    "responses": {
        204: {
            "description": "The bytes are on the disk; after the last one, the file is packed.",
            "headers": _PROGRESS,
        },
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            *_RECEIVING_ERRORS,
            errors.BadRequest("Upload-Offset expected"),
            errors.JobMissing,
            errors.OffsetDiffers,
            errors.UploadGone,
            errors.MediaTypeUnknown,
        ),
    },
}
DELETE: RouteDocument = {
    "summary": "Give an unfinished upload up",
    "operation_id": "cancel_resumable_upload",
    "openapi_extra": _SECURITY | {"parameters": [_TOKEN, _VERSION]},
    "responses": {
        204: {"description": "The job has ended with an error, and the Manager is told.", "headers": _RESUMABLE},
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            errors.VersionUnknown,
            errors.JobMissing,
            errors.UploadFinished,
            errors.UploadGone,
            errors.ServiceUnavailable,
        ),
    },
}
