"""What the transfer routes take and answer, for their documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.messages import (
    DIGEST_EXAMPLE,
    JOB_EXAMPLE,
    PROGRESS_EXAMPLE,
    JobId,
    Status,
)
from open_workshop_storage.api.documents.openapi import (
    FORM_ERRORS,
    FORM_TOKEN_ERRORS,
    PATH_ERRORS,
    RECEIVING_ERRORS,
    SCAN_ERRORS,
    TRANSFER_TOKEN_ERRORS,
    answer,
    bytes_body,
    field,
    form,
    form_token,
    header,
    operation,
    parameter,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.claims import JOB_ID
from open_workshop_storage.services.storage.files import StorageType

TRANSFER_TOKEN = "Transfer token: a JWT with `TransferTokenClaims` that the Manager signed."
_TOKEN_EXAMPLE = "eyJhbGciOiJIUzI1NiJ9.e30.signature"
_DIGEST = "sha-256=:H9nbTO9a3XHepRopO+dyndplDHQoqiH64Uh4iAWjHBE=:"
_MANAGE_FORM = {
    "token": form_token("storage_manage_token"),
    "job_id": field("The transfer's name.", JOB_EXAMPLE) | {"pattern": f"^{JOB_ID.pattern}$"},
}


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


def token_parameter(required: bool) -> dict[str, Any]:
    """Describe the transfer token in the query."""
    return parameter("query", "token", TRANSFER_TOKEN, _TOKEN_EXAMPLE, required)


_STARTED = answer(
    "The transfer goes on in the background.",
    TransferStarted(job_id=JOB_EXAMPLE, status="started", ws_url=f"/transfer/ws/{JOB_EXAMPLE}"),
)
_STARTING_ERRORS = (*TRANSFER_TOKEN_ERRORS, "Download URL missing", errors.ServiceUnavailable)

START_BY_QUERY = operation(
    "Start a transfer from a URL",
    "start_transfer_by_query",
    {200: _STARTED},
    *_STARTING_ERRORS,
    parameters=[token_parameter(required=True)],
)
START_BY_FORM = operation(
    "Start a transfer from a URL",
    "start_transfer_by_form",
    {200: _STARTED},
    *_STARTING_ERRORS,
    *FORM_ERRORS,
    parameters=[token_parameter(required=False)],
    requestBody=form({"token": field(TRANSFER_TOKEN, _TOKEN_EXAMPLE)}, []),
)
UPLOAD = operation(
    "Upload a file as the raw body",
    "upload_transfer",
    {
        200: answer(
            "The file is packed, and the Manager has been told or will be.",
            TransferReceived(job_id=JOB_EXAMPLE, bytes=52428800, total=52428800),
        )
    },
    *TRANSFER_TOKEN_ERRORS,
    *RECEIVING_ERRORS,
    errors.RepackFailed,
    errors.ImagePreparationFailed,
    errors.NoSpace,
    errors.RawBodyExpected,
    "Malformed digest",
    "Token is for a URL transfer",
    errors.UploadInProgress,
    errors.UploadFinished,
    errors.UploadNotAccepted,
    errors.UploadFailed,
    errors.StorageBusy,
    # The token may stand in the query instead.
    security=[{}],
    parameters=[
        token_parameter(required=False),
        parameter("query", "filename", "The file's name.", "my_mod.zip"),
        parameter("header", "X-File-Name", "In place of `filename`; may be percent-encoded.", "my%20mod.zip"),
        parameter("query", "size", "The file's size in bytes, where there is no `Content-Length`.", 52428800),
        parameter("header", "X-File-Size", "In place of `size`.", 52428800),
        parameter("header", "X-Upload-Size", "In place of `size`.", 52428800),
        parameter("header", "Repr-Digest", "The file's SHA-256, by which it is judged (RFC 9530).", _DIGEST),
        parameter("header", "Content-Digest", "The same.", _DIGEST),
    ],
    requestBody=bytes_body(
        "application/octet-stream",
        "The file's bytes, as they are. No body is an empty file.",
        "a plain text, packed as one file",
    ),
)
EVENTS = operation(
    "Watch a transfer",
    "watch_transfer",
    {
        200: {
            "description": "Messages, until the transfer ends.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": f"id: 18\ndata: {PROGRESS_EXAMPLE}\n\n",
                }
            },
            "headers": header("Cache-Control", "Each message is told once.", "no-store")
            | header("X-Accel-Buffering", "For nginx: hand each message on as it comes.", "no"),
        },
        204: answer("The last message that came was the end; there is nothing more to ask for."),
    },
    *TRANSFER_TOKEN_ERRORS,
    errors.ServiceUnavailable,
    parameters=[
        parameter("path", "job_id", "The transfer's name.", JOB_EXAMPLE, required=True),
        token_parameter(required=True),
        parameter("header", "Last-Event-ID", "The last `id` that came; what it tells is not told again.", "17"),
    ],
)
REPACK = operation(
    "Pack a received file again",
    "repack_transfer",
    {
        200: answer(
            "The new packed file took the place of the old one.",
            TransferRepacked(
                job_id=JOB_EXAMPLE,
                packed_bytes=31457280,
                packed_path=f"temp/{JOB_EXAMPLE}/5b0c8e1f/packed.zip",
                unpacked_bytes=73400320,
                sha256=DIGEST_EXAMPLE,
            ),
        )
    },
    *FORM_TOKEN_ERRORS,
    "Invalid job id",
    "Invalid compression level",
    *errors.ArchiveRefused.__subclasses__(),
    *SCAN_ERRORS,
    errors.NoSpace,
    errors.JobMissing,
    errors.SourceMissing,
    errors.UploadInProgress,
    errors.ServiceUnavailable,
    requestBody=form(
        _MANAGE_FORM
        | {
            "format": field("What to pack it as.", choices=["zip"]) | {"default": "zip"},
            "compression_level": field("Deflate level, held to 0 to 9; without it the transfer's own.", 5),
        },
        ["token", "job_id"],
    ),
)
MOVE = operation(
    "Move a packed file to its place",
    "move_transfer",
    {
        200: answer(
            "The file is in its place.",
            TransferMoved(
                job_id=JOB_EXAMPLE,
                final_path="archive/mods/7/main.zip",
                final_bytes=31457280,
                unpacked_bytes=73400320,
                sha256=DIGEST_EXAMPLE,
            ),
        )
    },
    *FORM_TOKEN_ERRORS,
    "Invalid job id",
    errors.InvalidType,
    *PATH_ERRORS,
    errors.JobMissing,
    errors.PackedMissing,
    errors.NoSpace,
    errors.ServiceUnavailable,
    requestBody=form(
        _MANAGE_FORM
        | {
            "type": field("Where the file belongs.", choices=StorageType),
            "path": field("Path below the type's folder.", "mods/7/main.zip"),
        },
        ["token", "job_id", "type", "path"],
    ),
)
