"""Finds out which clients have vanished without a word, say nothing, or take nothing of what they asked for."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_IDLE_SECONDS = 30
_INTERVAL_SECONDS = 10
_POLL_SECONDS = 0.1

_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): _IDLE_SECONDS,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): _INTERVAL_SECONDS,
}

# `GET / HTTP/1.0` and two line breaks.
_SHORTEST_REQUEST_BYTES = 18
# `tcpi_bytes_received` of Linux's `struct tcp_info`.
_BYTES_RECEIVED = slice(128, 136)


async def drop_stalled_peers(patience_seconds: float) -> None:
    """Have the kernel end connections whose client acknowledges neither data nor probes, or does not read.

    An ASGI app can send no pings of the WebSocket protocol, and granian sends none. What a listening socket is set to
    holds for all that it accepts from then on. The server opens it after the app's start, hence the wait.

    Args:
        patience_seconds: How long a client may do so; 0 for as long as the kernel's own settings let it.
    """
    # Linux counts the time without room in the client's window too, from when there was none; any new room ends it.
    options = {**_OPTIONS, (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): round(patience_seconds * 1000)}
    while not await asyncio.to_thread(_set_listeners, options):
        await asyncio.sleep(_POLL_SECONDS)


def _set_listeners(options: dict[tuple[int, int], int]) -> bool:
    """Set the options of this process's listening sockets; tell whether there are any."""
    found = False
    for listener in _sockets():
        if _listens(listener):
            found = True
            # Peers at a Unix socket are on this machine, and cannot vanish.
            if listener.family != socket.AF_UNIX:
                for option, value in options.items():
                    listener.setsockopt(*option, value)
    return found


async def drop_silent_peers(patience_seconds: float = 10) -> None:
    """Close connections on which too little has come to be a request, so that others get their places.

    granian takes only so many at once, and unless it is told the version of HTTP it begins to count the time that a
    request may take only once it has seen which one a client speaks.

    Args:
        patience_seconds: How long a client may be silent; it may get twice as long.
    """
    ports: set[int] = set()
    silent: set[int] = set()
    while True:
        await asyncio.sleep(patience_seconds)
        ports = ports or await asyncio.to_thread(_listening_ports)
        silent = await asyncio.to_thread(_close_silent, ports, silent)


def _listening_ports() -> set[int]:
    return {one.getsockname()[1] for one in _sockets() if one.family != socket.AF_UNIX and _listens(one)}


def _close_silent(ports: set[int], before: set[int]) -> set[int]:
    """Close those of the connections to some ports that were silent before; return the inodes of others that are."""
    silent = set()
    for one in _sockets():
        # It may break at any moment.
        with suppress(OSError):
            if one.family == socket.AF_UNIX or one.getsockname()[1] not in ports or not _is_silent(one):
                continue
            inode = os.fstat(one.fileno()).st_ino
            if inode in before:
                one.shutdown(socket.SHUT_RDWR)
            else:
                silent.add(inode)
    return silent


def _is_silent(connection: socket.socket) -> bool:
    if _listens(connection):
        return False
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)
    return int.from_bytes(info[_BYTES_RECEIVED], sys.byteorder) < _SHORTEST_REQUEST_BYTES


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _sockets() -> Iterator[socket.socket]:
    """Yield copies of this process's sockets, each open until the next one."""
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                with socket.socket(fileno=os.dup(int(path.name))) as copy:
                    yield copy
