"""What the transfer routes take and answer, for their documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.messages import PROGRESS_EXAMPLE, JobId, Status
from open_workshop_storage.api.documents.openapi import (
    FORM_ERRORS,
    FORM_TOKEN_ERRORS,
    PATH_ERRORS,
    SCAN_ERRORS,
    TRANSFER_TOKEN_ERRORS,
    RouteDocument,
    form_body,
    form_token,
    header,
    json_example,
    parameter,
    plain_text_responses,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.claims import JOB_ID
from open_workshop_storage.core.storage_types import StorageType

TRANSFER_TOKEN = "Transfer token: a JWT with `TransferTokenClaims` that the Manager signed."
_TRANSFER_TOKEN_EXAMPLE = "eyJhbGciOiJIUzI1NiJ9.e30.signature"
_MANAGE_TOKEN = form_token("storage_manage_token")
_JOB_ID = {
    "type": "string",
    "pattern": f"^{JOB_ID.pattern}$",
    "description": "The transfer's name.",
    "examples": ["job-7f3a9c21"],
}
_START_FORM = form_body(
    {"token": {"type": "string", "description": TRANSFER_TOKEN, "examples": [_TRANSFER_TOKEN_EXAMPLE]}}, []
)
_REPACK_FORM = form_body(
    {
        "token": _MANAGE_TOKEN,
        "job_id": _JOB_ID,
        "format": {"type": "string", "enum": ["zip"], "default": "zip", "description": "What to pack it as."},
        "compression_level": {
            "type": "integer",
            "description": "Deflate level, held to 0 to 9; without it the transfer's own.",
            "examples": [5],
        },
    },
    ["token", "job_id"],
)
_MOVE_FORM = form_body(
    {
        "token": _MANAGE_TOKEN,
        "job_id": _JOB_ID,
        "type": {"type": "string", "enum": [*StorageType], "description": "Where the file belongs."},
        "path": {"type": "string", "description": "Path below the type's folder.", "examples": ["mods/7/main.zip"]},
    },
    ["token", "job_id", "type", "path"],
)


class TransferStarted(BaseModel):
    """A transfer that goes on in the background."""

    job_id: JobId
    status: Annotated[
        Literal["started", Status], Field(description="`started`, or the status of a job that was there.")
    ]
    ws_url: Annotated[str, Field(description="Where to watch it; takes the same token in its query.")]


class TransferReceived(BaseModel):
    """A file that was received and packed."""

    job_id: JobId
    bytes: Annotated[int, Field(description="Bytes received.")]
    total: Annotated[int, Field(description="Bytes of the whole file: the same.")]


class TransferRepacked(BaseModel):
    """A file that was packed again."""

    job_id: JobId
    packed_bytes: Annotated[int, Field(description="Size of the new packed file in bytes.")]
    packed_path: Annotated[str, Field(description="Where it is, relative to the storage root.")]
    unpacked_bytes: Annotated[int, Field(description="Bytes in all its entries.")]
    sha256: Annotated[str, Field(description="The new packed file's SHA-256, as 64 hex digits.")]


class TransferMoved(BaseModel):
    """A file in its permanent place."""

    job_id: JobId
    final_path: Annotated[str, Field(description="Where it is, relative to the storage root.")]
    final_bytes: Annotated[int, Field(description="Its size in bytes.")]
    unpacked_bytes: Annotated[int, Field(description="Bytes in all its entries; of an image, its size.")]
    sha256: Annotated[
        str | None, Field(description="Its SHA-256, as 64 hex digits; null if it was packed before digests were kept.")
    ]


_DIGEST = "sha-256=:H9nbTO9a3XHepRopO+dyndplDHQoqiH64Uh4iAWjHBE=:"
_STARTED = TransferStarted(job_id="job-7f3a9c21", status="started", ws_url="/transfer/ws/job-7f3a9c21")
_RECEIVED = TransferReceived(job_id="job-7f3a9c21", bytes=52428800, total=52428800)
_REPACKED = TransferRepacked(
    job_id="job-7f3a9c21",
    packed_bytes=31457280,
    packed_path="temp/job-7f3a9c21/5b0c8e1f/packed.zip",
    unpacked_bytes=73400320,
    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
)
_MOVED = TransferMoved(
    job_id="job-7f3a9c21",
    final_path="archive/mods/7/main.zip",
    final_bytes=31457280,
    unpacked_bytes=73400320,
    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
)


def token_parameter(required: bool) -> dict[str, Any]:
    """Describe the transfer token in the query."""
    return parameter("query", "token", TRANSFER_TOKEN, _TRANSFER_TOKEN_EXAMPLE, required)


START_BY_QUERY: RouteDocument = {
    "summary": "Start a transfer from a URL",
    "operation_id": "start_transfer_by_query",
    "response_description": "The transfer goes on in the background.",
    "openapi_extra": {"parameters": [token_parameter(required=True)]},
    "responses": {
        200: json_example(_STARTED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS, errors.BadRequest("Download URL missing"), errors.ServiceUnavailable
        ),
    },
}
START_BY_FORM: RouteDocument = {
    "summary": "Start a transfer from a URL",
    "operation_id": "start_transfer_by_form",
    "response_description": "The transfer goes on in the background.",
    "openapi_extra": _START_FORM | {"parameters": [token_parameter(required=False)]},
    "responses": {
        200: json_example(_STARTED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            errors.BadRequest("Download URL missing"),
            *FORM_ERRORS,
            errors.ServiceUnavailable,
        ),
    },
}
UPLOAD: RouteDocument = {
    "summary": "Upload a file as the raw body",
    "operation_id": "upload_transfer",
    "response_description": "The file is packed, and the Manager has been told or will be.",
    "openapi_extra": {
        # The token may stand in the query instead.
        "security": [{}],
        "parameters": [
            token_parameter(required=False),
            parameter("query", "filename", "The file's name.", "my_mod.zip"),
            parameter("header", "X-File-Name", "In place of `filename`; may be percent-encoded.", "my%20mod.zip"),
            parameter("query", "size", "The file's size in bytes, where there is no `Content-Length`.", 52428800),
            parameter("header", "X-File-Size", "In place of `size`.", 52428800),
            parameter("header", "X-Upload-Size", "In place of `size`.", 52428800),
            parameter("header", "Repr-Digest", "The file's SHA-256, by which it is judged (RFC 9530).", _DIGEST),
            parameter("header", "Content-Digest", "The same.", _DIGEST),
        ],
        "requestBody": {
            "required": False,
            "description": "The file's bytes, as they are. No body is an empty file.",
            "content": {
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary", "examples": ["a plain text, packed as one file"]}
                }
            },
        },
    },
    "responses": {
        200: json_example(_RECEIVED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            errors.ClientGone,
            *errors.ArchiveRefused.__subclasses__(),
            errors.NoSpace,
            *errors.ImageRefused.__subclasses__(),
            errors.FileTooLarge,
            errors.RawBodyExpected,
            errors.TooManyPieces,
            errors.DigestDiffers,
            errors.BadRequest("Malformed digest"),
            *SCAN_ERRORS,
            errors.BadRequest("Token is for a URL transfer"),
            errors.UploadTimedOut,
            errors.TransferCancelled,
            errors.UploadInProgress,
            errors.UploadFinished,
            errors.UploadNotAccepted,
            errors.UploadFailed,
            errors.StorageBusy,
            errors.ServiceUnavailable,
        ),
    },
}
EVENTS: RouteDocument = {
    "summary": "Watch a transfer",
    "operation_id": "watch_transfer",
    "response_description": "Messages, until the transfer ends.",
    "openapi_extra": {
        "parameters": [
            parameter("path", "job_id", "The transfer's name.", "job-7f3a9c21", required=True),
            token_parameter(required=True),
            parameter("header", "Last-Event-ID", "The last `id` that came; what it tells is not told again.", "17"),
        ]
    },
    "responses": {
        200: {
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": f"id: 18\ndata: {PROGRESS_EXAMPLE}\n\n",
                }
            },
            "headers": header("Cache-Control", "Each message is told once.", "no-store")
            | header("X-Accel-Buffering", "For nginx: hand each message on as it comes.", "no"),
        },
        204: {"description": "The last message that came was the end; there is nothing more to ask for."},
        **plain_text_responses(*TRANSFER_TOKEN_ERRORS, errors.ServiceUnavailable),
    },
}
REPACK: RouteDocument = {
    "summary": "Pack a received file again",
    "operation_id": "repack_transfer",
    "response_description": "The new packed file took the place of the old one.",
    "openapi_extra": _REPACK_FORM,
    "responses": {
        200: json_example(_REPACKED),
        **plain_text_responses(
            *FORM_TOKEN_ERRORS,
            errors.BadRequest("Invalid job id"),
            errors.BadRequest("Invalid compression level"),
            *errors.ArchiveRefused.__subclasses__(),
            *SCAN_ERRORS,
            errors.NoSpace,
            errors.JobMissing,
            errors.SourceMissing,
            errors.UploadInProgress,
            errors.ServiceUnavailable,
        ),
    },
}
MOVE: RouteDocument = {
    "summary": "Move a packed file to its place",
    "operation_id": "move_transfer",
    "response_description": "The file is in its place.",
    "openapi_extra": _MOVE_FORM,
    "responses": {
        200: json_example(_MOVED),
        **plain_text_responses(
            *FORM_TOKEN_ERRORS,
            errors.BadRequest("Invalid job id"),
            errors.InvalidType,
            *PATH_ERRORS,
            errors.JobMissing,
            errors.PackedMissing,
            errors.NoSpace,
            errors.ServiceUnavailable,
        ),
    },
}
