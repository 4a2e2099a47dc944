"""The body of one request of several that bring a file: whatever ends it, what came of it counts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from enum import Enum, auto
from typing import NamedTuple

from open_workshop_storage.core.errors import (
    BadRequest,
    ChecksumDiffers,
    ClientGone,
    StorageError,
    UploadStalled,
    UploadTaken,
    UploadTimedOut,
)
from open_workshop_storage.services.intake.receive import ReceiveLimits

_NEXT_SECONDS = 0.03
_LAST_CHANCE_SECONDS = 0.3
"""How long an interrupted body may still bring bytes, each within `_NEXT_SECONDS` of the one before."""


class Ending(Enum):
    """Why a body gave no more bytes."""

    COMPLETE = auto()
    CUT = auto()
    SLOW = auto()
    INTERRUPTED = auto()
    TOO_LONG = auto()


# Classes: an exception that is raised again keeps the frames of each time.
_ANSWERS: Mapping[Ending | None, type[StorageError]] = {
    Ending.CUT: ClientGone,
    Ending.SLOW: UploadStalled,
    Ending.INTERRUPTED: UploadTaken,
}


class UploadRequest(NamedTuple):
    """One request's part of an upload.

    Attributes:
        offset: Where in the file its bytes belong.
        announced: How many bytes it brings, if the client said it.
        length: The file's size in bytes, if this request tells it.
        checksum: The digest that its bytes must have.
        algorithm: What that is made with, by `hashlib`'s name; empty for none.
    """

    offset: int
    announced: int | None = None
    length: int | None = None
    checksum: bytes = b""
    algorithm: str = ""


class Piece:
    """A body that ends without raising.

    Args:
        chunks: The body; it raises `ClientGone` where the client leaves.
        interrupted: Ends the body when set.
        limits: Its time limits.
        room: How many bytes may come; `None` for any number.
        algorithm: What the body is hashed with, by `hashlib`'s name; empty for nothing.

    Attributes:
        ending: Why the body ended, once it has.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        interrupted: asyncio.Event,
        limits: ReceiveLimits,
        room: int | None,
        algorithm: str,
    ) -> None:
        self.ending: Ending | None = None
        self._chunks = chunks
        self._interrupted = interrupted
        self._limits = limits
        self._began = time.monotonic()
        self._waited = 0.0
        self._received = 0
        self._last_chance = 0.0
        self._room = room
        self._hash = hashlib.new(algorithm) if algorithm else None

    def refusal(self, checksum: bytes) -> StorageError | None:
        """Return why none of the bytes counts, if that is so.

        Args:
            checksum: The digest that they must have; empty for any.
        """
        if self.ending is Ending.TOO_LONG:
            return BadRequest("More bytes than the upload has")
        if self._hash and self.ending is Ending.COMPLETE and self._hash.digest() != checksum:
            return ChecksumDiffers()
        return None

    def answer(self) -> StorageError | None:
        """Return what the client hears of a body that ended before its last byte."""
        error = _ANSWERS.get(self.ending)
        return error() if error else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        interruption = asyncio.create_task(self._interrupted.wait())
        try:
            while self.ending is None:
                chunk = await self._next(interruption)
                if chunk is None:
                    return
                if self._room is not None:
                    self._room -= len(chunk)
                    if self._room < 0:
                        self.ending = Ending.TOO_LONG
                        return
                self._received += len(chunk)
                if self._hash is not None:
                    self._hash.update(chunk)
                yield chunk
        finally:
            interruption.cancel()

    async def _next(self, interruption: asyncio.Task[bool]) -> bytes | None:
        """Return the next chunk, or `None` with `ending` set."""
        asked = time.monotonic()
        if 0 < self._last_chance < asked:
            self.ending = Ending.INTERRUPTED
            return None
        reading = asyncio.ensure_future(anext(self._chunks, None))
        try:
            if not interruption.done():
                await asyncio.wait(
                    (reading, interruption),
                    timeout=self._limits.patience(asked - self._began, self._waited, self._received),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if interruption.done() and not reading.done():
                # The server may have bytes of the body that it has not handed over.
                self._last_chance = self._last_chance or asked + _LAST_CHANCE_SECONDS
                await asyncio.wait((reading,), timeout=min(_NEXT_SECONDS, max(0.0, self._last_chance - asked)))
            if reading.done():
                chunk = reading.result()
                self.ending = Ending.COMPLETE if chunk is None else None
                return chunk
            self.ending = Ending.INTERRUPTED if interruption.done() else Ending.SLOW
        except ClientGone:
            self.ending = Ending.CUT
        except UploadTimedOut:
            self.ending = Ending.SLOW
        finally:
            self._waited += time.monotonic() - asked
            if not reading.done():
                reading.cancel()
                await asyncio.wait((reading,))
        return None
