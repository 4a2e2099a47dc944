"""Gives out stored files (wire contract, section 3)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from open_workshop_storage.core.errors import FileMissing
from open_workshop_storage.services.access import AccessService
from open_workshop_storage.services.download_plan import Piece, Plan, plan_answer
from open_workshop_storage.services.storage import Storage, StoredFile
from open_workshop_storage.services.unpacked_sizes import UnpackedSizes
from open_workshop_storage.utils.file_blocks import BLOCK_BYTES, read_block

_PATH_SEND = "http.response.pathsend"
_PLANNED_BY = frozenset(
    {b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"}
)


class Downloads:
    """Decides who gets which file.

    Args:
        storage: Where the files are.
        access: Who may have the protected ones.
    """

    def __init__(self, storage: Storage, access: AccessService) -> None:
        self._storage = storage
        self._access = access
        self._unpacked_sizes = UnpackedSizes()

    async def answer(
        self, storage_type: str, path: str, filename: str | None, cookies: Mapping[str, str]
    ) -> FileAnswer:
        """Return the answer to a request for a stored file.

        Args:
            filename: What to save the file as, without its extension.
            cookies: The client's own, raw.

        Raises:
            InvalidType: No such storage type.
            PathOutsideStorage: The path leaves the folder of its type.
            FileMissing: There is no such file.
            ServiceUnavailable: The storage root is missing.
            AccessDenied: The file is protected, and not for this client.
            StorageError: It is protected, and the access service gives no decision.
        """
        file = self._storage.find(storage_type, path)
        if file.mod_id is not None:
            await self._access.check(file.mod_id, cookies)
        return FileAnswer(file, filename, self._unpacked_sizes)


class FileAnswer(Response):
    """One answer with a stored file, parts of it, or the news that the client has it already.

    A whole file is left to the server, which sends it by its path; parts are read and sent here.

    Args:
        file: The file as it was looked up.
        filename: What to save it as, without its extension.
        unpacked_sizes: Shared by all answers.
    """

    def __init__(self, file: StoredFile, filename: str | None, unpacked_sizes: UnpackedSizes) -> None:
        super().__init__()
        self._file = file
        self._filename = filename
        self._unpacked_sizes = unpacked_sizes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD request.

        Raises:
            FileMissing: The file went away before the answer began.
            OSError: It cannot be read, or became shorter meanwhile; the server then breaks the connection off.
        """
        method, requested = scope["method"], _planning_headers(scope)
        plan = plan_answer(method, requested, self._file, self._filename)
        reads_file = any(isinstance(piece, range) for piece in plan.pieces)
        if reads_file and plan.status == HTTPStatus.OK and _PATH_SEND in scope.get("extensions", ()):
            await _start(send, plan)
            await send({"type": _PATH_SEND, "path": str(self._file.path)})
        elif reads_file:
            await self._send_parts(requested, receive, send)
        else:
            if method == "HEAD" and plan.status == HTTPStatus.OK and self._file.mod_id is not None:
                size = await self._unpacked_sizes.get(self._file)
                if size is not None:
                    plan.headers["X-Unpacked-Bytes"] = str(size)
            await _start(send, plan)
            body = b"" if method == "HEAD" else b"".join(piece for piece in plan.pieces if isinstance(piece, bytes))
            await send({"type": "http.response.body", "body": body})

    async def _send_parts(self, requested: Mapping[str, str], receive: Receive, send: Send) -> None:
        try:
            descriptor = os.open(self._file.path, os.O_RDONLY)
        except FileNotFoundError:
            raise FileMissing from None
        try:
            # Replaced since it was looked up? Parts and validators must be those of one version.
            opened = self._file.now(os.fstat(descriptor))
            plan = plan_answer("GET", requested, opened, self._filename)
            await _start(send, plan)
            await _send_pieces(descriptor, plan.pieces, receive, send)
        finally:
            os.close(descriptor)


def _planning_headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        if raw_name in _PLANNED_BY:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _start(send: Send, plan: Plan) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in plan.headers.items()]
    await send({"type": "http.response.start", "status": int(plan.status), "headers": headers})


async def _send_pieces(descriptor: int, pieces: Iterable[Piece], receive: Receive, send: Send) -> None:
    gone = asyncio.create_task(_disconnection(receive))
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                await send(_body(piece))
                continue
            offset = piece.start
            while offset < piece.stop:
                block = await read_block(descriptor, offset, min(BLOCK_BYTES, piece.stop - offset))
                if not block:
                    raise OSError(errno.EIO, "the file became shorter while it was sent")
                await send(_body(block))
                offset += len(block)
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
