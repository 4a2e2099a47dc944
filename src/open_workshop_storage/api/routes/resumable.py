"""Uploads in several requests, over tus 1.0 (tus.io; docs/API.md, "Resumable uploads")."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from open_workshop_storage.api.dependencies import BEARER, RuntimeDep, claims_of_upload, token_of
from open_workshop_storage.api.documents import resumable as documents
from open_workshop_storage.api.documents.messages import JobName
from open_workshop_storage.api.request_bodies import body_chunks, has_left
from open_workshop_storage.api.shortcuts import Shortcut
from open_workshop_storage.core import errors
from open_workshop_storage.core.job import Job, Resumable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.intake.upload_bodies import UploadRequest
from open_workshop_storage.services.runtime import Runtime
from open_workshop_storage.utils.http.dates import format_date
from open_workshop_storage.utils.http.digest_fields import sha256_in
from open_workshop_storage.utils.http.tus import (
    CHECKSUM_ALGORITHMS,
    EXTENSIONS,
    MEDIA_TYPE,
    VERSION,
    parse_checksum,
    parse_metadata,
    parse_number,
)

_PREFIX = "/transfer/tus/"
_ROUTE = _PREFIX + "{job_id}"

router = APIRouter(tags=["transfers"], default_response_class=Response, dependencies=[BEARER])


class TusProtocol:
    """Obeys `X-HTTP-Method-Override`, and puts the protocol's headers on all answers, those to `OPTIONS` too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on everything else as it is."""
        if scope["type"] != "http" or not scope["path"].removeprefix(scope.get("root_path", "")).startswith(_PREFIX):
            return self._app(scope, receive, send)
        headers = Headers(scope=scope)
        method = headers.get("x-http-method-override", scope["method"]).upper()
        settings: Settings = scope["app"].state.settings

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Tus-Resumable"] = VERSION
                if method == "OPTIONS" or message["status"] == HTTPStatus.PRECONDITION_FAILED:
                    answer["Tus-Version"] = VERSION
                if method == "OPTIONS":
                    answer["Tus-Extension"] = ",".join(EXTENSIONS)
                    answer["Tus-Checksum-Algorithm"] = ",".join(CHECKSUM_ALGORITHMS)
                    if settings.transfer_max_bytes:
                        answer["Tus-Max-Size"] = str(settings.transfer_max_bytes)
            await send(message)

        return self._app({**scope, "method": method}, receive, send_with_headers)


async def require_version(request: Request) -> None:
    """Return if the request speaks the one version of the protocol.

    Raises:
        VersionUnknown: It speaks another one, or does not say which.
    """
    if request.headers.get("tus-resumable") != VERSION:
        raise errors.VersionUnknown


@router.post(_PREFIX, status_code=201, dependencies=[Depends(require_version)], **documents.CREATE)
async def create(request: Request, runtime: RuntimeDep) -> Response:
    """Begin an upload, or return to the one that the job has begun."""
    token = token_of(request)
    claims, is_expired = claims_of_upload(token, runtime)
    with _read_headers():
        length = parse_number(request.headers.get("upload-length"))
        metadata = request.headers.get("upload-metadata", "").strip() or None
        described = parse_metadata(metadata or "")
        upload = Resumable(metadata=metadata, sha256=sha256_in(request.headers.getlist("repr-digest")))
    if (length is None) != (request.headers.get("upload-defer-length") == "1"):
        raise errors.BadRequest("Either Upload-Length or Upload-Defer-Length: 1 expected")
    await runtime.readiness.require("storage", "7z")
    name = described.get("filename") or described.get("name") or claims.filename or ""
    with runtime.lifetime.attending(), _statuses_for_clients():
        job = await runtime.resumable.create(claims, name, length, upload, is_expired=is_expired)
        if job.bytes == 0 and (length == 0 or request.headers.get("content-type") == MEDIA_TYPE):
            job = await _append(request, runtime, job.job_id, 0)
    location = f"{_PREFIX}{job.job_id}"
    if "token" in request.query_params:
        location += f"?token={token}"
    return Response(None, HTTPStatus.CREATED, {"Location": location, **_progress(runtime, job)})


