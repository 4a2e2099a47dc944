"""Has the kernel end connections whose clients have vanished, or take nothing of what they asked for."""

from __future__ import annotations

import asyncio
import socket

from open_workshop_storage.utils.processes.granian import listening_sockets

_IDLE_SECONDS = 30
_INTERVAL_SECONDS = 10
_POLL_SECONDS = 0.1

_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): _IDLE_SECONDS,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): _INTERVAL_SECONDS,
}


async def drop_stalled_connections(patience_seconds: float) -> None:
    """Have the kernel end connections whose client acknowledges neither data nor probes, or does not read.

    An ASGI app can send no pings of the WebSocket protocol, and granian sends none. What a listening socket is set to
    holds for all connections that it accepts from then on. The server opens it after the app's start, hence the wait.

    Args:
        patience_seconds: How long a client may do so; 0 for as long as the kernel's own settings let it.
    """
    # Linux counts the time without room in the client's window too, from when there was none; any new room ends it.
    options = {**_OPTIONS, (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): round(patience_seconds * 1000)}
    while not await asyncio.to_thread(_set_listeners, options):
        await asyncio.sleep(_POLL_SECONDS)


def _set_listeners(options: dict[tuple[int, int], int]) -> bool:
    """Set the options of this process's listening sockets; tell whether there are any."""
    listeners = listening_sockets()
    for listener in listeners:
        with listener:
            # Clients of a Unix socket are on this machine, and cannot vanish.
            if listener.family != socket.AF_UNIX:
                for option, value in options.items():
                    listener.setsockopt(*option, value)
    return bool(listeners)
