"""A worker as a process of the server: when it ends, and which of its connections the kernel ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.utils.processes import granian

_logger = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 5.0
_POLL_SECONDS = 0.1
_PROBES = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 30,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,
}
"""The kernel probes a connection after 30 seconds of silence, and every 10 seconds from then on (tcp(7))."""


async def stop_in_order(runs: Runs, grace_seconds: float) -> None:
    """Wait for SIGTERM, end this worker's runs, and then have the server end the worker.

    Args:
        grace_seconds: How long uploads may still come in.
    """
    stop = asyncio.Event()
    granian.take_stop_signal(stop.set)
    await stop.wait()
    _logger.info("stopping: jobs are handed over, uploads may take another %g seconds", grace_seconds)
    await runs.stop(grace_seconds)
    granian.stop_worker(_LAST_ANSWERS_SECONDS)


async def follow_server() -> None:
    """Send this process SIGTERM once the server's main process is gone, which may have been killed."""
    server = granian.main_process_id()
    while os.getppid() == server:
        await asyncio.sleep(_WATCH_SECONDS)
    _logger.warning("the server's main process is gone")
    signal.raise_signal(signal.SIGTERM)


async def drop_stalled_connections(patience_seconds: float) -> None:
    """Have the kernel end connections whose client acknowledges neither data nor probes, or does not read.

    An ASGI app can send no pings of the WebSocket protocol, and granian sends none. Options of a listening socket hold
    for all connections that it accepts from then on. The server opens it after the app's start, hence the wait.

    Args:
        patience_seconds: How long a client may do so; 0 for the kernel's own limits.
    """
    # Linux also counts the time during which the client's window is full; any new room ends the count.
    options = {**_PROBES, (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): round(patience_seconds * 1000)}
    while not await asyncio.to_thread(_set_listeners, options):
        await asyncio.sleep(_POLL_SECONDS)


def _set_listeners(options: dict[tuple[int, int], int]) -> bool:
    """Set the options of this process's listening sockets; tell whether there are any."""
    listeners = granian.listening_sockets()
    for listener in listeners:
        with listener:
            # Clients of a Unix socket are on this machine, and cannot vanish.
            if listener.family != socket.AF_UNIX:
                for option, value in options.items():
                    listener.setsockopt(*option, value)
    return bool(listeners)
