"""Reads objects of an S3-compatible store in blocks, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from open_workshop_storage.core.errors import StorageError
from open_workshop_storage.services.storage.bucket import Bucket, stored_object
from open_workshop_storage.services.storage.bucket_requests import Replaced, StoredObject
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, StoredFile

if TYPE_CHECKING:
    from obstore import BytesStream, GetResult

BLOCK_BYTES = 1024 * 1024
"""The most that one read returns. Each piece is handed over between threads, so large ones cost less per byte."""

# How much obstore's HTTP client takes from a connection at once, by which a piece may be longer than was asked for.
_TAKEN_AT_ONCE = 408 * 1024


class OpenedObject:
    """One version of an object, being read; an implementation of `OpenedFile`.

    The store is asked for a part once, and sends it as it is read, in pieces about as large as the blocks that are read
    first. While one of them is handed out, the next one comes in.

    Args:
        stored: Returns the file that an object is.
        file: As it was looked up; None to read whichever version there is, from its beginning.
        part: What will be read of it first; None for all of it.
    """

    file: StoredFile

    def __init__(
        self,
        bucket: Bucket,
        name: str,
        stored: Callable[[StoredObject], StoredFile],
        file: StoredFile | None = None,
        part: range | None = None,
    ) -> None:
        self._bucket = bucket
        self._name = name
        self._stored = stored
        self._wanted = file
        self._part = part
        self._result: GetResult
        self._stream: BytesStream | None = None
        self._next: asyncio.Future[bytes] | None = None
        self._piece = b""
        self._taken = 0
        self._offset = 0
        self._stop = 0

    async def __aenter__(self) -> OpenedObject:
        if self._wanted is not None:
            self.file = self._wanted
            whole = range(self.file.size)
            with suppress(Replaced):
                await self._begin(whole if self._part is None else whole[self._part.start : self._part.stop])
                return self
        result = await self._bucket.get(self._name)
        self.file = self._stored(stored_object(self._name, result))
        self._follow(result, range(self.file.size))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def read(self, offset: int, length: int) -> bytes:
        """Return what has come in, and otherwise wait for it; raises as `OpenedFile.read`."""
        try:
            # What was asked for first need not be all that is read.
            if offset != self._offset or self._offset == self._stop < self.file.size:
                await self._begin(range(self.file.size)[offset:])
            if self._taken == len(self._piece) and self._offset < self._stop:
                next_piece = self._next or self._ask(length)
                self._piece, self._taken = await next_piece, 0
                self._next = None
        except (StorageError, Replaced, BaseError, StopAsyncIteration) as error:
            raise OSError(f"{self._name} cannot be read on: {type(error).__name__}") from error
        # A slice that is all of a piece is no copy.
        block = self._piece[self._taken : self._taken + min(length, BLOCK_BYTES)]
        self._taken += len(block)
        self._offset += len(block)
        # Small blocks are for slow clients: what is read ahead of them lies in memory.
        if self._taken == len(self._piece) and self._offset < self._stop and length >= MOST_READ_BYTES:
            self._ask(length)
        return block

    def _ask(self, length: int) -> asyncio.Future[bytes]:
        if self._stream is None:
            # A piece that is no longer than a block need not be cut: that would be a copy more.
            self._stream = self._result.stream(min_chunk_size=max(length - _TAKEN_AT_ONCE, MOST_READ_BYTES))
        self._next = asyncio.ensure_future(anext(self._stream))
        return self._next

    async def _begin(self, part: range) -> None:
        await self._end()
        result = await self._bucket.get(self._name, f'"{self.file.version[0]}"', part) if part else None
        self._follow(result, part)

    def _follow(self, result: GetResult | None, part: range) -> None:
        self._offset, self._stop = part.start, part.stop
        self._piece, self._taken = b"", 0
        self._stream = None
        if result is not None:
            self._result = result

    async def _end(self) -> None:
        if self._next is not None:
            self._next.cancel()
            with suppress(asyncio.CancelledError, BaseError, StopAsyncIteration):
                await self._next
            self._next = None
