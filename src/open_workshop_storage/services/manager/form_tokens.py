"""Judges the plain tokens of the Manager's form calls (docs/API.md, "Form tokens")."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

import bcrypt

from open_workshop_storage.core.errors import AccessDenied, ServiceUnavailable, TokenMissing
from open_workshop_storage.core.settings import Settings

_BCRYPT_MAX_BYTES = 72
_MOST_WAITING = 32
_MOST_REMEMBERED = 4096
# Under full load, this leaves the thread a quarter of the CPU time of others.
_NICENESS = 5


class FormToken(StrEnum):
    """The tokens, by the name of the setting that holds the hash."""

    UPLOAD_FILE = "upload_file"
    DELETE_FILE = "delete_file"
    STORAGE_MANAGE = "storage_manage_token"


class FormTokens:
    """Compares tokens with their bcrypt hashes, each token once.

    The right token is remembered as a keyed digest, whose key dies with the process. From then on every other token
    is refused without bcrypt. Until then, a bounded number of wrong tokens is remembered in the same way, and
    unknown ones are judged one after the other in a thread of low priority, so that invented tokens take at most
    one core.
    """

    def __init__(self, settings: Settings) -> None:
        self._hashes = {name: getattr(settings, name).encode() for name in FormToken}
        self._key = secrets.token_bytes(32)
        self._right: dict[FormToken, bytes] = {}
        self._wrong: set[tuple[FormToken, bytes]] = set()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "form-tokens", _step_back)

    async def check(self, name: FormToken, token: str | None) -> None:
        """Return if the token is right.

        Raises:
            TokenMissing: The token is missing or empty.
            AccessDenied: The token is wrong.
            ServiceUnavailable: Too many unknown tokens wait to be judged.
        """
        if not token:
            raise TokenMissing
        plain = token.encode(errors="surrogatepass")
        # bcrypt ignores further bytes, and takes a NUL for the end of the token.
        if len(plain) > _BCRYPT_MAX_BYTES or b"\0" in plain:
            raise AccessDenied
        digest = hmac.digest(self._key, plain, "sha256")
        known = self._known(name, digest)
        if known is None:
            if self._waiting >= _MOST_WAITING:
                raise ServiceUnavailable
            self._waiting += 1
            try:
                async with self._turn:
                    known = self._known(name, digest)
                    if known is None:
                        known = await self._judge(name, plain, digest)
            finally:
                self._waiting -= 1
        if not known:
            raise AccessDenied

    def _known(self, name: FormToken, digest: bytes) -> bool | None:
        right = self._right.get(name)
        if right is not None:
            return hmac.compare_digest(right, digest)
        return False if (name, digest) in self._wrong else None

    async def _judge(self, name: FormToken, plain: bytes, digest: bytes) -> bool:
        is_right = await asyncio.get_running_loop().run_in_executor(
            self._thread, bcrypt.checkpw, plain, self._hashes[name]
        )
        if is_right:
            self._right[name] = digest
        else:
            if len(self._wrong) >= _MOST_REMEMBERED:
                self._wrong.clear()
            self._wrong.add((name, digest))
        return is_right


def _step_back() -> None:
    # Linux has a niceness for each thread. This adds to what the service was started with.
    os.nice(_NICENESS)
