"""Gives out stored files (wire contract, section 3)."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import Message, Receive, Scope, Send

from open_workshop_storage.core.errors import FileMissing
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.access import AccessService, raw_cookies
from open_workshop_storage.services.download_plan import Piece, Plan, hand_over, plan_answer
from open_workshop_storage.services.storage import Storage, StoredFile
from open_workshop_storage.services.unpacked_sizes import UnpackedSizes
from open_workshop_storage.utils.file_blocks import read_block

_PATH_SEND = "http.response.pathsend"
_COOKIE = "cookie"
_READ_HEADERS = {
    name.encode(): name
    for name in (
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        _COOKIE,
    )
}
_CACHE_CONTROL_OF_PROTECTED = "private, no-cache"
_REMEMBERED_PLANS = 4096
# From here on our own blocks cost less than the server's, which are of 128 KiB.
_LARGE_BYTES = 16 * 1024 * 1024
# Several blocks wait in the server for each client. A client that takes them in gets larger ones, which cost less;
# thousands that do not shall not fill the memory.
_LEAST_BLOCK_BYTES = 16 * 1024
_MOST_BLOCK_BYTES = 1024 * 1024
_BLOCKS_BEFORE_LARGER = 64
_SLOW_SECONDS = 0.5


class Downloads:
    """Decides who gets which file, and sends it.

    A whole file is left to the server, which sends it by its path, or to an nginx in front of it; large ones and parts
    are read and sent here.

    Args:
        storage: Where the files are.
        access: Who may have the protected ones.
    """

    def __init__(self, storage: Storage, access: AccessService, settings: Settings) -> None:
        self._storage = storage
        self._access = access
        self._cache_control = settings.cache_control
        self._accel_redirect_prefix = settings.accel_redirect_prefix
        self._unpacked_sizes = UnpackedSizes()
        self._plan_whole = lru_cache(_REMEMBERED_PLANS)(self._make_plan_of_whole)

    async def answer(
        self, storage_type: str, path: str, filename: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a GET or HEAD request for a stored file.

        Args:
            filename: What to save the file as, without its extension.

        Raises:
            InvalidType: No such storage type.
            PathOutsideStorage: The path leaves the folder of its type.
            FileMissing: There is no such file.
            ServiceUnavailable: The storage root is missing.
            AccessDenied: The file is protected, and not for this client.
            StorageError: It is protected, and the access service gives no decision.
            OSError: As in `send_file`.
        """
        file = self._storage.find(storage_type, path)
        requested = _requested(scope)
        cookies = requested.pop(_COOKIE, "")
        if file.mod_id is not None:
            await self._access.check(file.mod_id, raw_cookies(cookies))
        await self.send_file(file, filename, requested, scope, receive, send)

    async def send_file(
        self,
        file: StoredFile,
        filename: str | None,
        requested: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer with a stored file, parts of it, or the news that the client has it already.

        Args:
            file: As it was looked up.
            filename: What to save it as, without its extension.
            requested: The request's conditional and range headers, by lower-case name.

        Raises:
            FileMissing: The file went away before the answer began.
            OSError: It cannot be read, or became shorter meanwhile; the server then breaks the connection off.
        """
        if requested or scope["method"] == "HEAD" or file.mtime_ns > time.time_ns():
            plan = self._plan(scope["method"], requested, file, filename)
        else:
            plan = self._plan_whole(file, filename)
        reads_file = bool(plan.pieces) and plan.status < HTTPStatus.BAD_REQUEST
        if reads_file and self._accel_redirect_prefix:
            uri = f"{self._accel_redirect_prefix}/{quote(os.fsencode(file.name))}"
            handed_over = hand_over(plan, requested, uri)
            if handed_over is not None:
                plan, reads_file = handed_over, False
        if not reads_file:
            if scope["method"] == "HEAD" and plan.status == HTTPStatus.OK and file.mod_id is not None:
                size = await self._unpacked_sizes.get(file)
                if size is not None:
                    plan.headers.append((b"x-unpacked-bytes", str(size).encode()))
            await _start(send, plan)
            body = b"".join(piece for piece in plan.pieces if isinstance(piece, bytes))
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        elif plan.status == HTTPStatus.OK and file.size < _LARGE_BYTES and _PATH_SEND in scope.get("extensions", ()):
            await _start(send, plan)
            await send({"type": _PATH_SEND, "path": file.path})
        else:
            await self._send_blocks(file, filename, requested, receive, send)

    def _plan(self, method: str, requested: Mapping[str, str], file: StoredFile, filename: str | None) -> Plan:
        is_public = file.mod_id is None
        cache_control = self._cache_control[file.storage_type] if is_public else _CACHE_CONTROL_OF_PROTECTED
        return plan_answer(method, requested, file, filename, cache_control)

    def _make_plan_of_whole(self, file: StoredFile, filename: str | None) -> Plan:
        return self._plan("GET", {}, file, filename)

    async def _send_blocks(
        self, file: StoredFile, filename: str | None, requested: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        try:
            descriptor = os.open(file.path, os.O_RDONLY)
        except FileNotFoundError:
            raise FileMissing from None
        try:
            # Replaced since it was looked up? Parts and validators must be those of one version.
            opened = file.now(os.fstat(descriptor))
            plan = self._plan("GET", requested, opened, filename)
            await _start(send, plan)
            await _send_pieces(descriptor, plan.pieces, receive, send)
        finally:
            os.close(descriptor)


def _requested(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = _READ_HEADERS.get(raw_name)
        if name is not None:
            value = raw_value.decode("latin-1")
            separator = "; " if name == _COOKIE else ", "
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    return headers


async def _start(send: Send, plan: Plan) -> None:
    await send({"type": "http.response.start", "status": int(plan.status), "headers": plan.headers})


async def _send_pieces(descriptor: int, pieces: Iterable[Piece], receive: Receive, send: Send) -> None:
    gone = asyncio.create_task(_disconnection(receive))
    taken_at_once = 0
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                await send(_body(piece))
                continue
            offset = piece.start
            while offset < piece.stop:
                length = max(_LEAST_BLOCK_BYTES, min(taken_at_once // _BLOCKS_BEFORE_LARGER, _MOST_BLOCK_BYTES))
                block = await read_block(descriptor, offset, min(length, piece.stop - offset))
                if not block:
                    raise OSError(errno.EIO, "the file became shorter while it was sent")
                began = time.monotonic()
                await send(_body(block))
                offset += len(block)
                taken_at_once = taken_at_once + len(block) if time.monotonic() - began < _SLOW_SECONDS else 0
                # When the client has left, granian's `send` returns at once and for ever: without a pause
                # nobody else would run, nor would the news of it arrive.
                await asyncio.sleep(0)
                if gone.done():
                    return
        await send({"type": "http.response.body"})
    finally:
        gone.cancel()
        await asyncio.wait([gone])


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(content: bytes | bytearray) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
