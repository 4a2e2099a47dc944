"""Writes a body that comes in over the network to a file (wire contract, section 5)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core.errors import FileTooLarge, NoSpace, StorageError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class ReceiveLimits:
    """What a body may take.

    Attributes:
        max_bytes: Size limit in bytes; 0 for none.
        total_seconds: Time limit for the whole body; 0 for none.
        idle_seconds: Time limit for each wait without a byte; 0 for none.
        reserve_bytes: Disk space to leave free.
        timed_out: What a passed time limit raises.
    """

    max_bytes: int
    total_seconds: float
    idle_seconds: float
    reserve_bytes: int
    timed_out: type[StorageError]


async def receive(
    chunks: AsyncIterator[bytes],
    target: Path,
    limits: ReceiveLimits,
    expected: int | None,
    on_bytes: Callable[[int], None],
    offset: int = 0,
) -> int:
    """Write a body to a file and return its size in bytes, once it is on the disk.

    Blocks of 1 MiB are written in a thread while the next one comes in, so a slow disk slows the sender and not the
    event loop, and a body takes a few MiB of memory whatever its size.

    Args:
        expected: The announced size in bytes, refused at once if it is too large.
        on_bytes: Told the bytes received so far, after each chunk.
        offset: Bytes of the file that are there already and that the body goes on from.

    Raises:
        FileTooLarge: More than `max_bytes` came or were announced.
        NoSpace: The disk is full, or would be down to its reserve.
        StorageError: `limits.timed_out`, when a time limit has passed.
    """
    if limits.max_bytes and expected is not None and expected > limits.max_bytes:
        raise FileTooLarge
    writer = _Writer(target, limits.reserve_bytes)
    received = offset
    try:
        await asyncio.to_thread(writer.open, offset, (expected or 0) - offset)
        async with asyncio.timeout(limits.total_seconds or None):
            while True:
                async with asyncio.timeout(limits.idle_seconds or None):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                received += len(chunk)
                if limits.max_bytes and received > limits.max_bytes:
                    raise FileTooLarge
                await writer.add(chunk)
                on_bytes(received)
        await writer.finish()
    except TimeoutError:
        raise limits.timed_out from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace from error
        raise
    finally:
        await writer.close()
    return received


class _Writer:
    def __init__(self, target: Path, reserve_bytes: int) -> None:
        self._target = target
        self._reserve_bytes = reserve_bytes
        self._descriptor = -1
        self._filling = bytearray()
        self._writing: asyncio.Task[None] | None = None

    def open(self, offset: int, missing: int) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._target, os.O_WRONLY | os.O_CREAT, 0o644)
        os.truncate(self._descriptor, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._check_space(missing)

    def _check_space(self, wanted: int) -> None:
        disk = os.fstatvfs(self._descriptor)
        if disk.f_bavail * disk.f_frsize - wanted < self._reserve_bytes:
            raise NoSpace

    async def add(self, chunk: bytes) -> None:
        self._filling += chunk
        if len(self._filling) >= _BLOCK_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        await self._written()
        block, self._filling = self._filling, bytearray()
        self._writing = asyncio.create_task(asyncio.to_thread(self._write, block))

    async def _written(self) -> None:
        if self._writing is not None:
            # The thread goes on after a cancellation, and the file must not be closed under it.
            await asyncio.shield(self._writing)
            self._writing = None

    def _write(self, block: bytearray) -> None:
        self._check_space(len(block))
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]

    async def finish(self) -> None:
        await self._flush()
        await self._written()
        await asyncio.to_thread(os.fsync, self._descriptor)

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._descriptor >= 0:
            os.close(self._descriptor)
