"""The life of a worker: what it does for clients and beside requests, and whether it is about to go."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from open_workshop_storage.core.errors import StorageError
from open_workshop_storage.core.settings import Settings

_logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0

T = TypeVar("T")

HasLeft = Callable[[], Awaitable[bool]]
"""Tells whether a client has left since its whole body came, so that it does not hear what becomes of that."""


async def never_leaves() -> bool:
    """Tell of a client that it has not left."""
    return False


class Lifetime:
    """One worker's, from its start to its stop; at the end of the block, the tasks that still run are cancelled.

    Attributes:
        stopping: Set once this worker is about to go and takes no more work.
        when_stopping: Each of them is called by then; sockets put in what ends them, and take it out again.
        attended: How many requests and sockets a stop waits for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stopping = asyncio.Event()
        self.when_stopping: set[Callable[[], object]] = set()
        self._sockets: Counter[str] = Counter()
        self.attended = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work that may outlive the request which starts it; log what fails unexpectedly, for itself."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, StorageError):
            _logger.error("a background task failed", exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One that is cancelled may start others.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Take no more work, and say so."""
        self.stopping.set()
        for tell in list(self.when_stopping):
            tell()

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Have a stop wait for what is done for a client in the block."""
        self.attended += 1
        try:
            yield
        finally:
            self.attended -= 1

    @property
    def open_sockets(self) -> int:
        """How many progress sockets this worker holds."""
        return self._sockets.total()

    def sockets_are_full(self, job_id: str) -> bool:
        """Tell whether this worker holds as many progress sockets as it may, of this job or in all."""
        most, most_per_job = self._settings.transfer_max_sockets, self._settings.transfer_max_sockets_per_job
        return 0 < most <= self.open_sockets or 0 < most_per_job <= self._sockets[job_id]

    @contextmanager
    def holding_socket(self, job_id: str) -> Iterator[None]:
        """Count a progress socket of a job, and have a stop wait for it, during the block."""
        self._sockets[job_id] += 1
        try:
            with self.attending():
                yield
        finally:
            self._sockets[job_id] -= 1
            if not self._sockets[job_id]:
                del self._sockets[job_id]


async def keep_doing(work: Callable[[], Awaitable[None]]) -> None:
    """Do work, and again when it fails: without it this process would hold jobs and not work on them."""
    while True:
        try:
            return await work()
        except Exception:
            _logger.exception("background work failed, and begins again")
            await asyncio.sleep(_PAUSE_SECONDS)
