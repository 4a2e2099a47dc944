"""Tasks that run beside each other: the first one that fails ends the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_PAUSE_SECONDS = 0.5
_SHARE = 0.02
"""The part of the time that checks may take."""


@contextlib.contextmanager
def without_group() -> Iterator[None]:
    """Raise the first error of a task group in place of its group."""
    try:
        yield
    except ExceptionGroup as group:
        error = group.exceptions[0]
        raise error from error.__cause__


async def work_on_each(work: Callable[[T], Awaitable[R]], items: Iterable[T], at_once: int) -> list[R]:
    """Return the result of the work for each item, in their order; at most so many are worked on at once.

    Raises:
        Exception: The first error of the work for an item, which cancels the rest.
    """
    turns = asyncio.Semaphore(at_once)

    async def in_turn(item: T) -> R:
        async with turns:
            return await work(item)

    with without_group():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(item)) for item in items]
    return [task.result() for task in tasks]


@contextlib.asynccontextmanager
async def watched(check: Callable[[], None]) -> AsyncIterator[None]:
    """Run the body, and cancel it as soon as a check raises.

    Args:
        check: Called in a thread twice a second at most, and so seldom that it takes 2 % of the time at most.

    Raises:
        Exception: What the body or the check raises.
    """
    async with run_beside(_watch(check)):
        yield


@contextlib.asynccontextmanager
async def run_beside(work: Coroutine[Any, Any, NoReturn]) -> AsyncIterator[None]:
    """Run the body, and beside it work without an end, which is cancelled when the body ends.

    Raises:
        Exception: What the body raises, or the work, which then cancels the body.
    """
    with without_group():
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            yield
            working.cancel()


async def _watch(check: Callable[[], None]) -> NoReturn:
    loop = asyncio.get_running_loop()
    pause = _PAUSE_SECONDS
    while True:
        await asyncio.sleep(pause)
        started = loop.time()
        await asyncio.to_thread(check)
        pause = max(_PAUSE_SECONDS, (loop.time() - started) / _SHARE)
