"""Transfer tokens and callbacks (docs/API.md, "Transfer tokens" and "Callback")."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import jwt

from open_workshop_storage.client.calls import from_fields

_ALGORITHM = "HS256"
_LEEWAY_SECONDS = 30
_REQUIRED = ["aud", "exp", "iat", "iss", "jti", "job_id", "status"]


class InvalidToken(Exception):
    """A token is malformed, expired, for another audience, or not signed with the shared secret."""


@dataclass(frozen=True, kw_only=True)
class TransferClaims:
    """The claims of a transfer token; those that are `None` are left out of it.

    Attributes:
        job_id: Names the job: 8 to 128 letters, digits, `_` and `-`.
        max_bytes: Limit on what is received, in bytes; 0 for none.
        pack_level: Deflate level, 0 to 9.
        storage_type: Of images, which need it.
        download_url: What the storage is to fetch, for a URL transfer.
        filename: Of a URL transfer; without it the origin's own.
        others: Any other claims, which are handed back with the callback; they take the place of the usual ones.
    """

    job_id: str
    transfer_kind: Literal["archive", "img"] = "archive"
    max_bytes: int | None = None
    callback_action: Any = None
    callback_context: Mapping[str, Any] | None = None
    target_path: Any = None
    mod_id: Any = None
    mode: Any = None
    pack_format: Literal["zip"] | None = None
    pack_level: int | None = None
    update_only: bool | None = None
    keep_condition: bool | None = None
    storage_type: Literal["resource", "avatar"] | None = None
    file_kind: Literal["img"] | None = None
    download_url: str | None = None
    filename: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


def sign_transfer_token(claims: TransferClaims, secret: str, seconds: float = 900) -> str:
    """Return a token that allows one transfer.

    Args:
        secret: `TRANSFER_JWT_SECRET` of the storage.
        seconds: How long the transfer may begin from now on.
    """
    named = {one.name: getattr(claims, one.name) for one in fields(claims) if one.name != "others"}
    present = {name: value for name, value in named.items() if value is not None}
    token_claims = {"aud": "storage", "exp": int(time.time() + seconds)}
    return jwt.encode({**token_claims, **present, **claims.others}, secret, algorithm=_ALGORITHM)


@dataclass(frozen=True)
class Callback:
    """The storage's report of a transfer's end.

    Attributes:
        jti: Names this end: the same each time it is sent.
        reason: Why it failed (docs/API.md, "Reasons"); `None` after a success.
        malware: What the scanner found, if that is why.
        bytes: Received bytes.
        total: Expected bytes; `None` if unknown.
        packed_bytes: Size of the packed file in bytes; `None` if it never got so far, as the next two.
        sha256: Its SHA-256, as 64 hex digits.
        unpacked_bytes: Size of all that is in it, in bytes.
        claims: All claims, those that only the transfer token's signer knows among them.
    """

    jti: str
    job_id: str
    status: Literal["success", "error"]
    reason: str | None
    malware: str | None
    transfer_kind: Literal["archive", "img"]
    packed_format: Literal["zip", "webp"]
    bytes: int
    total: int | None
    packed_bytes: int | None
    sha256: str | None
    unpacked_bytes: int | None
    update_only: bool
    mod_id: Any
    pack_format: Literal["zip"] | None
    pack_level: int | None
    mode: Any
    storage_type: Literal["resource", "avatar"] | None
    file_kind: Literal["img"] | None
    callback_action: Any
    callback_context: Mapping[str, Any] | None
    target_path: Any
    claims: Mapping[str, Any] = field(repr=False)


def verify_callback(authorization: str, secret: str) -> Callback:
    """Return what a callback says. Its times are judged with 30 seconds of leeway.

    Args:
        authorization: The request's header `Authorization`, empty if it has none.
        secret: `TRANSFER_JWT_SECRET` of the storage.

    Raises:
        InvalidToken: It is no callback of the storage, or no longer one. Answer 403.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            authorization.removeprefix("Bearer "),
            secret,
            algorithms=[_ALGORITHM],
            audience="manager",
            issuer="storage",
            leeway=_LEEWAY_SECONDS,
            options={"require": _REQUIRED},
        )
    except jwt.InvalidTokenError as error:
        raise InvalidToken(str(error)) from error
    return from_fields(Callback, {**dict.fromkeys(Callback.__annotations__), **claims, "claims": claims})


def job_of(token: str) -> str:
    """Return the job that a transfer token names, without a look at its signature.

    Raises:
        InvalidToken: It is malformed.
    """
    try:
        return str(jwt.decode(token, options={"verify_signature": False})["job_id"])
    except (jwt.InvalidTokenError, KeyError) as error:
        raise InvalidToken("no transfer token") from error
