"""Reads objects of an S3-compatible store in blocks, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Replaced
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, StoredFile

if TYPE_CHECKING:
    from obstore import BytesStream

_ATTEMPTS = 5


class OpenedObject:
    """One version of an object, being read; an implementation of `OpenedFile`.

    The store is asked for a part once, and sends it as it is read. While one piece of it is handed out, the next one
    comes in.

    Args:
        part: What will be read first; None for all of it.
        find: Looks up what has replaced it.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        file: StoredFile,
        part: range | None,
        find: Callable[[str], Awaitable[StoredFile]],
    ) -> None:
        self.file = file
        self._bucket = bucket
        self._key = key
        self._part = part
        self._find = find
        self._stream: BytesStream
        self._next: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._piece = memoryview(b"")
        self._offset = 0
        self._stop = 0

    async def __aenter__(self) -> OpenedObject:
        for _ in range(_ATTEMPTS):
            try:
                whole = range(self.file.size)
                await self._begin(whole if self._part is None else whole[self._part.start : self._part.stop])
                return self
            except Replaced:
                self.file = await self._find(self.file.name)
        raise ServiceUnavailable

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
            if not self._piece and self._offset < self._stop:
                self._piece = memoryview(await self._next)
        except (StorageError, Replaced, BaseError, StopAsyncIteration) as error:
            raise OSError(f"{self._key} cannot be read on: {type(error).__name__}") from error
        block = bytes(self._piece[: min(length, MOST_READ_BYTES)])
        self._piece = self._piece[len(block) :]
        self._offset += len(block)
        if not self._piece and self._offset < self._stop:
            self._next = asyncio.ensure_future(anext(self._stream))
        return block

    async def _begin(self, part: range) -> None:
        await self._end()
        self._offset, self._stop = part.start, part.stop
        self._piece = memoryview(b"")
        if part:
            result = await self._bucket.get(self._key, f'"{self.file.version[0]}"', part)
            self._stream = result.stream(min_chunk_size=MOST_READ_BYTES)
            self._next = asyncio.ensure_future(anext(self._stream))

    async def _end(self) -> None:
        self._next.cancel()
        with suppress(asyncio.CancelledError, BaseError, StopAsyncIteration):
            await self._next
