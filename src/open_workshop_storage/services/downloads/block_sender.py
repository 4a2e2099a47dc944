"""Sends parts of stored files over ASGI, in blocks."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Message, Receive, Send

from open_workshop_storage.services.downloads.plan import Piece
from open_workshop_storage.utils.processes.granian import WAITING_BLOCKS, WRITER_BYTES

_logger = logging.getLogger(__name__)

# Small blocks cost several times as much per byte.
_LEAST_BLOCK_BYTES = 8 * 1024
_BUDGET_BYTES = 40 * 1024 * 1024
# No client gets more than one of so many shares of what is left.
_SHARES = 6
_SLOW_SECONDS = 0.25
# A head, the bytes, and what follows them.
_MOST_JOINED_PIECES = 3
_MOST_JOINED_BYTES = 256 * 1024
_FAST_BYTES = 8 * 1024 * 1024


class Source(Protocol):
    """What blocks are read of: an `OpenedFile`, or what reads like one."""

    async def read(self, offset: int, length: int) -> bytes | bytearray:
        """Read up to `length` bytes; what else holds is that of `OpenedFile.read`."""


class BlockSender:
    """Sends pieces of files without waiting for a disk on the event loop, and without filling the memory.

    The server takes blocks of each client ahead, whether or not the client reads. Large blocks cost least, so the
    clients of a worker share a budget for them; a client that keeps the server waiting gets small ones. Thousands of
    clients that do not read thus hold the budget and a few small blocks each.

    Args:
        block_bytes: How large a block is at most.
    """

    def __init__(self, block_bytes: int) -> None:
        self._budget = _Budget(block_bytes)

    async def send(self, file: Source, pieces: Sequence[Piece], receive: Receive, send: Send) -> None:
        """Send the body of an answer whose head has been sent.

        Returns early if the client leaves, and if the file cannot be read or became shorter while it was sent: the
        server then breaks the connection off, since the body is not as long as its head says.

        Args:
            file: The open file that the ranges among the pieces refer to.
        """
        try:
            first = pieces[0]
            if len(pieces) == 1 and isinstance(first, range) and len(first) <= _MOST_JOINED_BYTES:
                # Most answers are small files: one block is all there is to send.
                block = await file.read(first.start, len(first))
                if len(block) == len(first):
                    await send({"type": "http.response.body", "body": block})
                    return
                # Not read again: an entry of a ZIP is inflated once, from its first byte on.
                pieces = [bytes(block), range(first.start + len(block), first.stop)]
            await self._send(file, pieces, receive, send)
        except OSError as error:
            _logger.warning("an answer is broken off: %s", error)

    async def _send(self, file: Source, pieces: Sequence[Piece], receive: Receive, send: Send) -> None:
        if 1 < len(pieces) <= _MOST_JOINED_PIECES and (size := sum(map(len, pieces))) <= _MOST_JOINED_BYTES:
            body = await _joined(file, pieces)
            if len(body) == size:
                await send({"type": "http.response.body", "body": body})
                return
        gone = asyncio.create_task(_disconnection(receive))
        share = _Share(self._budget)
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    await send(_body(piece))
                    continue
                offset = piece.start
                while offset < piece.stop:
                    block = await file.read(offset, min(share.block_bytes, piece.stop - offset))
                    length = len(block)
                    if not length:
                        raise OSError(errno.EIO, "the file became shorter while it was sent")
                    began = time.monotonic()
                    await send(_body(block))
                    share.took(length, time.monotonic() - began)
                    offset += length
                    # When the client has left, granian's `send` returns at once and for ever: without a pause
                    # no other task would run, nor would the news of it arrive.
                    await asyncio.sleep(0)
                    if gone.done():
                        return
            await send({"type": "http.response.body"})
        finally:
            share.give_back()
            gone.cancel()
            await asyncio.wait([gone])


@dataclass
class _Budget:
    """What all clients of a worker together may have the server hold in large blocks."""

    block_bytes: int
    left_bytes: int = _BUDGET_BYTES


class _Share:
    """One client's share of what is left of the budget; none if that is too little for large blocks.

    Attributes:
        block_bytes: How large its next block may be.
    """

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._small_bytes = 0
        self._fast_bytes = 0
        self._reserve()

    def _reserve(self) -> None:
        most_bytes = (self._budget.left_bytes // _SHARES - WRITER_BYTES) // WAITING_BLOCKS
        self.block_bytes = max(min(most_bytes, self._budget.block_bytes), _LEAST_BLOCK_BYTES)
        self._reserved_bytes = _ahead(self.block_bytes) if self.block_bytes > _LEAST_BLOCK_BYTES else 0
        self._budget.left_bytes -= self._reserved_bytes

    def took(self, count: int, seconds: float) -> None:
        """Judge the client by how long a block of so many bytes had to wait for it."""
        is_slow = seconds > _SLOW_SECONDS
        self._fast_bytes = 0 if is_slow else self._fast_bytes + count
        if self.block_bytes > _LEAST_BLOCK_BYTES:
            if is_slow:
                self.block_bytes = _LEAST_BLOCK_BYTES
                self._small_bytes = 0
            return
        self._small_bytes += count
        if self._small_bytes > _ahead(_LEAST_BLOCK_BYTES):
            # So many small ones have taken the places of the last large ones.
            self.give_back()
            if self._fast_bytes > _FAST_BYTES:
                self._reserve()

    def give_back(self) -> None:
        """Return what is reserved for the client."""
        self._budget.left_bytes += self._reserved_bytes
        self._reserved_bytes = 0


async def _joined(file: Source, pieces: Sequence[Piece]) -> bytes:
    """Return a short body as one block; it is too short if the file does not give each piece at once."""
    blocks: list[bytes] = []
    for piece in pieces:
        # The next read may change what the last one gave.
        blocks.append(piece if isinstance(piece, bytes) else bytes(await file.read(piece.start, len(piece))))
    return b"".join(blocks)


def _ahead(block_bytes: int) -> int:
    return WRITER_BYTES + WAITING_BLOCKS * block_bytes


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(content: bytes | bytearray) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
