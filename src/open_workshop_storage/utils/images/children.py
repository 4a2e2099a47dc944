"""Child processes for images, so that a decoder that crashes, hangs or holds the interpreter harms no other request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from open_workshop_storage.utils.images import child as image_child
from open_workshop_storage.utils.images import pictures as images
from open_workshop_storage.utils.processes import children

# glibc would give each image's memory back and have the kernel clear it anew for the next, a quarter of the time that a
# BlurHash takes. What is larger than this, in bytes, still goes back.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2)}
_PYTHON = (sys.executable, "-P", "-m", image_child.__name__)
_REFUSALS = {error.__name__: error for error in (images.NotAnImageError, images.ImageTooLargeError)}


class ImageTaskFailed(Exception):
    """A task that failed through no known fault of the image: the child ended, or an exception was not foreseen.

    Attributes:
        errno: The system's number for what went wrong, if it was the system.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class ImageChildren:
    """As many children as there are cores, begun when they are needed; who comes first is served first.

    Args:
        memory_bytes: How much a child may use.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._turns = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._idle: list[subprocess.Popen[bytes]] = []

    async def run(self, seconds: float, task: str, *paths: Path) -> Any:
        """Have a task done, and return what its function in `utils/images/pictures.py` returns.

        A cancellation kills the child before it goes on, so that nothing is written afterwards.

        Args:
            seconds: How long it may take, once its turn has come; half a second more for each MiB of the image.
            task: The function's name.

        Raises:
            NotAnImageError: As there.
            ImageTooLargeError: As there.
            ImageTaskFailed: See there.
        """
        question = json.dumps([seconds, task, *map(str, paths)])
        async with self._turns, self._child() as child:
            assert child.stdin is not None and child.stdout is not None
            # It waits for a question, and a pipe holds more than one.
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(question.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                block = await children.read(child.stdout)
                if not block:
                    status = await children.status(child)
                    raise ImageTaskFailed(f"the child process for images ended with status {status}")
                answer += block
            outcome = json.loads(answer)
        if "done" in outcome:
            return outcome["done"]
        refusal = _REFUSALS.get(outcome["failed"])
        if refusal is not None:
            raise refusal(outcome["text"])
        raise ImageTaskFailed(f"{outcome['failed']}: {outcome['text']}", outcome["errno"])

    async def aclose(self) -> None:
        """End all children that are idle."""
        while self._idle:
            await children.end(self._idle.pop())

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[subprocess.Popen[bytes]]:
        child = await self._ready_child()
        try:
            yield child
        except BaseException:
            await children.end(child)
            raise
        self._idle.append(child)

    async def _ready_child(self) -> subprocess.Popen[bytes]:
        while self._idle:
            child = self._idle.pop()
            if child.poll() is None:
                return child
            await children.end(child)
        return children.start(
            _PYTHON,
            limits=[f"--data={self._memory_bytes}"],
            environment={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_KEPT_MEMORY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
