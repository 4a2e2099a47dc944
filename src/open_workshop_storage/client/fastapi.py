"""The callback as a dependency of FastAPI's routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Header, HTTPException

from open_workshop_storage.client.tokens import Callback, InvalidToken, verify_callback


def verified_callback(secret: str) -> Callable[..., Callback]:
    """Return a dependency that gives a route the callback which its request brings; others are answered 403.

    Args:
        secret: `TRANSFER_JWT_SECRET` of the storage.
    """

    def callback(authorization: Annotated[str, Header()] = "") -> Callback:
        try:
            return verify_callback(authorization, secret)
        except InvalidToken:
            raise HTTPException(403, "Access denied") from None

    return callback
