"""What the transfer routes take and answer, for their documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.messages import JobId, Status
from open_workshop_storage.api.documents.openapi import form_body, form_token
from open_workshop_storage.core.claims import JOB_ID
from open_workshop_storage.core.storage_types import StorageType

TRANSFER_TOKEN = "Transfer token: a JWT with `TransferTokenClaims` that the Manager signed."
TRANSFER_TOKEN_EXAMPLE = "eyJhbGciOiJIUzI1NiJ9.e30.signature"
_MANAGE_TOKEN = form_token("storage_manage_token")
_JOB_ID = {
    "type": "string",
    "pattern": f"^{JOB_ID.pattern}$",
    "description": "The transfer's name.",
    "examples": ["job-7f3a9c21"],
}
START_FORM = form_body(
    {"token": {"type": "string", "description": TRANSFER_TOKEN, "examples": [TRANSFER_TOKEN_EXAMPLE]}}, []
)
REPACK_FORM = form_body(
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
MOVE_FORM = form_body(
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


class TransferMoved(BaseModel):
    """A file in its permanent place."""

    job_id: JobId
    final_path: Annotated[str, Field(description="Where it is, relative to the storage root.")]
    final_bytes: Annotated[int, Field(description="Its size in bytes.")]
    unpacked_bytes: Annotated[int, Field(description="Bytes in all its entries; of an image, its size.")]


STARTED = TransferStarted(job_id="job-7f3a9c21", status="started", ws_url="/transfer/ws/job-7f3a9c21")
RECEIVED = TransferReceived(job_id="job-7f3a9c21", bytes=52428800, total=52428800)
REPACKED = TransferRepacked(
    job_id="job-7f3a9c21",
    packed_bytes=31457280,
    packed_path="temp/job-7f3a9c21/5b0c8e1f/packed.zip",
    unpacked_bytes=73400320,
)
MOVED = TransferMoved(
    job_id="job-7f3a9c21", final_path="archive/mods/7/main.zip", final_bytes=31457280, unpacked_bytes=73400320
)
