"""Permanent files in a bucket of an S3-compatible store."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cachetools import LRUCache
from obstore.exceptions import BaseError

from open_workshop_storage.core import errors
from open_workshop_storage.services.storage.bucket import Bucket, stored_object
from open_workshop_storage.services.storage.bucket_requests import Replaced, StoredObject
from open_workshop_storage.services.storage.files import (
    MOST_READ_BYTES,
    TEMP,
    Address,
    Complaint,
    Facts,
    StorageType,
    StoredFile,
    known_type,
    protecting_mod,
)
from open_workshop_storage.utils.files.paths import PathEscapes, PathUnusable, normal_name
from open_workshop_storage.utils.processes.task_groups import work_on_each

if TYPE_CHECKING:
    from obstore import BytesStream, GetResult

_MOST_KEY_BYTES = 1024
_REMEMBERED_FACTS = 10_000
_LOOKED_UP_AT_ONCE = 32
# How much obstore's HTTP client takes from a connection at once, by which a piece may be longer than was asked for.
_TAKEN_AT_ONCE = 408 * 1024
_ADVICE = "the key needs the rights to list the bucket, and to read, write and delete its objects"


class ObjectFiles:
    """The files of a bucket; an implementation of `Files`, which documents the methods.

    A file is the object of its name. There are no folders, and no links.
    """

    # Each piece is handed over between threads, so large ones cost less per byte.
    block_bytes = 1024 * 1024
    fetches_on_opening = True

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._facts: LRUCache[bytes, Facts | None] = LRUCache(_REMEMBERED_FACTS)

    async def resolve(self, storage_type: str, path: str) -> str:
        """Return the name that a type and a path stand for, judged as text; raises as `Files.resolve`."""
        return self._name(storage_type, path)

    async def find(self, storage_type: str, path: str) -> StoredFile:
        return self._looked_up(await self._bucket.find(self._name_of_file(storage_type, path)))

    async def find_all(self, addresses: Collection[Address]) -> dict[Address, StoredFile]:
        if not await self._bucket.is_available():
            raise errors.ServiceUnavailable
        found = await work_on_each(self._found, addresses, _LOOKED_UP_AT_ONCE)
        return {address: file for address, file in zip(addresses, found) if file is not None}

    def open(self, file: StoredFile | Address, part: range | None = None) -> OpenedObject:
        """Begin to read an object, and end it after the block; raises as `Files.open`."""
        if isinstance(file, StoredFile):
            return OpenedObject(self._bucket, file.name, self._looked_up, file, part)
        return OpenedObject(self._bucket, self._name_of_file(*file), self._looked_up)

    def reopen(self, file: StoredFile) -> None:
        """Return None: only the store knows whether an object has changed."""

    def local_copy(self, file: StoredFile, *, ends_only: bool = False) -> AbstractAsyncContextManager[Path]:
        """Copy an object, or its ends, to a temporary file of this host."""
        return self._bucket.fetched(file.name, ends_only=ends_only)

    async def facts(self, file: StoredFile, *, even_if_edited: bool = False) -> Facts | None:
        """Return what was kept with an object when this version was looked up last; none is edited in its place."""
        if file.key not in self._facts:
            with suppress(errors.FileMissing):
                self._looked_up(await self._bucket.find(file.name))
        return self._facts.get(file.key)

    async def keep(self, file: StoredFile, facts: Facts) -> bool:
        """Have the store copy an object onto itself, with other facts; raises as `Files.keep`."""
        found = await self._bucket.find(file.name)
        if self._file_of(found).version == file.version:
            with suppress(Replaced):
                await self._bucket.copy(found, found.name, facts)
                return True
        return False

    async def every_file(self) -> AsyncIterator[StoredFile]:
        """List the objects of all types; raises as `Files.every_file`."""
        for storage_type in StorageType:
            async for found in self._bucket.list(storage_type):
                try:
                    file = self._file_of(found)
                    if self._name(storage_type, file.name.partition("/")[2]) == file.name:
                        yield file
                except errors.StorageError:
                    # Put there by another program, under a name that cannot be asked for.
                    continue

    async def size_and_facts(self, name: str) -> tuple[int, Facts | None]:
        found = await self._bucket.find(name)
        return found.size, found.facts

    async def put(self, source: Path, name: str, facts: Facts | None = None) -> int:
        """Write a file to an object, in parts if it is large; raises as `Files.put`."""
        size = await self._bucket.put(source, name, facts)
        await asyncio.to_thread(source.unlink)
        return size

    async def delete(self, name: str) -> None:
        await self._bucket.find(name)
        await self._bucket.delete(name)

    async def is_available(self, *, for_writing: bool) -> bool:
        """Return whether the store answers and has the bucket; whether it can be written, only a write tells."""
        return await self._bucket.is_available()

    async def complaints(self) -> list[Complaint]:
        """Write an object, copy it, and remove both; return what does not work."""
        if not await self._bucket.is_available():
            text = "does not answer, or has no such bucket for this key; see S3_ENDPOINT_URL and S3_BUCKET"
            return [Complaint(True, text)]
        # Laid out as a job's files are, so that cleanup finds what is left where this is broken off.
        name = f"{TEMP}/doctor-{secrets.token_hex(16)}/object"
        step = "written"
        try:
            with await asyncio.to_thread(tempfile.NamedTemporaryFile) as file:
                await self._bucket.put(Path(file.name), name, None)
            step = "read"
            found = await self._bucket.find(name)
            step = "copied"
            await self._bucket.copy(found, f"{name}-copy", None)
            step = "deleted"
            await self._bucket.delete(name, f"{name}-copy")
            step = "listed"
            is_left = name in [left.name.removesuffix("-copy") async for left in self._bucket.list(TEMP)]
        except errors.StorageError:
            return [Complaint(True, f"an object cannot be {step}; {_ADVICE}")]
        return [Complaint(True, f"a deleted object is still there; {_ADVICE}")] if is_left else []

    async def remove_leftovers(self, older_than_seconds: float) -> None:
        """End uploads in parts that a dead process left incomplete."""
        before = datetime.now(timezone.utc) - timedelta(seconds=older_than_seconds)
        for folder in (TEMP, *StorageType):
            # Other programs may keep theirs beside these.
            await self._bucket.abort_uploads(folder, before)

    def _name(self, storage_type: str, path: str) -> str:
        of_type = known_type(storage_type)
        try:
            name = f"{of_type}/{normal_name(path)}"
        except PathEscapes:
            raise errors.PathOutsideStorage from None
        except PathUnusable:
            raise errors.BadRequest("Invalid path") from None
        if len((self._bucket.prefix + name).encode()) > _MOST_KEY_BYTES:
            raise errors.BadRequest("Invalid path")
        return name

    def _name_of_file(self, storage_type: str, path: str) -> str:
        try:
            return self._name(storage_type, path)
        except errors.BadRequest:
            raise errors.FileMissing from None

    async def _found(self, address: Address) -> StoredFile | None:
        try:
            return await self.find(*address)
        except (errors.InvalidType, errors.PathOutsideStorage, errors.FileMissing):
            return None

    def _looked_up(self, found: StoredObject) -> StoredFile:
        """Return the file that an object is, and remember its facts, with which it was looked up."""
        file = self._file_of(found)
        self._facts[file.key] = found.facts
        return file

    def _file_of(self, found: StoredObject) -> StoredFile:
        name = found.name
        modified_ns = int(found.modified.timestamp()) * 10**9
        storage_type = StorageType(name.partition("/")[0])
        # So the entity tag is the same whether the file comes from here or from the store itself.
        return StoredFile(
            name, storage_type, found.size, modified_ns, (found.etag.strip('"'),), protecting_mod(name), modified_ns
        )


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

    async def __aexit__(self, *error: object) -> None:
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
        except (errors.StorageError, Replaced, BaseError, StopAsyncIteration) as error:
            raise OSError(f"{self._name} cannot be read on: {type(error).__name__}") from error
        # A slice that is all of a piece is no copy.
        block = self._piece[self._taken : self._taken + min(length, ObjectFiles.block_bytes)]
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
