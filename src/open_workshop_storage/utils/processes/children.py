"""Starts confined child processes without blocking the event loop, and leaves none behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import anyio

from open_workshop_storage.utils.processes.confinement import confine_thread
from open_workshop_storage.utils.processes.threads import finished

# `prlimit` and `setpriv` belong to util-linux, which every Debian has. They act between fork and exec, where
# Python code in a process with threads may not.
_LIMITER = ("prlimit", "--core=0")
_DEATH_SIGNAL = ("setpriv", "--pdeathsig", "KILL")
_BLOCK_BYTES = 65536


async def start(
    command: Sequence[str | Path],
    *,
    readable: Sequence[Path],
    writable: Sequence[Path],
    limits: Sequence[str],
    environment: Mapping[str, str],
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int,
    folder: Path | None = None,
    niceness: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, confined to some files, which is killed when this process ends.

    Args:
        readable: Files and folders that it may read, besides the system's programs.
        writable: Folders below which it may read and write.
        limits: As `prlimit` takes them.
        environment: All that it gets besides `PATH`.
        stdin, stdout, stderr: As for `subprocess.Popen`; pipes are not buffered.
        folder: Where it runs.
        niceness: By how much its priority is below that of this process, up to 19 (nice(2)).

    Raises:
        OSError: It could not be started.
    """
    # uvloop starts a process by fork(2), which copies the worker's page tables and blocks the loop for longer than a
    # small archive takes. `subprocess` uses vfork(2).
    popen = partial(
        subprocess.Popen,
        (*_LIMITER, *limits, *_DEATH_SIGNAL, *command),
        bufsize=0,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env={"PATH": os.pathsep.join(os.get_exec_path()), **environment},
        start_new_session=True,
    )
    started: Future[subprocess.Popen[bytes]] = Future()
    arguments = niceness, partial(confine_thread, readable, writable), popen, started
    threading.Thread(target=_parent, args=arguments, name="parent of a child process", daemon=True).start()
    future = asyncio.wrap_future(started)
    try:
        return await finished(future)
    except asyncio.CancelledError:
        if future.exception() is None:
            await end(future.result())
        raise


def _parent(
    niceness: int,
    confine: Callable[[], object],
    popen: Callable[[], subprocess.Popen[bytes]],
    started: Future[subprocess.Popen[bytes]],
) -> None:
    """Start a process from a confined thread, whose bounds it inherits, and stay until it ends.

    The kernel sends the death signal when the thread ends that started the process: in a killed worker at once.
    """
    try:
        # On Linux this is the priority of the thread.
        os.nice(niceness)
        confine()
        process = popen()
    except BaseException as error:
        started.set_exception(error)
    else:
        started.set_result(process)
        # `status` may have reaped it already.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


async def read(pipe: IO[bytes]) -> bytes:
    """Wait until a child writes something, and return it; empty once the child has closed the pipe."""
    await anyio.wait_readable(pipe)
    return os.read(pipe.fileno(), _BLOCK_BYTES)


async def status(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child's end, and return its status; the negative number of a signal if that ended it."""
    with open(os.pidfd_open(process.pid), "rb", buffering=0) as end:
        await anyio.wait_readable(end)
    return process.wait()


def activity(process: subprocess.Popen[bytes]) -> int:
    """Return a number that grows as long as a child, or one of its own children, uses CPU time, reads or writes."""
    total, pids = 0, [process.pid]
    while pids:
        folder = Path(f"/proc/{pids.pop()}")
        with suppress(OSError, ValueError):
            user_time, system_time = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            total += int(user_time) + int(system_time)
            total += sum(int(line.split()[1]) for line in (folder / "io").read_text().splitlines())
            pids += map(int, (folder / "task" / folder.name / "children").read_text().split())
    return total


async def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a child with all that it started, if it still runs, and return when it is gone."""
    for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
        pipe.close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        await status(process)
