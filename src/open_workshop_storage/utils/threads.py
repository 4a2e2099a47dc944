"""Work in threads that may not be left behind half done."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_to_end(work: Callable[[threading.Event], T]) -> T:
    """Run blocking work in a thread, and never return before it has ended.

    `asyncio.to_thread` lets its thread run on when the caller is cancelled, and what it then does to files
    nobody expects any more. Here a cancellation sets the event that the work is given, and goes on once the
    work has ended.

    Args:
        work: Looks at the event as often as it can stop, and then stops by raising.

    Raises:
        Exception: Whatever the work raises, unless the caller was cancelled.
    """
    stop = threading.Event()
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(None, context.run, work, stop)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()
        raise
