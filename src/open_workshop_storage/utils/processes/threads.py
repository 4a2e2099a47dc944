"""Blocking work in threads, which is never left behind half done."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_IDLE_SECONDS = 0.25

_Step = tuple[asyncio.Future[None], Callable[[], object]]


async def run_to_end(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run blocking work in a thread of its own, and never return before it has ended.

    `asyncio.to_thread` lets its thread run on when the caller is cancelled, so that it may write to files that nothing
    expects to change any more. Here the cancellation waits for the end of the work. The loop's few shared threads stay
    free of work that waits for a slow disk.

    Raises:
        Exception: Whatever the work raises, unless the caller was cancelled.
    """
    return await _in_thread(partial(work, *arguments, **options), lambda: None)


async def run_until_stopped(work: Callable[[threading.Event], T]) -> T:
    """Run blocking work as `run_to_end` does, with an event that is set when the caller is cancelled.

    Args:
        work: Checks the event wherever it can stop, and raises once that is set.

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
    """Wait for the end of a thread's work, also when cancelled, and return its result.

    Args:
        stop: Called when the caller is cancelled.

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


class StepThread:
    """Does steps in a thread, one after another, each to its end, also when the caller that waits for it is cancelled.

    There is a thread only while steps come fast. An executor of the standard library takes twice as long to hand a step
    over, which for a fast upload's blocks is a fifth of all that it takes.
    """

    def __init__(self) -> None:
        self._steps: SimpleQueue[_Step | None] | None = None
        self._idle_at = 0.0

    def submit(self, work: Callable[[], object]) -> asyncio.Future[None]:
        """Have the thread do a step after all earlier ones; return a future for its end.

        Raises:
            RuntimeError: No thread can be started: the process has as many as it may.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._idle_at = loop.time() + _IDLE_SECONDS
        if self._steps is None:
            steps: SimpleQueue[_Step | None] = SimpleQueue()
            # `threading` waits until the thread runs, which takes as long as a short step.
            _thread.start_new_thread(_do_steps, (steps,))
            # Not before: where no thread can be started, a later step would wait for it for ever.
            self._steps = steps
            loop.call_at(self._idle_at, self._end_if_idle, loop)
        self._steps.put((future, work))
        return future

    def _end_if_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._idle_at <= loop.time():
            self.end()
        elif self._steps is not None:
            loop.call_at(self._idle_at, self._end_if_idle, loop)

    def end(self) -> None:
        """Have the thread end once its steps are done; a later step gets another one."""
        if self._steps is not None:
            self._steps.put(None)
            self._steps = None


def _do_steps(steps: SimpleQueue[_Step | None]) -> None:
    while (step := steps.get()) is not None:
        future, work = step
        error = None
        try:
            work()
        except BaseException as raised:
            error = raised
        # The loop is closed when the process ends.
        with suppress(RuntimeError):
            future.get_loop().call_soon_threadsafe(_settle, future, error)
        # Frees the written bytes now; the next step may come much later.
        del step, future, work, error


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return  # Its caller was cancelled.
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        # Marks it as retrieved, since a caller that was cancelled never asks for it.
        future.exception()
