"""A thread for one series of blocking steps, such as the writes to a file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

_IDLE_SECONDS = 0.25

_Step = tuple[asyncio.Future[None], Callable[[], object]]


class StepThread:
    """Does steps one after the other, each to its end, also when the caller that waits for it is cancelled.

    There is a thread only while steps come fast. An executor of the standard library takes twice as long to hand a step
    over, which for a fast upload's blocks is a fifth of all that it takes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._steps: SimpleQueue[_Step | None] = SimpleQueue()
        self._is_running = False
        self._idle_at = 0.0

    def submit(self, work: Callable[[], object]) -> asyncio.Future[None]:
        """Have the thread do something once it has done all before; return a future of this loop for its end."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._idle_at = loop.time() + _IDLE_SECONDS
        self._steps.put((future, work))
        if not self._is_running:
            self._is_running = True
            # One that is told to end may not have seen it yet: of two, the other ends.
            threading.Thread(target=_do_steps, args=(self._steps, loop), name=self._name, daemon=True).start()
            loop.call_at(self._idle_at, self._end_if_idle, loop)
        return future

    def _end_if_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._idle_at <= loop.time():
            self.end()
        elif self._is_running:
            loop.call_at(self._idle_at, self._end_if_idle, loop)

    def end(self) -> None:
        """Have the thread end once its steps are done; a later step gets another one."""
        if self._is_running:
            self._is_running = False
            self._steps.put(None)


def _do_steps(steps: SimpleQueue[_Step | None], loop: asyncio.AbstractEventLoop) -> None:
    while (step := steps.get()) is not None:
        future, work = step
        error = None
        try:
            work()
        except BaseException as raised:
            error = raised
        # The loop is closed when the process ends.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, future, error)
        # They hold what was written, and the next step may be long in coming.
        del step, future, work, error


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return  # Its caller was cancelled.
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        # A caller that was cancelled asks no more.
        future.exception()
