"""Limits on incoming bodies, and how they become files (docs/API.md, "POST `/transfer/upload`")."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from open_workshop_storage.core.changes import Pace
from open_workshop_storage.core.claims import TransferClaims, TransferKind
from open_workshop_storage.core.errors import ClientGone, DownloadTimedOut, FileTooLarge, StorageError, UploadTimedOut
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.storage.disk import full_disk_is_no_space, require_space
from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.processes.threads import StepThread, finished

# Smaller writes spend more on switching threads; larger ones hold more memory and are no faster.
BLOCK_BYTES = 512 * 1024
"""A smaller body is written at its end, in one piece."""
_MOST_CHUNKS = os.sysconf("SC_IOV_MAX")
_FIRST_SECONDS = 60.0
"""How long the senders of a job's bodies may be slower than their minimum rate, in all."""
_MOST_EARNED_SECONDS = 600.0
"""How much longer the senders may be waited for, in all, because of what they have sent."""
_SILENT_SHARE = 0.25
"""How much of a wait that is cut off as idle counts towards the first minute: mostly, the network failed."""


@dataclass(frozen=True)
class ReceiveLimits:
    """Limits on one body.

    Attributes:
        max_bytes: Size limit in bytes; 0 for none.
        total_seconds: Time limit for the whole body; 0 for none.
        idle_seconds: Time limit for each wait without a byte; 0 for none.
        min_bytes_per_second: Average rate that the senders of a job must keep after their first minute; 0 for any.
        reserve_bytes: Disk space to leave free.
        timed_out: The error that a passed time limit raises.
    """

    max_bytes: int
    total_seconds: float
    idle_seconds: float
    min_bytes_per_second: int
    reserve_bytes: int
    timed_out: type[StorageError]

    def exceeded_by(self, size: int | None) -> bool:
        """Return whether a body of so many bytes is too large; one of unknown size, `None`, is not known to be."""
        return size is not None and 0 < self.max_bytes < size

    def is_too_slow(self, pace: Pace) -> bool:
        """Return whether the senders of a job have kept too low an average rate for too long."""
        return self._seconds_left(pace) <= 0

    def count_wait(self, pace: Pace, seconds: float) -> None:
        """Add a wait for the sender's next byte to the pace of its job."""
        if 0 < self.idle_seconds <= seconds:
            # What it does not cost of the first minute it costs of what the job has sent.
            forgiven = seconds * (1 - _SILENT_SHARE)
            pace.sent_bytes = max(0, pace.sent_bytes - round(forgiven * self.min_bytes_per_second))
            seconds -= forgiven
        pace.waited_seconds += seconds

    def count_bytes(self, pace: Pace, size: int) -> None:
        """Add the bytes that a wait brought to the pace of their job."""
        most = round((pace.waited_seconds + _MOST_EARNED_SECONDS) * self.min_bytes_per_second)
        pace.sent_bytes = min(pace.sent_bytes + size, most)

    def _seconds_left(self, pace: Pace) -> float:
        if not self.min_bytes_per_second:
            return math.inf
        return max(_FIRST_SECONDS, pace.sent_bytes / self.min_bytes_per_second) - pace.waited_seconds

    def patience(self, elapsed: float, pace: Pace) -> float | None:
        """Return how many seconds the sender may take for its next byte; `None` for any time.

        Args:
            elapsed: Seconds since the body began.
            pace: What the job's senders have sent, and how long they, and not our disk, were waited for.

        Raises:
            StorageError: `timed_out`, if it is too late already.
        """
        # A wait counts when it has ended, since one that is cut off as idle counts less.
        left = self._seconds_left(pace)
        seconds = self.idle_seconds if 0 < self.idle_seconds and left > 0 else left
        if self.total_seconds:
            seconds = min(seconds, self.total_seconds - elapsed)
        if seconds <= 0:
            raise self.timed_out
        return None if seconds == math.inf else seconds


def upload_limits(settings: Settings, max_bytes: int) -> ReceiveLimits:
    """Return the limits on a body that a client sends."""
    return ReceiveLimits(
        max_bytes=max_bytes,
        total_seconds=settings.transfer_upload_timeout_seconds,
        idle_seconds=settings.transfer_idle_timeout_seconds,
        min_bytes_per_second=settings.transfer_min_bytes_per_second,
        reserve_bytes=settings.storage_reserve_bytes,
        timed_out=UploadTimedOut,
    )


def transfer_limits(settings: Settings, claims: TransferClaims) -> ReceiveLimits:
    """Return the limits on the body of a transfer; a fetch as a whole has a time limit of its own."""
    is_image = claims.transfer_kind is TransferKind.IMAGE
    most = settings.transfer_max_image_bytes if is_image else settings.transfer_max_bytes
    limits = upload_limits(settings, most if claims.max_bytes is None else claims.max_bytes)
    return replace(limits, total_seconds=0, timed_out=DownloadTimedOut) if claims.download_url else limits


