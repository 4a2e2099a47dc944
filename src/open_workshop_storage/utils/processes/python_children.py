"""Calls Python functions in child processes, so that a crash, a hang or a held interpreter does not harm a worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio

import open_workshop_storage
from open_workshop_storage.utils.processes import children, python_child

_COMMAND = (sys.executable, "-P", "-m", python_child.__name__)
_MODULES = [Path(sys.prefix), Path(sys.base_prefix), Path(open_workshop_storage.__file__).parent.parent]
"""What a child reads to import modules."""
_BLOCK_BYTES = 65536
_MAX_ANSWER_BYTES = 1024**2
# glibc would give the memory of each call back, and have the kernel clear it anew for the next one, a quarter of the
# time that a BlurHash takes. Larger blocks, in bytes, still go back.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2)}


class ChildFailed(Exception):
    """A call failed unexpectedly: by a limit, a crash, or an exception that is not in `raises`.

    Attributes:
        errno: The operating system's number for what went wrong, if an `OSError` ended the call.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class PythonChildren:
    """A pool of child processes, started when they are needed and used again.

    A function is looked up by its name in its module. It gets open files, since a child can open none by its path, and
    arguments that JSON knows; it returns what JSON knows, up to 1 MiB. A returned value is as untrusted as the files
    that the function read.

    Args:
        size: How many calls run at the same time; further ones wait in their order.
        memory_bytes: How much memory each child may use.
        raises: The exceptions that a caller of `call` expects. They are made anew, with their text only.
        niceness: By how much the priority of children is below that of this process, up to 19 (nice(2)).
    """

    def __init__(self, size: int, memory_bytes: int, raises: Sequence[type[Exception]], niceness: int = 0) -> None:
        self._memory_bytes = memory_bytes
        self._niceness = niceness
        self._raises = {error.__qualname__: error for error in raises}
        self._turns = asyncio.Semaphore(size)
        self._idle: list[_Child] = []

    async def call(
        self,
        function: Callable[..., object],
        *arguments: str | float | None,
        files: Sequence[IO[bytes]] = (),
        folder: Path | None = None,
        seconds: float,
        cpu_seconds: float,
    ) -> object:
        """Call a function in a child, and return what it returns.

        A child that is cancelled or exceeds a limit is killed before this goes on, so that it writes nothing later.

        Args:
            function: Looked up by its name in its module.
            arguments: Follow the files.
            files: Open files of the operating system, four at most: the function gets files of its own that share
                their positions. Pipes may be among them.
            folder: The current folder of the call, below which it may write; a child is then started for this call
                alone, which takes about 50 ms.
            seconds: How long the call may take, without the wait for a child.
            cpu_seconds: How much CPU time it may take; rounded up to whole seconds.

        Raises:
            ChildFailed: The function raised none of `raises`, or exceeded a limit.
            Exception: One of `raises`, which the function raised.
        """
        line = json.dumps([function.__module__, function.__qualname__, cpu_seconds, *arguments]).encode() + b"\n"
        async with self._turns, self._child(folder) as child:
            try:
                async with asyncio.timeout(seconds):
                    answer = await child.ask(line, [file.fileno() for file in files])
            except TimeoutError:
                raise ChildFailed(f"{function.__qualname__} took longer than {seconds:.1f} s") from None
        if "returned" in answer:
            return answer["returned"]
        name, text, number = answer.get("raised"), str(answer.get("text")), answer.get("errno")
        if expected := self._raises.get(str(name)):
            raise expected(text)
        raise ChildFailed(f"{name}: {text}", number if isinstance(number, int) else None)

    async def aclose(self) -> None:
        """End all children that are idle."""
        while self._idle:
            await self._idle.pop().end()

    @asynccontextmanager
    async def _child(self, folder: Path | None) -> AsyncIterator[_Child]:
        child = await (self._ready_child() if folder is None else self._start(folder))
        try:
            yield child
        except BaseException:
            await child.end()
            raise
        if folder is None:
            self._idle.append(child)
        else:
            await child.end()

    async def _ready_child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.process.poll() is None:
                return child
            await child.end()
        return await self._start(None)

    async def _start(self, folder: Path | None) -> _Child:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await children.start(
                    _COMMAND,
                    readable=_MODULES,
                    writable=[] if folder is None else [folder],
                    limits=[f"--data={self._memory_bytes}"],
                    environment={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_KEPT_MEMORY},
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    folder=folder,
                    niceness=self._niceness,
                )
        except BaseException:
            ours.close()
            raise
        return _Child(ours, process)


class _Child:
    """A running child, and the socket to it."""

    def __init__(self, ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._socket = ours
        self.process = process

    async def ask(self, line: bytes, descriptors: Sequence[int]) -> dict[str, object]:
        """Send a call, and return the answer.

        Raises:
            ChildFailed: The child ended, or its answer is malformed.
        """
        # The socket's buffer holds the whole call, which the child is waiting for.
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(self._socket, [line], descriptors)
        answer = b""
        while not answer.endswith(b"\n"):
            await anyio.wait_readable(self._socket)
            block = self._received()
            if not block:
                status = await children.status(self.process)
                raise ChildFailed(f"the child process ended with status {status}")
            answer += block
            if len(answer) > _MAX_ANSWER_BYTES:
                raise ChildFailed("an answer that is too long")
        try:
            outcome = json.loads(answer)
        except ValueError:
            outcome = None
        if not isinstance(outcome, dict):
            raise ChildFailed("a malformed answer")
        return outcome

    def _received(self) -> bytes:
        # A child that ends with a call unread resets the socket.
        with contextlib.suppress(ConnectionResetError):
            return self._socket.recv(_BLOCK_BYTES)
        return b""

    async def end(self) -> None:
        """Kill the process, if it still runs, and return when it is gone."""
        self._socket.close()
        await children.end(self.process)
