"""What is known of granian's insides: how it starts and ends workers, and how much of an answer it buffers.

Its documentation promises none of this; tests/processes/test_granian.py fails when a release changes it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

LOGGERS = ("_granian", "granian.access")
"""Names of the loggers of the server's own lines and of its access log."""

WRITER_BYTES = 400 * 1024
"""How much of an answer a connection buffers before it waits for the client; the last block may go over it."""

WAITING_BLOCKS = 6
"""Blocks of an answer that are held besides: four in a queue, one in `send`, and the one that goes over the buffer."""

_APP = re.compile(r"open_workshop_storage\.(?:distributor|loader|app):app")


def main_process_id() -> int:
    """Return the id of the process that started this worker, which may have ended already."""
    # multiprocessing keeps the id from the start of this process.
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def end_server() -> None:
    """End the main process with a status other than 0; does nothing outside of a worker.

    With `--respawn-failed-workers` granian gives up only if the same worker fails twice in a row, which several
    workers that fail in turn never do. SIGTERM and SIGINT would have it end with status 0; SIGUSR1 has no handler.
    """
    if multiprocessing.parent_process() is not None and main_process_id() == os.getppid():
        os.kill(os.getppid(), signal.SIGUSR1)


def take_stop_signal(on_stop: Callable[[], None]) -> None:
    """Call a function on the running loop at each SIGTERM, in place of granian's handler.

    granian takes SIGTERM and SIGINT alike as the order to stop: it closes all sockets at once, and waits for requests
    without a limit.
    """
    loop = asyncio.get_running_loop()
    # The loop's own handlers miss a signal while granian does not run the loop, just after the lifespan's start.
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(on_stop))


def stop_worker(patience_seconds: float) -> None:
    """Have the server end this worker once its requests are answered.

    Args:
        patience_seconds: How long the requests may take; then the kernel ends the process.
    """
    # The server waits for its last clients without a limit. SIGALRM has no handler here.
    signal.setitimer(signal.ITIMER_REAL, patience_seconds)
    signal.raise_signal(signal.SIGINT)


def listening_sockets() -> list[socket.socket]:
    """Return duplicates of this process's listening sockets, to be closed by the caller.

    The server opens them in Rust after the app's start, and hands none of them over.
    """
    found = []
    for path in Path("/proc/self/fd").iterdir():
        # A descriptor may be closed at any moment.
        with suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                duplicate = socket.socket(fileno=os.dup(int(path.name)))
                if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.append(duplicate)
                else:
                    duplicate.close()
    return found


def servers() -> Iterator[tuple[int, bool]]:
    """Yield the id of each process of this user that serves one of our apps, and whether it speaks HTTP/1 only.

    Without `--http 1` the time that the head of a request may take begins only once a connection's first bytes have
    told the version: connections that send nothing are kept for ever.
    """
    for process in Path("/proc").glob("[0-9]*"):
        # It may end at any moment, or be another user's.
        with suppress(OSError):
            command = (process / "cmdline").read_text(errors="replace").split("\0")
            if any("granian" in argument for argument in command) and any(map(_APP.fullmatch, command)):
                variables = (process / "environ").read_text(errors="replace").split("\0")
                speaks = "GRANIAN_HTTP=1" in variables or "--http=1" in command
                yield int(process.name), speaks or ("--http", "1") in pairwise(command)
