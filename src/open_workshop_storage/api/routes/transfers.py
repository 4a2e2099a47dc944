"""Transfers: what browsers send, and what the Manager does with it (wire contract, section 5)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Form, Query, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from open_workshop_storage.api.dependencies import RuntimeDep, read_claims
from open_workshop_storage.core.claims import check_job_id
from open_workshop_storage.core import errors
from open_workshop_storage.services.form_tokens import FormToken

router = APIRouter(tags=["transfers"])

Token = Annotated[str | None, Query(description="Transfer token (JWT) that the Manager signed.")]


class TransferStarted(BaseModel):
    """A transfer that goes on in the background."""

    job_id: str
    status: str
    ws_url: str


class TransferReceived(BaseModel):
    """A file that was received and packed; sizes in bytes."""

    job_id: str
    bytes: int
    total: int


class TransferRepacked(BaseModel):
    """A file that was packed again; sizes in bytes, path relative to the storage root."""

    job_id: str
    packed_bytes: int
    packed_path: str
    unpacked_bytes: int


class TransferMoved(BaseModel):
    """A file in its permanent place; sizes in bytes, path relative to the storage root."""

    job_id: str
    final_path: str
    final_bytes: int
    unpacked_bytes: int


@router.get("/transfer/start", summary="Start a transfer from a URL")
async def start_by_query(runtime: RuntimeDep, token: Token = None) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background."""
    return await _start(runtime, token)


@router.post("/transfer/start", summary="Start a transfer from a URL")
async def start_by_form(
    runtime: RuntimeDep, token: Token = None, form_token: Annotated[str | None, Form(alias="token")] = None
) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background; the token may be in the query or in the form."""
    return await _start(runtime, token or form_token)


async def _start(runtime: RuntimeDep, token: str | None) -> TransferStarted:
    claims = read_claims(token, runtime)
    status = await runtime.transfers.start(claims)
    return TransferStarted(job_id=claims.job_id, status=status, ws_url=f"/transfer/ws/{claims.job_id}")


@router.post("/transfer/upload", summary="Upload a file as the raw body")
async def upload(
    request: Request,
    runtime: RuntimeDep,
    token: Token = None,
    filename: Annotated[str | None, Query(description="The file's name.")] = None,
    size: Annotated[str | None, Query(description="The file's size in bytes, where it is not sent otherwise.")] = None,
) -> TransferReceived:
    """Receive a file, pack it, report it to the Manager, and only then answer."""
    headers = request.headers
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    claims = read_claims(token or (bearer.strip() if scheme.lower() == "bearer" else None), runtime)
    name = filename or unquote(headers.get("x-file-name", "")) or claims.filename or ""
    hints = (headers.get("content-length"), size, headers.get("x-file-size"), headers.get("x-upload-size"))
    announced = next((int(hint) for hint in hints if hint and re.fullmatch("[0-9]{1,18}", hint)), None)
    await runtime.readiness.require_storage()
    job = await runtime.transfers.upload(claims, _body(request), name, announced)
    return TransferReceived(job_id=job.job_id, bytes=job.bytes, total=job.bytes)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise errors.ClientGone from None


@router.post("/transfer/repack", summary="Pack a received file again")
async def repack(
    runtime: RuntimeDep,
    token: Annotated[str | None, Form(description="Form token `storage_manage_token`.")] = None,
    job_id: Annotated[str | None, Form()] = None,
    format: Annotated[str, Form()] = "zip",
    compression_level: Annotated[str | None, Form(description="Deflate level, 0 to 9.")] = None,
) -> TransferRepacked:
    """Pack the received file once more, with another compression level; nothing is reported to the Manager."""
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, token)
    job_id = check_job_id(job_id)
    if format != "zip":
        raise errors.UnsupportedFormat
    job = await runtime.moves.repack(job_id, _level(compression_level))
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


@router.post("/transfer/move", summary="Move a packed file to its place")
async def move(
    runtime: RuntimeDep,
    token: Annotated[str | None, Form(description="Form token `storage_manage_token`.")] = None,
    job_id: Annotated[str | None, Form()] = None,
    type: Annotated[str | None, Form()] = None,
    path: Annotated[str | None, Form()] = None,
) -> TransferMoved:
    """Put the packed file where it stays and end the job; saying it again gives the same answer."""
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, token)
    job = await runtime.moves.move(check_job_id(job_id), type or "", path or "")
    assert job.move_to is not None and job.moved_bytes is not None and job.unpacked_bytes is not None
    return TransferMoved(
        job_id=job.job_id, final_path=job.move_to, final_bytes=job.moved_bytes, unpacked_bytes=job.unpacked_bytes
    )
