"""What the documents say of uploads over tus."""

from __future__ import annotations

from open_workshop_storage.api.documents.messages import JOB_EXAMPLE
from open_workshop_storage.api.documents.openapi import (
    RECEIVING_ERRORS,
    TRANSFER_TOKEN_ERRORS,
    answer,
    bytes_body,
    header,
    operation,
    parameter,
)
from open_workshop_storage.api.documents.transfers import token_parameter
from open_workshop_storage.core import errors
from open_workshop_storage.utils.http.tus import MEDIA_TYPE

_METADATA = "filename bW9kLnppcA=="
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
_MORE = "some of the file's bytes"


class _Refused(errors.StorageError):
    """What other routes answer with 500 or 507: the attempt has ended."""

    status = 422


class _Busy(errors.StorageBusy):
    """As many uploads run as may run at once."""

    status = 503


_APPENDING_ERRORS = (
    *TRANSFER_TOKEN_ERRORS,
    "Malformed upload header",
    "Upload length differs",
    "More bytes than the upload has",
    *RECEIVING_ERRORS,
    errors.VersionUnknown,
    errors.ChecksumDiffers,
    _Refused("Upload not accepted"),
    _Refused("Repack failed"),
    _Refused("Image preparation failed"),
    _Refused("Upload failed"),
    _Refused("No space left"),
    errors.UploadTaken,
    errors.UploadStalled,
    _Busy("Storage busy"),
)

CREATE = operation(
    "Begin an upload in several requests",
    "create_resumable_upload",
    {
        201: answer(
            "The upload, new or as far as it is.",
            headers=_PROGRESS | header("Location", "Where its bytes go.", f"/transfer/tus/{JOB_EXAMPLE}?token=…"),
        )
    },
    *_APPENDING_ERRORS,
    "Either Upload-Length or Upload-Defer-Length: 1 expected",
    "Token is for a URL transfer",
    errors.UploadInProgress,
    errors.UploadFinished,
    security=[{}],
    parameters=[
        _TOKEN,
        _VERSION,
        _LENGTH,
        parameter("header", "Upload-Defer-Length", "`1` in place of `Upload-Length`: a later request tells it.", "1"),
        parameter("header", "Upload-Metadata", "`filename` and the name in Base64.", _METADATA),
        _CHECKSUM,
        _DIGEST,
    ],
    requestBody=bytes_body(MEDIA_TYPE, "Bytes of the file.", _MORE),
)
HEAD = operation(
    "Ask from where to go on",
    "find_resumable_upload",
    {
        200: answer(
            "How far the upload is; a request that still held on to it has been ended.",
            headers=_PROGRESS
            | header("Upload-Length", "The file's size in bytes, once it is known.", 52428800)
            | header("Upload-Defer-Length", "`1` until the size is known.", "1")
            | header("Upload-Metadata", "As the creation brought it.", _METADATA)
            | header("Cache-Control", "Always `no-store`.", "no-store"),
        )
    },
    *TRANSFER_TOKEN_ERRORS,
    errors.JobMissing,
    errors.UploadGone,
    errors.ServiceUnavailable,
    security=[{}],
    parameters=[_TOKEN],
)
PATCH = operation(
    "Send bytes from an offset on",
    "continue_resumable_upload",
    {204: answer("The bytes are on the disk; after the last one, the file is packed.", headers=_PROGRESS)},
    *_APPENDING_ERRORS,
    "Upload-Offset expected",
    errors.JobMissing,
    errors.OffsetDiffers,
    errors.UploadGone,
    errors.MediaTypeUnknown,
    security=[{}],
    parameters=[
        _TOKEN,
        _VERSION,
        parameter("header", "Upload-Offset", "Where in the file the bytes belong.", 31457280, required=True),
        _LENGTH,
        _CHECKSUM,
        _DIGEST,
    ],
    requestBody=bytes_body(MEDIA_TYPE, "Bytes of the file.", _MORE, required=True),
)
DELETE = operation(
    "Give an unfinished upload up",
    "cancel_resumable_upload",
    {204: answer("The job has ended with an error, and the Manager is told.", headers=_RESUMABLE)},
    *TRANSFER_TOKEN_ERRORS,
    errors.VersionUnknown,
    errors.JobMissing,
    errors.UploadFinished,
    errors.UploadGone,
    errors.ServiceUnavailable,
    security=[{}],
    parameters=[_TOKEN, _VERSION],
)
