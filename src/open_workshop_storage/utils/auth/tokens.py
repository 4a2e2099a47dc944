"""Signs and reads the JSON Web Tokens of transfers (RFC 7519; docs/API.md, "Transfer tokens" and "Callback")."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt

_ALGORITHM = "HS256"
# Signature, audience and expiry decide. Other claims are the Manager's, and its clock may be ahead of ours.
_READ_OPTIONS: jwt.types.Options = {
    "require": ["exp", "aud"],
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}


class InvalidTokenError(Exception):
    """The token is malformed, expired, for another audience, or not signed with our secret."""


def read_transfer_token(token: str, secret: str) -> dict[str, Any]:
    """Return the claims of a transfer token.

    Raises:
        InvalidTokenError: The token is malformed, expired, for another audience, or not signed with this secret.
            The text of the cause never holds the token.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=[_ALGORITHM], audience="storage", options=_READ_OPTIONS
        )
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidTokenError from error
    return claims


def sign_callback_token(claims: Mapping[str, Any], jti: str, secret: str, ttl_seconds: float) -> str:
    """Return a fresh token that reports a transfer's end to the Manager."""
    now = int(time.time())
    token_claims = {"jti": jti, "aud": "manager", "iss": "storage", "iat": now, "exp": now + int(ttl_seconds)}
    return jwt.encode({**claims, **token_claims}, secret, algorithm=_ALGORITHM)
