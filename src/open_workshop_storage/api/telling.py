"""Tells one client of a job's events (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from open_workshop_storage.core.events import Event, repeated
from open_workshop_storage.core.store import JobEvents

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
