"""What no route shows: claims of tokens, messages of the WebSocket, and the callback (docs/API.md, "Callback").

The models are among the documents' schemas, so that clients can be generated with them. The services themselves do
not read or write with them.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from open_workshop_storage.api.documents.openapi import header
from open_workshop_storage.core.claims import JOB_ID
from open_workshop_storage.core.job import Stage

JOB_EXAMPLE = "job-7f3a9c21"
DIGEST_EXAMPLE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
JTI_EXAMPLE = "3f0c5a3e9d1b5c0e8a4f6b7c8d9e0f10"

JobName = Annotated[str, Path(description="The transfer's name.", examples=[JOB_EXAMPLE])]
"""In the path of a request."""
JobId = Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$", description="The transfer's name.")]
Kind = Annotated[Literal["archive", "img"], Field(description="What is transferred.")]
Status = Literal["pending", "uploading", "downloading", "processing", "packed", "moved", "error"]

TRANSFER_TOKEN_EXAMPLE = """{
  "aud": "storage", "exp": 1767704400,
  "job_id": "job-7f3a9c21", "mod_id": 7, "pack_level": 5,
  "callback_action": "publish", "callback_context": {"user": 3}, "target_path": "mods/7/main.zip"
}"""
CALLBACK_EXAMPLE = """{
  "aud": "manager", "iss": "storage", "iat": 1767700740, "exp": 1767701400,
  "jti": "3f0c5a3e9d1b5c0e8a4f6b7c8d9e0f10",
  "job_id": "job-7f3a9c21", "status": "error", "reason": "corrupt_archive",
  "transfer_kind": "archive", "mod_id": 7, "pack_format": "zip", "pack_level": 3, "packed_format": "zip",
  "update_only": false, "mode": null, "storage_type": null, "file_kind": null,
  "bytes": 52428800, "total": 52428800, "packed_bytes": null, "sha256": null, "unpacked_bytes": null,
  "callback_action": "publish", "callback_context": {"user": 3}, "target_path": "mods/7/main.zip"
}"""
PROGRESS_EXAMPLE = (
    '{"event": "progress", "bytes": 31457280, "total": 52428800, "status": "uploading", "stage": "uploading", '
    '"percent": null}'
)


class TransferTokenClaims(BaseModel):
    """What the Manager signs into a transfer token; unknown claims are handed back with the callback."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [json.loads(TRANSFER_TOKEN_EXAMPLE)]})

    aud: Literal["storage"]
    exp: Annotated[int, Field(description="Unix time at which the token expires, seconds.")]
    job_id: JobId
    transfer_kind: Kind = "archive"
    max_bytes: Annotated[
        int | None, Field(ge=0, description="Limit on what is received, in place of the setting; 0 for none.")
    ] = None
    callback_action: Annotated[Any, Field(description="Handed back.")] = None
    callback_context: Annotated[dict[str, Any] | None, Field(description="Handed back.")] = None
    target_path: Annotated[Any, Field(description="Handed back.")] = None
    mod_id: Annotated[Any, Field(description="Of archives. Handed back.")] = None
    mode: Annotated[Any, Field(description="Of archives. Handed back.")] = None
    pack_format: Annotated[Literal["zip"] | None, Field(description="Of archives.")] = None
    pack_level: Annotated[
        int | None, Field(description="Of archives: Deflate level, held to 0 to 9; without it 3.")
    ] = None
    update_only: Annotated[Any, Field(description="Of archives. Handed back as true or false.")] = None
    keep_condition: Annotated[Any, Field(description="Makes `update_only` true, if it is.")] = None
    storage_type: Annotated[Literal["resource", "avatar"] | None, Field(description="Of images, which need it.")] = None
    file_kind: Annotated[Literal["img"] | None, Field(description="Of images.")] = None
    download_url: Annotated[str | None, Field(description="What to fetch: http or https.")] = None
    filename: Annotated[str | None, Field(description="Of URL transfers; without it the origin's own.")] = None


