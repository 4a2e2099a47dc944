"""Transfers: what browsers send, and what the Manager does with it (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Request

from open_workshop_storage.api.dependencies import BEARER, RuntimeDep, read_claims, token_of
from open_workshop_storage.api.documents import transfers
from open_workshop_storage.api.documents.transfers import (
    TransferMoved,
    TransferReceived,
    TransferRepacked,
    TransferStarted,
)
from open_workshop_storage.api.request_bodies import SmallForm, has_left, number_in, raw_body
from open_workshop_storage.core import errors
from open_workshop_storage.core.claims import check_job_id, clamp_level
from open_workshop_storage.services.manager.form_tokens import FormToken

router = APIRouter(tags=["transfers"])


@router.get("/transfer/start", **transfers.START_BY_QUERY)
async def start_by_query(request: Request, runtime: RuntimeDep) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background."""
    return await _start(runtime, request.query_params.get("token"))


@router.post("/transfer/start", **transfers.START_BY_FORM)
async def start_by_form(request: Request, runtime: RuntimeDep, form: SmallForm) -> TransferStarted:
    """Begin to fetch the token's `download_url` in the background; the token is in the query or in the form."""
    return await _start(runtime, request.query_params.get("token") or form.get("token"))


async def _start(runtime: RuntimeDep, token: str | None) -> TransferStarted:
    claims = read_claims(token, runtime)
    await runtime.readiness.require("storage", "7z")
    status = await runtime.transfers.start(claims)
    return TransferStarted(job_id=claims.job_id, status=status, ws_url=f"/transfer/ws/{claims.job_id}")


@router.post("/transfer/upload", dependencies=[BEARER], **transfers.UPLOAD)
async def upload(request: Request, runtime: RuntimeDep) -> TransferReceived:
    """Receive a file, pack it, report it to the Manager, and only then answer.

    An archive is inspected and becomes a ZIP, an image becomes a WebP, any other file a ZIP with that file in it.
    `GET /transfer/ws/{job_id}?token=…`, a WebSocket, shows how far it is, in messages of the schema `ProgressMessage`;
    it takes the same token, and is refused with 403 without it. The report to the Manager is described
    under *Webhooks*. Every refusal after the token was accepted is reported too, 409, 429 and 503 excepted.
    """
    query, headers = request.query_params, request.headers
    claims = read_claims(token_of(request), runtime)
    name = query.get("filename") or _header_name(headers.get("x-file-name", "")) or claims.filename or ""
    hints = (headers.get("content-length"), query.get("size"), headers.get("x-file-size"), headers.get("x-upload-size"))
    # A proxy that cuts a body may tell the length of what is left.
    announced = max((size for size in map(number_in, hints) if size is not None), default=None)
    digests = [*headers.getlist("repr-digest"), *headers.getlist("content-digest")]
    await runtime.readiness.require("storage", "7z")
    with runtime.lifetime.attending():
        leaving = partial(has_left, request)
        job = await runtime.transfers.upload(claims, raw_body(request), name, announced, digests, leaving)
    return TransferReceived(job_id=job.job_id, bytes=job.bytes, total=job.bytes)


def _header_name(value: str) -> str:
    """Return a file name that came percent-encoded, or as it is; the server decodes header values as Latin-1."""
    name = unquote_to_bytes(value.encode("latin-1"))
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


@router.post("/transfer/repack", **transfers.REPACK)
async def repack(runtime: RuntimeDep, form: SmallForm) -> TransferRepacked:
    """Pack the received file once more, with another compression level; nothing is reported to the Manager."""
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, form.get("token"))
    job_id = check_job_id(form.get("job_id"))
    if (form.get("format") or "zip") != "zip":
        raise errors.UnsupportedFormat
    await runtime.readiness.require("storage", "7z")
    job = await runtime.repacks.repack(job_id, _level(form.get("compression_level")))
    assert job.packed_file and job.packed_bytes is not None and job.unpacked_bytes is not None and job.sha256
    return TransferRepacked(
        job_id=job_id,
        packed_bytes=job.packed_bytes,
        packed_path=runtime.workspaces.name(runtime.workspaces.folder(job_id) / job.packed_file),
        unpacked_bytes=job.unpacked_bytes,
        sha256=job.sha256,
    )


def _level(text: str | None) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise errors.BadRequest("Invalid compression level")
    return clamp_level(int(text))


@router.post("/transfer/move", **transfers.MOVE)
async def move(runtime: RuntimeDep, form: SmallForm) -> TransferMoved:
    """Put the packed file where it stays and end the job; saying it again gives the same answer."""
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, form.get("token"))
    job_id = check_job_id(form.get("job_id"))
    job = await runtime.moves.move(job_id, form.get("type", ""), form.get("path", ""))
    assert job.move_to is not None and job.moved_bytes is not None and job.unpacked_bytes is not None
    return TransferMoved(
        job_id=job_id,
        final_path=job.move_to,
        final_bytes=job.moved_bytes,
        unpacked_bytes=job.unpacked_bytes,
        sha256=job.sha256,
    )