@router.head(_ROUTE, **documents.HEAD)
async def head(job_id: JobName, request: Request, runtime: RuntimeDep) -> Response:
    """Tell from where to go on."""
    _judge_token(request, runtime, job_id)
    job = await runtime.resumable.find(job_id)
    headers = {"Cache-Control": "no-store", **_progress(runtime, job)}
    if job.total is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(job.total)
    if job.resumable is not None and job.resumable.metadata is not None:
        headers["Upload-Metadata"] = job.resumable.metadata
    return Response(None, HTTPStatus.OK, headers)


@router.patch(_ROUTE, status_code=204, **documents.PATCH)
async def patch(job_id: JobName) -> Response:
    """Take in the bytes from an offset on; with the last byte, do all that an upload in one request does."""
    raise AssertionError("the shortcut answers before the routes are reached")


async def _answer_patch(job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    response = await _patched(job_id, Request(scope, receive), scope["state"]["runtime"])
    await response(scope, receive, send)


async def _patched(job_id: str, request: Request, runtime: Runtime) -> Response:
    await require_version(request)
    _judge_token(request, runtime, job_id)
    if request.headers.get("content-type") != MEDIA_TYPE:
        raise errors.MediaTypeUnknown
    with _read_headers():
        offset = parse_number(request.headers.get("upload-offset"))
    if offset is None:
        raise errors.BadRequest("Upload-Offset expected")
    # A file that is gone on with tells by itself whether the storage root is there.
    await runtime.readiness.require("7z", *(() if offset else ("storage",)))
    with runtime.lifetime.attending(), _statuses_for_clients():
        job = await _append(request, runtime, job_id, offset)
    return Response(None, HTTPStatus.NO_CONTENT, _progress(runtime, job))


SHORTCUT = Shortcut(("PATCH",), _ROUTE, _answer_patch)


@router.delete(_ROUTE, status_code=204, dependencies=[Depends(require_version)], **documents.DELETE)
async def delete(job_id: JobName, request: Request, runtime: RuntimeDep) -> Response:
    """Give an unfinished upload up."""
    _judge_token(request, runtime, job_id)
    await runtime.resumable.cancel(job_id)
    return Response(None, HTTPStatus.NO_CONTENT)


def _judge_token(request: Request, runtime: Runtime, job_id: str) -> None:
    claims, _ = claims_of_upload(token_of(request), runtime)
    if claims.job_id != job_id:
        raise errors.AccessDenied


async def _append(request: Request, runtime: Runtime, job_id: str, offset: int) -> Job:
    described, chunks = _upload_request(request, offset), body_chunks(request)
    return await runtime.resumable.append(job_id, described, chunks, partial(has_left, request))


def _upload_request(request: Request, offset: int) -> UploadRequest:
    headers = request.headers
    with _read_headers():
        announced = parse_number(headers.get("content-length"))
        length = parse_number(headers.get("upload-length"))
        sha256 = sha256_in(headers.getlist("repr-digest"))
        if "upload-checksum" not in headers:
            return UploadRequest(offset, announced, length, sha256=sha256)
        algorithm, digest = parse_checksum(headers["upload-checksum"])
    return UploadRequest(offset, announced, length, digest, algorithm, sha256)


def _progress(runtime: Runtime, job: Job) -> dict[str, str]:
    expires_at = int(job.updated_at + runtime.settings.transfer_resume_seconds)
    return {"Upload-Offset": str(job.bytes), "Upload-Expires": format_date(expires_at)}


@contextmanager
def _read_headers() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise errors.BadRequest("Malformed upload header") from None


@contextmanager
def _statuses_for_clients() -> Iterator[None]:
    """Change the statuses that clients of tus would take for another meaning (docs/API.md, "Resumable uploads")."""
    try:
        yield
    except errors.StorageBusy as error:
        error.status = HTTPStatus.SERVICE_UNAVAILABLE
        raise
    except errors.UploadNotAccepted as error:
        error.status = HTTPStatus.UNPROCESSABLE_ENTITY
        raise
    except errors.StorageError as error:
        if error.status in (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.INSUFFICIENT_STORAGE):
            error.status = HTTPStatus.UNPROCESSABLE_ENTITY
        raise