class CallbackClaims(BaseModel):
    """Claims of a callback's bearer token; unknown claims of the transfer token are among them."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [json.loads(CALLBACK_EXAMPLE)]})

    aud: Literal["manager"]
    iss: Literal["storage"]
    iat: Annotated[int, Field(description="Unix time a minute before this attempt at delivery, seconds.")]
    exp: Annotated[int, Field(description="Unix time at which the token expires, seconds.")]
    jti: Annotated[str, Field(description="Names this end: the same at each attempt at delivery.")]
    job_id: JobId
    status: Literal["success", "error"]
    reason: Annotated[str, Field(description="Why; only with `error`.")] = ""
    malware: Annotated[str, Field(description="What the scanner found; only with reason `malware`.")] = ""
    transfer_kind: Kind
    packed_format: Literal["zip", "webp"]
    packed_bytes: Annotated[int | None, Field(description="Size of the packed file in bytes; null if there is none.")]
    sha256: Annotated[str | None, Field(description="Its SHA-256, as 64 hex digits; null if there is none.")]
    bytes: Annotated[int, Field(description="Bytes received.")]
    total: Annotated[int | None, Field(description="Bytes expected; null if unknown.")]
    unpacked_bytes: Annotated[
        int | None, Field(description="Bytes in all entries, or of the image; null if the transfer did not get so far.")
    ]
    mod_id: Any
    pack_format: Annotated[Literal["zip"] | None, Field(description="Of archives.")]
    pack_level: Annotated[int | None, Field(description="Of archives: 0 to 9.")]
    update_only: bool
    mode: Any
    storage_type: Annotated[Literal["resource", "avatar"] | None, Field(description="Of images.")]
    file_kind: Annotated[Literal["img"] | None, Field(description="Of images.")]
    callback_action: Any
    callback_context: dict[str, Any] | None
    target_path: Any


class ProgressMessage(BaseModel):
    """A text message of the WebSocket `/transfer/ws/{job_id}`."""

    model_config = ConfigDict(json_schema_extra={"examples": [json.loads(PROGRESS_EXAMPLE)]})

    event: Annotated[
        Literal["progress", "stage", "complete", "error"],
        Field(description="`stage`: a new one has begun. After `complete` and `error` the server closes with 1000."),
    ]
    bytes: Annotated[int, Field(description="Bytes received.")]
    total: Annotated[int | None, Field(description="Bytes expected; null if unknown.")]
    status: Status
    stage: Annotated[str, Field(json_schema_extra={"enum": [*Stage]})]
    percent: Annotated[
        float | None, Field(ge=0, le=100, description="While `extracting` and `repacking`; otherwise null.")
    ]
    message: Annotated[str, Field(description="Only with `error`: the text that the upload is answered with.")] = ""


webhooks = APIRouter()
_AGAIN: dict[str, Any] = {"description": "Try again later."}


@webhooks.post(
    "transfer-completed",
    tags=["callback"],
    summary="A transfer has ended",
    operation_id="transfer_completed",
    description=f"""Sent to `MANAGER_TRANSFER_CALLBACK_URL` at the end of each attempt at a transfer, without a body.

The claims of the bearer token (`CallbackClaims` among the schemas) say which transfer it was and what became of it;
unknown claims of the transfer token are among them:

```json
{CALLBACK_EXAMPLE}
```

While the Manager handles this call it calls `/transfer/move`, and only then answers.""",
    response_class=Response,
    response_description="Delivered; so is any other 2xx.",
    responses={
        408: _AGAIN,
        409: {"description": "This end is settled already."},
        425: _AGAIN,
        429: _AGAIN | {"headers": header("Retry-After", "Seconds, or a date, before which not to try.", 30)},
        "5XX": _AGAIN,
        "default": {"description": "Refused for good: it is not sent again."},
    },
)
def transfer_completed(
    token: Annotated[
        HTTPAuthorizationCredentials,
        Security(
            HTTPBearer(
                scheme_name="CallbackToken",
                bearerFormat="JWT",
                description="Signed by the storage with the shared secret, afresh for each attempt at delivery.",
            )
        ),
    ],
) -> None:
    """Stand for the Manager's route; nothing calls this."""
