"""Judges the plain tokens of the Manager's form calls (docs/API.md, "Form tokens")."""

from __future__ import annotations

import asyncio
import hmac
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum

import bcrypt
from cachetools import LRUCache

from open_workshop_storage.core.errors import AccessDenied, TokenMissing, TooManyTokens
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.utils.auth.random_tokens import is_hash_of_random_token, is_random_token

_BCRYPT_MAX_BYTES = 72
_DIGEST = "sha256"
_FEWEST_WAITING = 4
# 2 ** 11 steps of bcrypt take some 150 ms.
_COST_OF_ALL_WAITING = 11
# At 1,000 wrong tokens a second, a token is remembered for 16 seconds. Both memories take 6 MB.
_MOST_REMEMBERED = 16_384
# Below this, a check takes less CPU time than the request that it belongs to, or little more.
_NOTICEABLE_COST = 6
# Under full load, this leaves the thread a quarter of the CPU time of others.
_NICENESS = 5


class FormToken(StrEnum):
    """The tokens, by the name of the setting that holds the hash."""

    UPLOAD_FILE = "upload_file"
    DELETE_FILE = "delete_file"
    STORAGE_MANAGE = "storage_manage_token"


class FormTokens:
    """Compares tokens with their bcrypt hashes, each token once.

    By a hash of `token_gen.py`, which is one of a random token, wrong tokens are known at once. Other hashes tell
    nothing until bcrypt has compared: the right token is then remembered as a digest keyed with the JWT secret, in
    memory and in a file of the storage root, so that all workers know it, also after a restart. From then on every
    other token is refused without bcrypt. Until then, wrong tokens are remembered in the same way, and others wait for
    one of two threads: one for tokens that come for the first time, one for those that were turned away before.
    Invented tokens come once; the Manager's comes again. A hash of low cost is compared as fast as requests come; for
    one that takes longer, few tokens may wait, and the threads have a low priority.
    """

    def __init__(self, settings: Settings) -> None:
        self._hashes = {name: getattr(settings, name).encode() for name in FormToken}
        secret = settings.transfer_jwt_secret.encode()
        self._keys = {
            name: hmac.digest(secret, name.encode() + hashed, _DIGEST) for name, hashed in self._hashes.items()
        }
        self._files = {name: settings.main_dir / f".form-token-{name.replace('_', '-')}" for name in FormToken}
        self._right: dict[FormToken, bytes] = {}
        self._wrong: LRUCache[bytes, None] = LRUCache(_MOST_REMEMBERED)
        self._turned_away: LRUCache[bytes, None] = LRUCache(_MOST_REMEMBERED)
        cost = max(int(hashed.split(b"$")[2]) for hashed in self._hashes.values())
        self._most_waiting = max(_FEWEST_WAITING, 2 ** (_COST_OF_ALL_WAITING - cost))
        niceness = 0 if cost < _NOTICEABLE_COST else _NICENESS
        self._first_time = _Queue(niceness)
        self._again = _Queue(niceness)

    async def check(self, name: FormToken, token: str | None) -> None:
        """Return if the token is right.

        Raises:
            TokenMissing: The token is missing or empty.
            AccessDenied: The token is wrong.
            TooManyTokens: Too many unknown tokens wait to be judged.
        """
        if not token:
            raise TokenMissing
        plain = token.encode(errors="surrogatepass")
        # bcrypt ignores further bytes, and takes a NUL for the end of the token.
        if len(plain) > _BCRYPT_MAX_BYTES or b"\0" in plain:
            raise AccessDenied
        digest = hmac.digest(self._keys[name], plain, _DIGEST)
        known = self._known(name, plain, digest)
        if not (await self._judged(name, plain, digest) if known is None else known):
            raise AccessDenied

    def _known(self, name: FormToken, plain: bytes, digest: bytes) -> bool | None:
        right = self._right.get(name)
        if right is not None:
            return hmac.compare_digest(right, digest)
        if not is_hash_of_random_token(self._hashes[name]):
            return False if digest in self._wrong else None
        is_right = is_random_token(plain, self._hashes[name])
        if is_right:
            self._right[name] = digest
        return is_right

    async def _judged(self, name: FormToken, plain: bytes, digest: bytes) -> bool:
        queue = self._again if digest in self._turned_away else self._first_time
        judging = queue.judging.get(digest)
        if judging is None:
            if len(queue.judging) >= self._most_waiting:
                self._turned_away[digest] = None
                raise TooManyTokens
            loop = asyncio.get_running_loop()
            judging = loop.run_in_executor(queue.thread, self._judge, name, plain, digest)
            queue.judging[digest] = judging
            judging.add_done_callback(lambda judged: queue.judging.pop(digest))
        is_right = await asyncio.shield(judging)
        if not is_right:
            self._wrong[digest] = None
        return is_right

    def _judge(self, name: FormToken, plain: bytes, digest: bytes) -> bool:
        right = self._right.get(name) or self._stored(name)
        if right is not None:
            self._right[name] = right
            return hmac.compare_digest(right, digest)
        if not bcrypt.checkpw(plain, self._hashes[name]):
            return False
        self._right[name] = digest
        self._store(name, digest)
        return True

    def _stored(self, name: FormToken) -> bytes | None:
        try:
            stored = self._files[name].read_bytes()
        except OSError:
            return None
        key_name, digest = stored[: len(self._key_name(name))], stored[len(self._key_name(name)) :]
        is_ours = hmac.compare_digest(key_name, self._key_name(name)) and len(digest) == len(key_name)
        return digest if is_ours else None

    def _store(self, name: FormToken, digest: bytes) -> None:
        partial_file = self._files[name].with_suffix(f".{os.getpid()}")
        # Without the file, the token is judged by bcrypt again after the next start.
        with suppress(OSError):
            partial_file.write_bytes(self._key_name(name) + digest)
            partial_file.replace(self._files[name])

    def _key_name(self, name: FormToken) -> bytes:
        # Another hash in the settings, or another secret, makes what is stored worthless.
        return hmac.digest(self._keys[name], b"", _DIGEST)


class _Queue:
    """Tokens that wait for one thread.

    Args:
        niceness: How far the thread stands back behind others, on top of how the service was started.
    """

    def __init__(self, niceness: int) -> None:
        # Linux has a niceness for each thread.
        self.thread = ThreadPoolExecutor(1, "form-tokens", os.nice, (niceness,))
        self.judging: dict[bytes, asyncio.Future[bool]] = {}
