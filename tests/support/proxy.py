"""A TCP proxy that treats connections as bad networks do."""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_BLOCK_BYTES = 64 * 1024


class Fault(enum.Enum):
    """What happens to a connection."""

    CUT = "both sides see it closed"
    RESET = "both sides see it reset"
    STALL = "nothing passes any more, and no side is told"


class Proxy:
    """Passes connections on to a port of 127.0.0.1.

    Attributes:
        port: Its own port on 127.0.0.1.
        passed_bytes: How much of each connection's request bytes was passed on, in the order of connections.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.passed_bytes: list[int] = []
        self._target = target
        self._plan: deque[tuple[Fault, int]] = deque()
        self._open: set[asyncio.StreamWriter] = set()

    def plan(self, fault: Fault, after_bytes: int) -> None:
        """Let a connection fail once it has passed on so many bytes of its client; each plan is for one connection."""
        self._plan.append((fault, after_bytes))

    def reset_all(self) -> None:
        """Reset all connections that are open now."""
        for writer in self._open:
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        fault, left = self._plan.popleft() if self._plan else (None, 0)
        number = len(self.passed_bytes)
        self.passed_bytes.append(0)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, back}
        answers = asyncio.create_task(_pass_on(there, writer))
        try:
            while block := await reader.read(min(_BLOCK_BYTES, left) if fault else _BLOCK_BYTES):
                back.write(block)
                await back.drain()
                self.passed_bytes[number] += len(block)
                left -= len(block)
                if fault and left <= 0:
                    break
            else:
                back.write_eof()
                await answers
            if fault is Fault.STALL:
                answers.cancel()
                await asyncio.Event().wait()
            if fault is Fault.RESET:
                _reset_on_close(writer)
                _reset_on_close(back)
        except OSError:
            # One side has left, which asyncio tells by more than ConnectionError.
            pass
        finally:
            answers.cancel()
            for stream in (writer, back):
                self._open.discard(stream)
                stream.close()
                with suppress(ConnectionError):
                    await stream.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while block := await reader.read(_BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
        writer.close()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    # The other side may have closed it already.
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@asynccontextmanager
async def running_proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy for a port of 127.0.0.1 until the block ends, with all its connections."""
    proxy = Proxy(target)
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        with suppress(asyncio.CancelledError):
            await proxy.handle(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
