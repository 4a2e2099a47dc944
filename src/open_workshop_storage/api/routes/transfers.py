"""Transfers: what browsers send, and what the Manager does with it (wire contract, section 5)."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from open_workshop_storage.api.bodies import SmallForm, body_chunks
from open_workshop_storage.api.dependencies import RuntimeDep, read_claims
from open_workshop_storage.api.openapi import (
    FORM_ERRORS,
    PATH_ERRORS,
    TRANSFER_TOKEN_ERRORS,
    json_example,
    plain_text_responses,
)
from open_workshop_storage.api.transfer_schemas import (
    MOVE_FORM,
    MOVED,
    RECEIVED,
    REPACK_FORM,
    REPACKED,
    START_FORM,
    STARTED,
    TRANSFER_TOKEN,
    TRANSFER_TOKEN_EXAMPLE,
    TransferMoved,
    TransferReceived,
    TransferRepacked,
    TransferStarted,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.claims import check_job_id
from open_workshop_storage.services.form_tokens import FormToken

router = APIRouter(tags=["transfers"])

Token = Annotated[str | None, Query(description=TRANSFER_TOKEN, examples=[TRANSFER_TOKEN_EXAMPLE])]
Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(
        HTTPBearer(
            scheme_name="TransferToken",
            bearerFormat="JWT",
            description=f"{TRANSFER_TOKEN} It may stand in the query instead.",
            auto_error=False,
        )
    ),
]
_ARCHIVE_ERRORS = (
    errors.EncryptedArchive,
    errors.UnsafeArchive,
    errors.CorruptArchive,
    errors.UnsupportedFormat,
    errors.ArchiveTooLarge,
    errors.RepackFailed,
    errors.NoSpace,
)


@router.get(
    "/transfer/start",
    summary="Start a transfer from a URL",
    operation_id="start_transfer_by_query",
    response_description="The transfer goes on in the background.",
    responses={
        200: json_example(STARTED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS, errors.BadRequest("Download URL missing"), errors.ServiceUnavailable
        ),
    },
)
async def start_by_query(runtime: RuntimeDep, token: Token = None) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background."""
    return await _start(runtime, token)


