"""What operators see of all loaders, and the page that shows it (docs/API.md, "Console")."""

from __future__ import annotations

import re
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Depends, Response, Security
from fastapi.responses import FileResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.api.documents import console
from open_workshop_storage.api.documents.console import CallbackHurried, JobCancelled
from open_workshop_storage.api.documents.messages import JobName
from open_workshop_storage.core.errors import CallbackMissing, NothingHere
from open_workshop_storage.services.manager.form_tokens import FormToken
from open_workshop_storage.services.operations.status import MOST_JOBS, Status, status_of, storage_status
from open_workshop_storage.services.transfers.attempts import cancel_transfer

_FOLDER = resources.files("open_workshop_storage") / "console"
_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
_NAME = re.compile(rf"[a-z-]{{1,32}}\.({'|'.join(_TYPES)})")
_PAGE_HEADERS = {
    # Nothing of other hosts, nothing inline, and no script that is made of text (Content Security Policy Level 3).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    # Another version of the service has other files.
    "Cache-Control": "no-cache",
}

_Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(
        HTTPBearer(
            scheme_name="StorageManageToken",
            description="The plain token whose hash is the setting `storage_manage_token`.",
            auto_error=False,
        )
    ),
]


async def require_console(runtime: RuntimeDep) -> None:
    """Return if the settings have the console.

    Raises:
        NothingHere: They have not.
    """
    if not runtime.settings.console_enabled:
        raise NothingHere


async def require_operator(runtime: RuntimeDep, bearer: _Bearer = None) -> None:
    """Return if the request has the token of operators.

    Raises:
        TokenMissing, AccessDenied, TooManyTokens: As form tokens are judged.
    """
    await runtime.form_tokens.check(FormToken.STORAGE_MANAGE, bearer.credentials.strip() if bearer else None)


router = APIRouter(prefix="/loader", tags=["console"], dependencies=[Depends(require_console)])


@router.get("/status", response_model=Status, dependencies=[Depends(require_operator)], **console.STATUS)
async def status(runtime: RuntimeDep) -> Response:
    """Tell what runs, waits and failed on all hosts, and why."""
    now = await runtime.store.overview(MOST_JOBS)
    storage = await storage_status(runtime.settings, runtime.files, runtime.workspaces)
    text = status_of(now, runtime.settings, storage).model_dump_json()
    return Response(text, headers={"Cache-Control": "no-store"}, media_type="application/json")


@router.post("/callbacks/{jti}/deliver", status_code=202, dependencies=[Depends(require_operator)], **console.DELIVER)
async def deliver(jti: console.CallbackName, runtime: RuntimeDep) -> CallbackHurried:
    """Have a callback that waits delivered at once, in place of after its pause."""
    due_seconds = await runtime.store.outbox.hurry(jti)
    if due_seconds is None:
        raise CallbackMissing
    return CallbackHurried(jti=jti, due_seconds=due_seconds)


@router.post("/jobs/{job_id}/cancel", dependencies=[Depends(require_operator)], **console.CANCEL)
async def cancel(job_id: JobName, runtime: RuntimeDep) -> JobCancelled:
    """End a transfer that has not ended, wherever it runs or waits; its client and the Manager are told."""
    job = await cancel_transfer(runtime.store, job_id)
    return JobCancelled(job_id=job_id, reason=job.reason or "", message=job.message or "")


@router.api_route("/console", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> FileResponse:
    """Send the page. It holds no secret: what it asks for needs a token."""
    return _file_of_page("index.html", "html")


@router.api_route("/console/{name}", methods=["GET", "HEAD"], include_in_schema=False)
def file(name: str) -> FileResponse:
    """Send a file that the page loads.

    Raises:
        NothingHere: It has no such file.
    """
    match = _NAME.fullmatch(name)
    if match is None or not (_FOLDER / name).is_file():
        raise NothingHere
    return _file_of_page(name, match[1])


def _file_of_page(name: str, ending: str) -> FileResponse:
    return FileResponse(str(_FOLDER / name), headers=_PAGE_HEADERS, media_type=_TYPES[ending])
