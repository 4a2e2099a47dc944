"""Transfers: what browsers send, and what the Manager does with it (wire contract, section 5)."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field

from open_workshop_storage.api.bodies import SmallForm, body_chunks
from open_workshop_storage.api.dependencies import RuntimeDep, read_claims
from open_workshop_storage.api.openapi import form_body, plain_text_responses
from open_workshop_storage.core import errors
from open_workshop_storage.core.claims import check_job_id
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.form_tokens import FormToken
from open_workshop_storage.utils.forms import FORM_TYPES

router = APIRouter(tags=["transfers"])

_TRANSFER_TOKEN = {"type": "string", "description": "Transfer token (JWT) that the Manager signed."}
_MANAGE_TOKEN = {"type": "string", "format": "password", "description": "Form token `storage_manage_token`."}
_JOB_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{8,128}$", "examples": ["job-7f3a9c21"]}
_REPACK_FORM = form_body(
    {
        "token": _MANAGE_TOKEN,
        "job_id": _JOB_ID,
        "format": {"type": "string", "enum": ["zip"], "default": "zip"},
        "compression_level": {
            "type": "integer",
            "description": "Deflate level, held to 0 to 9; without it the transfer's own.",
            "examples": [5],
        },
    },
    ["token", "job_id"],
    *FORM_TYPES,
)
_MOVE_FORM = form_body(
    {
        "token": _MANAGE_TOKEN,
        "job_id": _JOB_ID,
        "type": {"type": "string", "enum": [*StorageType]},
        "path": {"type": "string", "description": "Path below the type's folder.", "examples": ["mods/7/main.zip"]},
    },
    ["token", "job_id", "type", "path"],
    *FORM_TYPES,
)
_TOKEN_ERRORS = (errors.TokenMissing, errors.AccessDenied, errors.BadRequest)
_ARCHIVE_ERRORS = (
    errors.EncryptedArchive,
    errors.UnsafeArchive,
    errors.CorruptArchive,
    errors.UnsupportedFormat,
    errors.ArchiveTooLarge,
    errors.RepackFailed,
    errors.NoSpace,
)

JobId = Annotated[str, Field(description="The transfer's name.", examples=["job-7f3a9c21"])]
Bytes = Annotated[int, Field(examples=[52428800])]
Token = Annotated[str | None, Query(description="Transfer token (JWT) that the Manager signed.")]


class TransferStarted(BaseModel):
    """A transfer that goes on in the background."""

    job_id: JobId
    status: Annotated[str, Field(description="`started`, or the status of a job that was there.", examples=["started"])]
    ws_url: Annotated[str, Field(description="Where to watch it.", examples=["/transfer/ws/job-7f3a9c21"])]


class TransferReceived(BaseModel):
    """A file that was received and packed; sizes in bytes."""

    job_id: JobId
    bytes: Bytes
    total: Bytes


class TransferRepacked(BaseModel):
    """A file that was packed again; sizes in bytes, path relative to the storage root."""

    job_id: JobId
    packed_bytes: Bytes
    packed_path: Annotated[str, Field(examples=["temp/job-7f3a9c21/5b0c/packed.zip"])]
    unpacked_bytes: Bytes


class TransferMoved(BaseModel):
    """A file in its permanent place; sizes in bytes, path relative to the storage root."""

    job_id: JobId
    final_path: Annotated[str, Field(examples=["archive/mods/7/main.zip"])]
    final_bytes: Bytes
    unpacked_bytes: Bytes


@router.get(
    "/transfer/start",
    summary="Start a transfer from a URL",
    responses=plain_text_responses(*_TOKEN_ERRORS, errors.ServiceUnavailable),
)
async def start_by_query(runtime: RuntimeDep, token: Token = None) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background."""
    return await _start(runtime, token)


@router.post(
    "/transfer/start",
    summary="Start a transfer from a URL",
    openapi_extra=form_body({"token": _TRANSFER_TOKEN}, [], *FORM_TYPES),
    responses=plain_text_responses(*_TOKEN_ERRORS, errors.UploadTimedOut, errors.ServiceUnavailable),
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
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=plain_text_responses(
        *_TOKEN_ERRORS,
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
)
async def upload(
    request: Request,
    runtime: RuntimeDep,
    token: Token = None,
    filename: Annotated[str | None, Query(description="The file's name.", examples=["my_mod.zip"])] = None,
    size: Annotated[str | None, Query(description="The file's size in bytes.", examples=["52428800"])] = None,
    authorization: Annotated[str | None, Header(description="`Bearer` and the token, in place of `token`.")] = None,
    x_file_name: Annotated[str | None, Header(description="In place of `filename`; may be percent-encoded.")] = None,
    x_file_size: Annotated[str | None, Header(description="In place of `size`.")] = None,
    x_upload_size: Annotated[str | None, Header(description="In place of `size`.")] = None,
) -> TransferReceived:
    """Receive a file, pack it, report it to the Manager, and only then answer."""
    scheme, _, bearer = (authorization or "").partition(" ")
    claims = read_claims(token or (bearer.strip() if scheme.lower() == "bearer" else None), runtime)
    name = filename or unquote(x_file_name or "") or claims.filename or ""
    hints = (request.headers.get("content-length"), size, x_file_size, x_upload_size)
    announced = next((int(hint) for hint in hints if hint and re.fullmatch("[0-9]{1,18}", hint)), None)
    await runtime.readiness.require("storage", "7z")
    job = await runtime.transfers.upload(claims, body_chunks(request), name, announced)
    return TransferReceived(job_id=job.job_id, bytes=job.bytes, total=job.bytes)


@router.post(
    "/transfer/repack",
    summary="Pack a received file again",
    openapi_extra=_REPACK_FORM,
    responses=plain_text_responses(
        *_TOKEN_ERRORS,
        *_ARCHIVE_ERRORS,
        errors.JobMissing,
        errors.SourceMissing,
        errors.UploadInProgress,
        errors.UploadTimedOut,
        errors.ServiceUnavailable,
    ),
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
    openapi_extra=_MOVE_FORM,
    responses=plain_text_responses(
        *_TOKEN_ERRORS,
        errors.InvalidType,
        errors.JobMissing,
        errors.PackedMissing,
        errors.PathOutsideStorage,
        errors.UploadTimedOut,
        errors.ServiceUnavailable,
        errors.NoSpace,
    ),
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
