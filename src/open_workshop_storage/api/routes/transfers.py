"""Transfers: what browsers send, and what the Manager does with it (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from open_workshop_storage.api.bodies import SmallForm, body_chunks
from open_workshop_storage.api.dependencies import RuntimeDep, read_claims
from open_workshop_storage.api.documents.openapi import (
    FORM_ERRORS,
    PATH_ERRORS,
    TRANSFER_TOKEN_ERRORS,
    json_example,
    parameter,
    plain_text_responses,
)
from open_workshop_storage.api.documents.transfers import (
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
from open_workshop_storage.core.claims import check_job_id, clamp_level
from open_workshop_storage.services.manager.form_tokens import FormToken

router = APIRouter(tags=["transfers"])

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


def _token_parameter(required: bool) -> dict[str, Any]:
    return parameter("query", "token", TRANSFER_TOKEN, TRANSFER_TOKEN_EXAMPLE, required)


@router.get(
    "/transfer/start",
    summary="Start a transfer from a URL",
    operation_id="start_transfer_by_query",
    response_description="The transfer goes on in the background.",
    openapi_extra={"parameters": [_token_parameter(required=True)]},
    responses={
        200: json_example(STARTED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS, errors.BadRequest("Download URL missing"), errors.ServiceUnavailable
        ),
    },
)
async def start_by_query(request: Request, runtime: RuntimeDep) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background."""
    return await _start(runtime, request.query_params.get("token"))


@router.post(
    "/transfer/start",
    summary="Start a transfer from a URL",
    operation_id="start_transfer_by_form",
    response_description="The transfer goes on in the background.",
    openapi_extra=START_FORM | {"parameters": [_token_parameter(required=False)]},
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
async def start_by_form(request: Request, runtime: RuntimeDep, form: SmallForm) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background; the token is in the query or in the form."""
    return await _start(runtime, request.query_params.get("token") or form.get("token"))


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
        "parameters": [
            _token_parameter(required=False),
            parameter("query", "filename", "The file's name.", "my_mod.zip"),
            parameter("header", "X-File-Name", "In place of `filename`; may be percent-encoded.", "my%20mod.zip"),
            parameter("query", "size", "The file's size in bytes, where there is no `Content-Length`.", 52428800),
            parameter("header", "X-File-Size", "In place of `size`.", 52428800),
            parameter("header", "X-Upload-Size", "In place of `size`.", 52428800),
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
    responses={
        200: json_example(RECEIVED),
        **plain_text_responses(
            *TRANSFER_TOKEN_ERRORS,
            errors.TooManyPieces,
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
async def upload(request: Request, runtime: RuntimeDep, bearer: Bearer = None) -> TransferReceived:
    """Receive a file, pack it, report it to the Manager, and only then answer.

    An archive is inspected and becomes a ZIP, an image becomes a WebP, any other file a ZIP with that file in it.
    `GET /transfer/ws/{job_id}?token=…`, a WebSocket, shows how far it is, in messages of the schema `ProgressMessage`;
    it takes the same token, and is refused with 403 without it. The report to the Manager is described
    under *Webhooks*. Every refusal after the token was accepted is reported too, 409, 429 and 503 excepted.
    """
    query, headers = request.query_params, request.headers
    claims = read_claims(query.get("token") or (bearer.credentials.strip() if bearer else None), runtime)
    name = query.get("filename") or _header_name(headers.get("x-file-name", "")) or claims.filename or ""
    hints = (headers.get("content-length"), query.get("size"), headers.get("x-file-size"), headers.get("x-upload-size"))
    announced = next((int(hint) for hint in hints if hint and re.fullmatch("[0-9]{1,18}", hint)), None)
    await runtime.readiness.require("storage", "7z")
    with runtime.lifetime.attending():
        job = await runtime.transfers.upload(claims, body_chunks(request), name, announced)
    return TransferReceived(job_id=job.job_id, bytes=job.bytes, total=job.bytes)


def _header_name(value: str) -> str:
    """Return a file name that came percent-encoded, or as it is; the server decodes header values as Latin-1."""
    name = unquote_to_bytes(value.encode("latin-1"))
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


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
        packed_path=runtime.workspaces.name(runtime.workspaces.folder(job_id) / job.packed_file),
        unpacked_bytes=job.unpacked_bytes,
    )


def _level(text: str | None) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise errors.BadRequest("Invalid compression level")
    return clamp_level(int(text))


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