@router.post(
    "/transfer/start",
    summary="Start a transfer from a URL",
    operation_id="start_transfer_by_form",
    response_description="The transfer goes on in the background.",
    openapi_extra=START_FORM,
    responses={
        200: json_example(STARTED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            errors.BadRequest("Download URL missing"),
            *FORM_ERRORS,
            errors.ServiceUnavailable,
        ),
    },
)
async def start_by_form(runtime: RuntimeDep, form: SmallForm, token: Token = None) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background; the token is in the query or in the form."""
    return await _start(runtime, token or form.get("token"))


async def _start(runtime: RuntimeDep, token: str | None) -> TransferStarted:
    claims = read_claims(token, runtime)
    await runtime.readiness.require("storage", "7z")
    status = await runtime.transfers.start(claims)
    return TransferStarted(job_id=claims.job_id, status=status, ws_url=f"/transfer/ws/{claims.job_id}")


@router.post(
    "/transfer/upload",
    summary="Upload a file as the raw body",
    operation_id="upload_transfer",
    response_description="The file is packed, and the Manager has been told or will be.",
    openapi_extra={
        # The token may stand in the query instead.
        "security": [{}],
        "requestBody": {
            "required": True,
            "description": "The file's bytes, as they are.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
    responses={
        200: json_example(RECEIVED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            errors.ClientGone,
            *_ARCHIVE_ERRORS,
            errors.ImageExpected,
            errors.ImageTooLarge,
            errors.ImagePreparationFailed,
            errors.FileTooLarge,
            errors.UploadTimedOut,
            errors.UploadInProgress,
            errors.UploadFinished,
            errors.UploadFailed,
            errors.StorageBusy,
            errors.ServiceUnavailable,
        ),
    },
)
async def upload(
    request: Request,
    runtime: RuntimeDep,
    token: Token = None,
    filename: Annotated[str | None, Query(description="The file's name.", examples=["my_mod.zip"])] = None,
    size: Annotated[str | None, Query(description="The file's size in bytes.", examples=["52428800"])] = None,
    bearer: Bearer = None,
    x_file_name: Annotated[
        str | None,
        Header(
            alias="X-File-Name",
            description="In place of `filename`; may be percent-encoded.",
            examples=["my%20mod.zip"],
        ),
    ] = None,
    x_file_size: Annotated[
        str | None, Header(alias="X-File-Size", description="In place of `size`.", examples=["52428800"])
    ] = None,
    x_upload_size: Annotated[
        str | None, Header(alias="X-Upload-Size", description="In place of `size`.", examples=["52428800"])
    ] = None,
) -> TransferReceived:
    """Receive a file, pack it, report it to the Manager, and only then answer.

    An archive is inspected and becomes a ZIP, an image becomes a WebP, any other file a ZIP with that file in it.
    `GET /transfer/ws/{job_id}?token=…`, a WebSocket, shows how far it is. The report to the Manager is described
    under *Webhooks*. Every refusal after the token was accepted is reported too, 409, 429 and 503 excepted.
    """
    claims = read_claims(token or (bearer.credentials.strip() if bearer else None), runtime)
    name = filename or unquote(x_file_name or "") or claims.filename or ""
    hints = (request.headers.get("content-length"), size, x_file_size, x_upload_size)
    announced = next((int(hint) for hint in hints if hint and re.fullmatch("[0-9]{1,18}", hint)), None)
    await runtime.readiness.require("storage", "7z")
    with runtime.runs.attending():
        job = await runtime.transfers.upload(claims, body_chunks(request), name, announced)
    return TransferReceived(job_id=job.job_id, bytes=job.bytes, total=job.bytes)


@router.post(
    "/transfer/repack",
    summary="Pack a received file again",
    operation_id="repack_transfer",
    response_description="The new packed file took the place of the old one.",
    openapi_extra=REPACK_FORM,
    responses={
        200: json_example(REPACKED),
        **plain_text_responses(
            *FORM_ERRORS,
            errors.TokenMissing,
            errors.AccessDenied,
            errors.BadRequest("Invalid job id"),
            errors.BadRequest("Invalid compression level"),
            *_ARCHIVE_ERRORS,
            errors.JobMissing,
            errors.SourceMissing,
            errors.UploadInProgress,
            errors.ServiceUnavailable,
        ),
    },
)
async def repack(runtime: RuntimeDep, form: SmallForm) -> TransferRepacked:
    """Pack the received file once more, with another compression level; nothing is reported to the Manager."""
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, form.get("token"))
    job_id = check_job_id(form.get("job_id"))
    if (form.get("format") or "zip") != "zip":
        raise errors.UnsupportedFormat
    await runtime.readiness.require("storage", "7z")
    job = await runtime.moves.repack(job_id, _level(form.get("compression_level")))
    assert job.packed_file and job.packed_bytes is not None and job.unpacked_bytes is not None
    return TransferRepacked(
        job_id=job_id,
        packed_bytes=job.packed_bytes,
        packed_path=runtime.storage.relative(runtime.storage.workspace(job_id) / job.packed_file),
        unpacked_bytes=job.unpacked_bytes,
    )


def _level(text: str | None) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise errors.BadRequest("Invalid compression level")
    return min(max(int(text), 0), 9)


@router.post(
    "/transfer/move",
    summary="Move a packed file to its place",
    operation_id="move_transfer",
    response_description="The file is in its place.",
    openapi_extra=MOVE_FORM,
    responses={
        200: json_example(MOVED),
        **plain_text_responses(
            *FORM_ERRORS,
            errors.TokenMissing,
            errors.AccessDenied,
            errors.BadRequest("Invalid job id"),
            errors.InvalidType,
            *PATH_ERRORS,
            errors.JobMissing,
            errors.PackedMissing,
            errors.NoSpace,
            errors.ServiceUnavailable,
        ),
    },
)
async def move(runtime: RuntimeDep, form: SmallForm) -> TransferMoved:
    """Put the packed file where it stays and end the job; saying it again gives the same answer."""
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, form.get("token"))
    job_id = check_job_id(form.get("job_id"))
    await runtime.readiness.require("storage")
    job = await runtime.moves.move(job_id, form.get("type", ""), form.get("path", ""))
    assert job.move_to is not None and job.moved_bytes is not None and job.unpacked_bytes is not None
    return TransferMoved(
        job_id=job_id, final_path=job.move_to, final_bytes=job.moved_bytes, unpacked_bytes=job.unpacked_bytes
    )