async def receive(
    chunks: AsyncIterator[bytes],
    target: Path,
    limits: ReceiveLimits,
    expected: int | None,
    on_bytes: Callable[[int], None],
    offset: int = 0,
    on_start: Callable[[bytes], None] = lambda block: None,
    *,
    durably: bool = False,
    digest: FileDigest | None = None,
    pace: Pace | None = None,
) -> tuple[int, bool]:
    """Write a body to a file.

    A thread writes half a MiB of chunks while the next ones come in. A slow disk therefore slows the sender and
    not the event loop, and a body of any size takes about a MiB of memory.

    Args:
        expected: The announced size in bytes, refused at once if it is too large.
        on_bytes: Called with the bytes received so far, after each chunk.
        offset: Bytes of the file that an earlier call wrote, and that this body continues.
        on_start: Called with the file's first block before it is written, unless the body ends within it; may raise.
        durably: Whether the file is to be on the disk at the end, of which most is then written before.
        digest: Gets the file's bytes as they are written.
        pace: The job's, which this body adds to; `None` for a body of its own.

    Returns:
        The file's size in bytes, and whether it has been synced to the disk.

    Raises:
        FileTooLarge: More than `max_bytes` came or were announced.
        ClientGone: Fewer bytes came than were announced.
        NoSpace: The disk is full, or would be down to its reserve.
        StorageError: `limits.timed_out`, when a time limit has passed.
    """
    if limits.exceeded_by(expected):
        raise FileTooLarge
    writer = _Writer(target, offset, limits.reserve_bytes, on_start, durably, digest)
    received = offset
    pace = pace or Pace()
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        with full_disk_is_no_space():
            # What is written in one piece is judged by what it leaves.
            if expected is not None and expected - offset >= BLOCK_BYTES:
                await writer.require_space(expected - offset)
            while True:
                asked = clock()
                try:
                    async with asyncio.timeout(limits.patience(asked - began, pace)):
                        chunk = await anext(chunks, None)
                finally:
                    limits.count_wait(pace, clock() - asked)
                if chunk is None:
                    break
                received += len(chunk)
                limits.count_bytes(pace, len(chunk))
                if limits.exceeded_by(received):
                    raise FileTooLarge
                await writer.add(chunk)
                on_bytes(received)
            if expected is not None and received < expected:
                raise ClientGone
            await writer.finish()
    except TimeoutError:
        raise limits.timed_out from None
    finally:
        await writer.close()
    return received, writer.is_on_disk


@dataclass(eq=False)
class _Writer:
    """Writes a file in a thread of its own, one step after the other, also when a waiting caller is cancelled.

    A slow or blocked disk therefore occupies no thread of a shared pool. There is no file before the first block is
    complete, and no thread while the sender takes its time.
    """

    _target: Path
    _offset: int
    _reserve_bytes: int
    _on_start: Callable[[bytes], None]
    _durably: bool
    _digest: FileDigest | None
    is_on_disk: bool = field(default=False, init=False)
    _descriptor: int = field(default=-1, init=False)
    _waiting: list[bytes] = field(default_factory=list, init=False)
    _waiting_bytes: int = field(default=0, init=False)
    _writing: asyncio.Future[None] | None = field(default=None, init=False)
    _thread: StepThread = field(default_factory=StepThread, init=False)
    _is_closed: bool = field(default=True, init=False)

    async def require_space(self, missing: int) -> None:
        """Open the file, and make sure that the disk has room for so many bytes; they are not set aside."""
        await self._submit(partial(self._require_space, missing))

    def _submit(self, step: Callable[[], None]) -> asyncio.Future[None]:
        self._is_closed = False
        return self._thread.submit(step)

    def _require_space(self, missing: int) -> None:
        self._open()
        require_space(self._descriptor, missing, self._reserve_bytes)

    def _open(self) -> None:
        # A file that is gone on with is never made: it would begin with zeros, and perhaps lie below a mount point.
        if self._offset == 0:
            self._target.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._target, os.O_WRONLY | (0 if self._offset else os.O_CREAT), 0o644)
        os.truncate(self._descriptor, self._offset)
        os.lseek(self._descriptor, self._offset, os.SEEK_SET)

    async def add(self, chunk: bytes) -> None:
        """Take the next bytes, and wait if the block before theirs is still being written."""
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= BLOCK_BYTES or len(self._waiting) == _MOST_CHUNKS:
            await self._written()
            chunks, self._waiting, self._waiting_bytes = self._waiting, [], 0
            # What goes on from an offset has been judged where it began.
            if self._writing is None and self._offset == 0:
                self._on_start(b"".join(chunks))
            self._writing = self._submit(partial(self._write, chunks))

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing

    def _write(self, chunks: list[bytes]) -> None:
        if self._descriptor < 0:
            self._open()
        size = sum(map(len, chunks))
        written = os.writev(self._descriptor, chunks)
        if written < size:
            rest = memoryview(b"".join(chunks))[written:]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        if self._durably:
            # Linux begins to write the block to the disk, and does not wait; the sync at the end finds less to do.
            begun = os.lseek(self._descriptor, 0, os.SEEK_CUR) - size
            os.posix_fadvise(self._descriptor, begun, size, os.POSIX_FADV_DONTNEED)
        if self._digest is not None:
            self._digest.add(chunks)
        require_space(self._descriptor, 0, self._reserve_bytes)

    async def finish(self) -> None:
        """Write the rest, and close the file."""
        await self._written()
        await self._submit(partial(self._write_rest, self._waiting))
        self._is_closed = True

    def _write_rest(self, chunks: list[bytes]) -> None:
        self._write(chunks)
        if self._durably or self._writing is None:
            # At most one block is left: syncing it here is faster than starting another thread for it.
            os.fsync(self._descriptor)
            self.is_on_disk = True
        self._close()

    async def close(self) -> None:
        """Wait for the step that runs, and close the file, unless all is done."""
        if not self._is_closed:
            await finished(self._submit(self._close))
        self._thread.end()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
