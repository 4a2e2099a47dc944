"""The owner of tasks that outlive the request which started them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from open_workshop_storage.core.errors import StorageError

_logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0

T = TypeVar("T")


class Tasks:
    """Tasks that fail each for itself, unlike those of a task group, and are cancelled at the end of the block."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work in the background; log what fails unexpectedly."""
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


async def keep_doing(work: Callable[[], Awaitable[None]]) -> None:
    """Do work, and again when it fails: without it this process would hold jobs and not work on them."""
    while True:
        try:
            return await work()
        except Exception:
            _logger.exception("background work failed, and begins again")
            await asyncio.sleep(_PAUSE_SECONDS)
