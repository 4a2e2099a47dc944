"""What routes depend on: the runtime, and the claims of transfer tokens (docs/API.md, "Transfer tokens")."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from open_workshop_storage.api.documents.transfers import TRANSFER_TOKEN
from open_workshop_storage.core.claims import TransferClaims, parse_claims
from open_workshop_storage.core.errors import AccessDenied, TokenMissing
from open_workshop_storage.services.runtime import Runtime
from open_workshop_storage.utils.auth.json_web_tokens import InvalidTokenError, TransferToken, read_transfer_token


async def get_runtime(connection: HTTPConnection) -> Runtime:
    """Return the runtime that the app's lifespan built."""
    runtime: Runtime = connection.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]

BEARER = Security(
    HTTPBearer(
        scheme_name="TransferToken",
        bearerFormat="JWT",
        description=f"{TRANSFER_TOKEN} It may stand in the query instead.",
        auto_error=False,
    )
)
"""For the documents; `token_of` reads the header."""


def token_of(request: Request) -> str | None:
    """Return the transfer token of a request, from its query or its `Authorization` header."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return request.query_params.get("token") or (credentials.strip() if scheme.lower() == "bearer" else None)


def read_token(token: str | None, runtime: Runtime) -> TransferToken:
    """Return a transfer token that may have expired.

    Raises:
        TokenMissing: There is no token.
        AccessDenied: Its signature, its audience or its beginning is wrong.
    """
    if not token:
        raise TokenMissing
    try:
        return read_transfer_token(token, runtime.settings.transfer_jwt_secret)
    except InvalidTokenError:
        raise AccessDenied from None


def read_claims(token: str | None, runtime: Runtime) -> TransferClaims:
    """Return the claims of a transfer token.

    Raises:
        TokenMissing: There is no token.
        AccessDenied: Its signature, its audience or its time is wrong.
        BadRequest: A claim is malformed.
    """
    read = read_token(token, runtime)
    if read.expired_seconds > 0:
        raise AccessDenied
    return parse_claims(read.claims, read.expires_at)


def claims_of_upload(token: str | None, runtime: Runtime) -> tuple[TransferClaims, bool]:
    """Return the claims of a token, and whether it is expired, which only the upload that it began may ignore.

    It may for `TRANSFER_RESUME_SECONDS` (docs/API.md, "Resumable uploads").

    Raises:
        StorageError: As in `read_claims`; it is expired for longer.
    """
    if not token:
        raise TokenMissing
    try:
        claims = runtime.claims_of(token)
    except InvalidTokenError:
        raise AccessDenied from None
    expired_seconds = time.time() - claims.expires_at
    if expired_seconds > runtime.settings.transfer_resume_seconds:
        raise AccessDenied
    return claims, expired_seconds >= 0
