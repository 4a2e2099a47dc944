"""Signs and reads the JSON Web Tokens of transfers (RFC 7519; docs/API.md, "Transfer tokens" and "Callback")."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt

_ALGORITHM = "HS256"
_LEEWAY_SECONDS = 30
"""How far the Manager's clock may be off ours when a token's times are judged."""
_LAST_SECOND = 2**40
"""Later expiries are as good as none, and too large for timers."""
_BACKDATED_SECONDS = 60
"""How far callback tokens are backdated: a Manager whose clock is behind ours refuses tokens of the future."""

# `iat`, `sub` and `jti` are the Manager's own; we judge signature, audience, beginning and expiry.
_READ_OPTIONS: jwt.types.Options = {
    "require": ["exp", "aud"],
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}
_READ_EXPIRED_OPTIONS: jwt.types.Options = {**_READ_OPTIONS, "verify_exp": False}


class InvalidTokenError(Exception):
    """The token is malformed, for another audience, not valid yet, or not signed with our secret."""


class TransferToken(NamedTuple):
    """A transfer token with a valid signature, our audience and a beginning in the past.

    Attributes:
        expired_seconds: How long ago it expired, leeway included; 0 if it is still valid.
    """

    claims: dict[str, Any]
    expired_seconds: float

    @property
    def expires_at(self) -> float:
        """The Unix time from which on the token counts as expired, leeway included."""
        return min(int(self.claims["exp"]), _LAST_SECOND) + _LEEWAY_SECONDS


def read_transfer_token(token: str, secret: str) -> TransferToken:
    """Read a transfer token, also an expired one. Its times are judged with 30 seconds of leeway.

    Raises:
        InvalidTokenError: The token is malformed, for another audience, not valid yet, or not signed with this secret.
            The text of the cause never holds the token.
    """
    try:
        try:
            return TransferToken(_decoded(token, secret, _READ_OPTIONS), 0.0)
        except jwt.ExpiredSignatureError:
            claims = _decoded(token, secret, _READ_EXPIRED_OPTIONS)
            return TransferToken(claims, time.time() - int(claims["exp"]))
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidTokenError from error


def _decoded(token: str, secret: str, options: jwt.types.Options) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, secret, algorithms=[_ALGORITHM], audience="storage", leeway=_LEEWAY_SECONDS, options=options
    )
    return claims


def sign_callback_token(claims: Mapping[str, Any], jti: str, secret: str, ttl_seconds: float) -> str:
    """Return a fresh token that reports a transfer's end to the Manager, and expires in so many seconds."""
    now = int(time.time())
    token_claims = {
        "jti": jti,
        "aud": "manager",
        "iss": "storage",
        "iat": now - _BACKDATED_SECONDS,
        "exp": now + int(ttl_seconds),
    }
    return jwt.encode({**claims, **token_claims}, secret, algorithm=_ALGORITHM)
