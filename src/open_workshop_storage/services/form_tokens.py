"""Judges the plain tokens of the Manager's form calls (wire contract, section 2)."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from enum import StrEnum

import bcrypt

from open_workshop_storage.core.errors import AccessDenied, TokenMissing
from open_workshop_storage.core.settings import Settings

_BCRYPT_MAX_BYTES = 72


class FormToken(StrEnum):
    """The tokens, by the name of the setting that holds the hash."""

    UPLOAD_FILE = "upload_file"
    DELETE_FILE = "delete_file"
    STORAGE_MANAGE = "storage_manage_token"


class FormTokens:
    """Compares tokens with their bcrypt hashes, the slow way once for each right token.

    A right token is remembered as a keyed digest whose key dies with the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._hashes = {name: getattr(settings, name).encode() for name in FormToken}
        self._key = secrets.token_bytes(32)
        self._accepted: dict[FormToken, bytes] = {}

    async def check(self, name: FormToken, token: str | None) -> None:
        """Return if the token is right.

        Raises:
            TokenMissing: There is none, or an empty one.
            AccessDenied: It is wrong.
        """
        if not token:
            raise TokenMissing
        plain = token.encode(errors="surrogatepass")
        digest = hmac.digest(self._key, plain, "sha256")
        if hmac.compare_digest(self._accepted.get(name, b""), digest):
            return
        # bcrypt looks at no more than 72 bytes, so a longer text would pass for its own beginning.
        right = await asyncio.to_thread(bcrypt.checkpw, plain[:_BCRYPT_MAX_BYTES], self._hashes[name])
        if not right or len(plain) > _BCRYPT_MAX_BYTES:
            raise AccessDenied
        self._accepted[name] = digest
