"""Starts child processes without blocking the event loop for long, and never leaves one behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import anyio

# `prlimit` and `setpriv` belong to util-linux, which every Debian has. They act between fork and exec, where
# Python code in a process with threads may not. The death signal is sent when the loop's thread ends, which in
# a killed worker is at once.
_LIMITER = ("prlimit", "--core=0")
_DEATH_SIGNAL = ("setpriv", "--pdeathsig", "KILL", "--no-new-privs")
_BLOCK_BYTES = 65536


def start(
    command: Sequence[str | Path],
    *,
    limits: Sequence[str],
    environment: Mapping[str, str],
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, which is killed when the calling thread ends.

    Args:
        limits: As `prlimit` takes them.
        environment: All that it gets besides `PATH`.
        stdin, stdout, stderr: As for `subprocess.Popen`; pipes are not buffered.
        folder: Where it runs.

    Raises:
        OSError: It could not be started.
    """
    # uvloop starts a process by fork(2), which copies the worker's page tables and blocks the loop for longer than a
    # small archive takes. `subprocess` uses vfork(2).
    return subprocess.Popen(
        (*_LIMITER, *limits, *_DEATH_SIGNAL, *command),
        bufsize=0,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env={"PATH": os.pathsep.join(os.get_exec_path()), **environment},
        start_new_session=True,
    )


async def read(pipe: IO[bytes]) -> bytes:
    """Return what a child has written, as soon as there is something; nothing once it has closed the pipe."""
    await anyio.wait_readable(pipe)
    return os.read(pipe.fileno(), _BLOCK_BYTES)


async def status(process: subprocess.Popen[bytes]) -> int:
    """Return a child's status once it has ended; below zero, the number of the signal that ended it."""
    with open(os.pidfd_open(process.pid), "rb", buffering=0) as end:
        await anyio.wait_readable(end)
    return process.wait()


async def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a child with all that it started, if it still runs, and return when it is gone."""
    for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
        pipe.close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        await status(process)
