"""Work in threads that may not be left behind half done."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


async def run_to_end(work: Callable[[threading.Event], T], wake: Callable[[], None] = lambda: None) -> T:
    """Run blocking work in a thread of its own, and never return before it has ended.

    `asyncio.to_thread` lets its thread run on when the caller is cancelled, and what it then does to files
    nobody expects any more. Here a cancellation sets the event that the work is given, and goes on once the
    work has ended. Nor does work that waits for a slow disk keep the loop's few shared threads from others.

    Args:
        work: Looks at the event as often as it can stop, and then stops by raising.
        wake: Called once the event is set, for work that may be asleep.

    Raises:
        Exception: Whatever the work raises, unless the caller was cancelled.
    """

    def stop_work() -> None:
        stop.set()
        wake()

    stop = threading.Event()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        future = asyncio.get_running_loop().run_in_executor(thread, context.run, work, stop)
        return await finished(future, stop_work)


async def finished(future: asyncio.Future[T], stop: Callable[[], None] = lambda: None) -> T:
    """Return what a thread's work returns, and never before it has ended.

    Args:
        future: The work's.
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
