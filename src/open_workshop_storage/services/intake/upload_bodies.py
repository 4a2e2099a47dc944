"""The body of one request of several that bring a file: whatever ends it, what came of it counts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import Pace
from open_workshop_storage.services.intake.receive import ReceiveLimits

_NEXT_SECONDS = 0.05
_LAST_CHANCE_SECONDS = 0.3
"""How long an interrupted body may still bring bytes, each within `_NEXT_SECONDS` of the one before."""


class Ending(Enum):
    """Why a body gave no more bytes."""

    COMPLETE = auto()
    CUT = auto()
    STALLED = auto()
    TOO_SLOW = auto()
    INTERRUPTED = auto()
    TOO_LONG = auto()


# Classes: an exception that is raised again keeps the frames of each time.
_ANSWERS: Mapping[Ending | None, type[errors.StorageError]] = {
    Ending.CUT: errors.ClientGone,
    Ending.STALLED: errors.UploadStalled,
    Ending.TOO_SLOW: errors.UploadTimedOut,
    Ending.INTERRUPTED: errors.UploadTaken,
}


class UploadRequest(NamedTuple):
    """One request's part of an upload.

    Attributes:
        offset: Where in the file its bytes belong.
        announced: How many bytes it brings, if the client said it.
        length: The file's size in bytes, if this request tells it.
        checksum: The digest that its bytes must have.
        algorithm: What that is made with, by `hashlib`'s name; empty for none.
        sha256: What the whole file's SHA-256 must be, as hex digits, if this request tells it.
    """

    offset: int
    announced: int | None = None
    length: int | None = None
    checksum: bytes = b""
    algorithm: str = ""
    sha256: str | None = None

    def total_after(self, received: int, total: int | None) -> int | None:
        """Return the file's size in bytes, as far as it is known, if these bytes are those that come next.

        Args:
            received: How many came before.
            total: The file's size, as far as it was known before.

        Raises:
            BadRequest: The length is not the one that was told before, or is passed.
            OffsetDiffers: Other bytes come next.
        """
        if total is None:
            total = self.length
        elif self.length not in (None, total):
            raise errors.BadRequest("Upload length differs")
        if self.offset != received:
            raise errors.OffsetDiffers
        if total is not None and received + (self.announced or 0) > total:
            raise errors.BadRequest("More bytes than the upload has")
        return total


@contextmanager
def reading_ahead(chunks: AsyncIterator[bytes]) -> Iterator[AsyncIterator[bytes]]:
    """Have the first bytes of a body come in while the block runs; they are given up if it raises.

    Yields:
        The whole body.
    """
    first = asyncio.ensure_future(anext(chunks, None))
    # What it raises is for those who read the body.
    first.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        yield _beginning_with(first, chunks)
    except BaseException:
        first.cancel()
        raise


async def _beginning_with(first: asyncio.Future[bytes | None], chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    chunk = await first
    while chunk is not None:
        yield chunk
        chunk = await anext(chunks, None)


@dataclass(eq=False)
class UploadBody:
    """A body that ends without raising.

    Args:
        chunks: The body; it raises `ClientGone` where the client leaves.
        interrupted: Ends the body once it is done.
        limits: Its time limits.
        pace: The job's, which this body adds to.
        room: How many bytes may come; `None` for any number.
        algorithm: What the body is hashed with, by `hashlib`'s name; empty for nothing.

    Attributes:
        ending: Why the body ended, once it has.
    """

    _chunks: AsyncIterator[bytes]
    _interrupted: asyncio.Future[None]
    _limits: ReceiveLimits
    _pace: Pace
    _room: int | None
    _algorithm: str
    ending: Ending | None = field(default=None, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _last_chance: float = field(default=0.0, init=False)
    _wait: asyncio.Timeout | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._hash = hashlib.new(self._algorithm) if self._algorithm else None

    def refusal(self, checksum: bytes) -> errors.StorageError | None:
        """Return why none of the bytes counts, if that is so.

        Args:
            checksum: The digest that they must have; empty for any.
        """
        if self.ending is Ending.TOO_LONG:
            return errors.BadRequest("More bytes than the upload has")
        if self._hash and self.ending is Ending.COMPLETE and self._hash.digest() != checksum:
            return errors.ChecksumDiffers()
        return None

    def answer(self) -> errors.StorageError | None:
        """Return what the client hears of a body that ended before its last byte."""
        error = _ANSWERS.get(self.ending)
        return error() if error else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._interrupted.add_done_callback(self._hurry)
        try:
            while self.ending is None:
                chunk = await self._next()
                if chunk is None:
                    return
                if self._room is not None:
                    self._room -= len(chunk)
                    if self._room < 0:
                        self.ending = Ending.TOO_LONG
                        return
                self._limits.count_bytes(self._pace, len(chunk))
                if self._hash is not None:
                    self._hash.update(chunk)
                yield chunk
        finally:
            self._interrupted.remove_done_callback(self._hurry)

    async def _next(self) -> bytes | None:
        """Return the next chunk, or `None` with `ending` set."""
        asked = time.monotonic()
        try:
            try:
                # A task for each chunk, beside one that waits for the interruption, would cost as much as the chunk.
                async with asyncio.timeout(self._patience(asked)) as self._wait:
                    chunk = await anext(self._chunks, None)
            finally:
                self._limits.count_wait(self._pace, time.monotonic() - asked)
            self.ending = Ending.COMPLETE if chunk is None else None
            return chunk
        except errors.ClientGone:
            self.ending = Ending.CUT
        except (TimeoutError, errors.UploadTimedOut):
            if self._interrupted.done():
                self.ending = Ending.INTERRUPTED
            else:
                self.ending = Ending.TOO_SLOW if self._limits.is_too_slow(self._pace) else Ending.STALLED
        return None

    def _patience(self, asked: float) -> float | None:
        if not self._interrupted.done():
            return self._limits.patience(asked - self._began, self._pace)
        # The server may have bytes of the body that it has not handed over.
        self._last_chance = self._last_chance or asked + _LAST_CHANCE_SECONDS
        return min(_NEXT_SECONDS, self._last_chance - asked)

    def _hurry(self, interrupted: asyncio.Future[None]) -> None:
        """Shorten the wait that an interruption finds."""
        if self._wait is not None:
            with suppress(RuntimeError):  # It has just ended.
                self._wait.reschedule(asyncio.get_running_loop().time() + _NEXT_SECONDS)
