"""One client's view of one job, over a WebSocket or a stream of events (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum, auto
from typing import Any

from starlette.types import Receive

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import Event, repeated
from open_workshop_storage.core.store import JobEvents
from open_workshop_storage.services.runtime import Runtime

_SILENCE_SECONDS = 30.0

Tell = Callable[[int, str], Awaitable[None]]
"""Sends a client one message, with its version; raises RuntimeError or OSError if it has left."""


class Ending(Enum):
    """Why a client hears no more."""

    COMPLETE = auto()
    """The attempt has ended, and the client knows."""
    LEFT = auto()
    """It has left."""
    STOPPING = auto()
    """This worker is about to go."""
    NOT_ALLOWED = auto()
    """Its token allows no more."""
    AWAY = auto()
    """The store went away as the watch began."""


class ProgressWatch:
    """Tells one client of one job until one of them ends.

    Thousands of clients may wait, so each costs a future and what is called back, but no task: there is one only while
    something is asked of the store.

    Args:
        expires_at: Unix time at which the client's token expires.
        heard: The version of the last message that it has heard over an earlier connection.
    """

    __slots__ = (
        *("_runtime", "_job_id", "_expires_at", "_heard"),
        *("_telling", "_receive", "_events", "_asking", "_receiving", "_timer"),
    )

    def __init__(self, runtime: Runtime, job_id: str, expires_at: float, heard: int | None = None) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._expires_at = expires_at
        self._heard = heard

    async def is_allowed(self) -> bool:
        """Tell whether the token allows to watch the job now (docs/API.md, "Transfer tokens").

        One that has expired does so while its job has not ended, for `TRANSFER_RESUME_SECONDS` at most.
        """
        if self._seconds_left() >= 0:
            return True
        if self._is_worthless():
            return False
        try:
            job = await self._runtime.store.get(self._job_id)
        except ServiceUnavailable:
            # The client waits for Redis as others do.
            return True
        return job is not None and not job.ended

    async def tell_until_end(self, tell: Tell, receive: Receive) -> Ending:
        """Tell the client of events until the last one, or until it leaves or has to."""
        self._telling = Telling(tell, self._heard)
        self._receive = receive
        self._events: JobEvents | None = None
        self._asking: asyncio.Future[None] | None = None
        self._receiving: asyncio.Future[Any] | None = None
        lifetime = self._runtime.lifetime
        lifetime.when_stopping.add(self._stop)
        try:
            if lifetime.stopping.is_set():
                self._stop()
            self._ask(self._begin())
            self._look()
            self._listen()
            return await self._telling.ended
        finally:
            lifetime.when_stopping.discard(self._stop)
            await self._close()

    async def _close(self) -> None:
        self._timer.cancel()
        # The server's close never completes while something of the connection waits in receive().
        for awaited in (self._receiving, self._asking):
            if awaited is not None:
                awaited.cancel()
                await asyncio.wait((awaited,))
        await self._telling.close()
        if self._events is not None:
            await self._runtime.store.unwatch(self._job_id, self._events)

    def _stop(self) -> None:
        self._telling.end(Ending.STOPPING)

    def _listen(self, received: asyncio.Future[Any] | None = None) -> None:
        """Take in what the client sends, of which only that it has left counts."""
        try:
            if received is not None and received.result()["type"].endswith(".disconnect"):
                self._telling.end(Ending.LEFT)
                return
            # The server's own awaitables are futures, which need no task.
            self._receiving = asyncio.ensure_future(self._receive())
            self._receiving.add_done_callback(self._listen)
        except asyncio.CancelledError:
            return
        except Exception as error:
            self._telling.fail(error)

    def _look(self) -> None:
        """Repeat the state if it is time to, and see whether the token still allows to watch; look again in time."""
        if self._is_worthless():
            self._telling.end(Ending.NOT_ALLOWED)
        elif self._seconds_left() < 0 and self._asking is None:
            self._ask(self._check())
        seconds = min(self._next_check_seconds(), self._telling.repeat_after_silence())
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        # A task, to be ended with its client: it waits for a store that is away.
        self._asking = asyncio.create_task(question)
        self._asking.add_done_callback(self._answered)

    def _answered(self, asking: asyncio.Future[None]) -> None:
        self._asking = None
        if not asking.cancelled() and (error := asking.exception()) is not None:
            self._telling.fail(error)

    async def _begin(self) -> None:
        try:
            self._events = await self._runtime.store.watch(self._job_id)
        except ServiceUnavailable:
            self._telling.end(Ending.AWAY)
        else:
            self._telling.follow(self._events)

    async def _check(self) -> None:
        if not await self.is_allowed():
            self._telling.end(Ending.NOT_ALLOWED)

    def _seconds_left(self) -> float:
        return self._expires_at - time.time()

    def _is_worthless(self) -> bool:
        return self._seconds_left() < -self._runtime.settings.transfer_resume_seconds

    def _next_check_seconds(self) -> float:
        left = self._seconds_left()
        return max(left if left > 0 else left + self._runtime.settings.transfer_resume_seconds, 0) + 0.001


class Telling:
    """One client's messages, of which one at a time is on its way.

    A message is handed to the server by the call that brings its event, or once the one before it has gone. A task for
    each client would have to be woken for each message, which takes longer than all the rest.

    Args:
        heard: The version that the client has heard of; it is not told of it again if nothing has changed.
        silence_seconds: After so long without a message the present state is sent again.

    Attributes:
        ended: Done once the client knows of the last event, or has left.
    """

    __slots__ = ("ended", "_tell", "_heard", "_silence_seconds", "_told_at", "_events", "_last", "_sending", "_awaited")

    def __init__(self, tell: Tell, heard: int | None = None, silence_seconds: float = _SILENCE_SECONDS) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = loop.create_future()
        self._tell = tell
        self._heard = heard
        self._silence_seconds = silence_seconds
        self._told_at = loop.time()
        self._last: Event | None = None
        self._sending: asyncio.Future[None] | None = None
        self._awaited: asyncio.Future[None] | None = None

    def follow(self, events: JobEvents) -> None:
        """Tell of a job's events from now on."""
        self._events = events
        events.on_event = self._go_on
        self._go_on()

    def repeat_after_silence(self) -> float:
        """Tell the present state again if it is time to; return the seconds until it may be time again."""
        left = self._told_at + self._silence_seconds - asyncio.get_running_loop().time()
        if left > 0:
            return left
        # There is nothing to repeat while the store is away, and no use in it for a client that does not read.
        if self._last is not None and (self._sending is None or self._sending.done()):
            self._send(self._last.version, repeated(self._last.text))
        return self._silence_seconds

    def end(self, ending: Ending) -> None:
        """Tell nothing more, for this reason unless there was one before."""
        if not self.ended.done():
            self.ended.set_result(ending)

    def fail(self, error: BaseException) -> None:
        """Have whatever awaits the end meet an error instead, unless it has come."""
        if not self.ended.done():
            self.ended.set_exception(error)

    async def close(self) -> None:
        """Tell nothing more; return once nothing is on its way."""
        self.ended.cancel()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait((self._sending,))
            # Else it would be logged as never looked at.
            _ = self._sending.cancelled() or self._sending.exception()

    def _go_on(self, _: object = None) -> None:
        """Send the events that wait, each once the message before it has gone."""
        while not self.ended.done():
            is_last = self._last is not None and self._last.kind.final
            if not is_last and not self._events.waiting:
                return
            if self._sending is not None and not self._has_gone(self._sending):
                return
            if is_last:
                self.end(Ending.COMPLETE)
            else:
                self._tell_of(self._events.waiting.pop(0))

    def _has_gone(self, sending: asyncio.Future[None]) -> bool:
        """Tell whether a message has been sent; go on when it has, or end if it cannot be."""
        if not sending.done():
            if self._awaited is not sending:
                self._awaited = sending
                sending.add_done_callback(self._go_on)
            return False
        error = sending.exception()
        if isinstance(error, RuntimeError | OSError):
            self.end(Ending.LEFT)
        elif error is not None:
            self.fail(error)
        return error is None

    def _tell_of(self, event: Event) -> None:
        # A store that takes over from another may give later events the same numbers again.
        is_new = self._last is not None or event.version != self._heard
        self._last = event
        if is_new:
            self._send(event.version, event.text)

    def _send(self, version: int, text: str) -> None:
        self._told_at = asyncio.get_running_loop().time()
        try:
            # The server's own awaitables are futures, which need no task.
            self._sending = asyncio.ensure_future(self._tell(version, text))
        except (RuntimeError, OSError):
            self.end(Ending.LEFT)
        except Exception as error:
            self.fail(error)
