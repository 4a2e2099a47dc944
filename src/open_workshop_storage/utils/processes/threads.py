"""Work in threads that may not be left behind half done."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run blocking work in a thread of its own, and never return before it has ended.

    `asyncio.to_thread` lets its thread run on when the caller is cancelled, and nothing expects what that then does to
    files. Here a cancellation goes on once the work has ended. Nor does work that waits for a slow disk keep the loop's
    few shared threads from others.

    Raises:
        Exception: Whatever the work raises, unless the caller was cancelled.
    """
    return await _in_thread(partial(work, *arguments, **options), lambda: None)


async def run_until_stopped(work: Callable[[threading.Event], T]) -> T:
    """Run blocking work as `run_to_end` does, with an event that is set when the caller is cancelled.

    Args:
        work: Looks at the event as often as it can stop, and then stops by raising.

    Raises:
        Exception: Whatever the work raises, unless the caller was cancelled.
    """
    stop = threading.Event()
    return await _in_thread(partial(work, stop), stop.set)


async def _in_thread(work: Callable[[], T], stop: Callable[[], None]) -> T:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        future = asyncio.get_running_loop().run_in_executor(thread, context.run, work)
        return await finished(future, stop)


async def finished(future: asyncio.Future[T], stop: Callable[[], None] = lambda: None) -> T:
    """Return what a thread's work returns, and never before it has ended.

    Args:
        stop: Called when the caller is cancelled, which goes on once the work has ended.

    Raises:
        Exception: Whatever the work raises, unless the caller was cancelled.
    """
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()
        raise
