"""One client's view of one job, over a WebSocket or a stream of events (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum, auto

from starlette.types import Receive

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import Event, repeated
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

    Args:
        expires_at: Unix time at which the client's token expires.
        heard: The version of the last message that it has heard over an earlier connection.
    """

    __slots__ = ("_runtime", "_job_id", "_expires_at", "_heard")

    def __init__(self, runtime: Runtime, job_id: str, expires_at: float, heard: int | None = None) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._expires_at = expires_at
        self._heard = heard

    async def is_allowed(self) -> bool:
        """Tell whether the token allows to watch the job now (docs/API.md, "Transfer tokens").

        One that has expired does so while its job has not ended, for `TRANSFER_RESUME_SECONDS` at most.
        """
        expired_seconds = time.time() - self._expires_at
        if expired_seconds <= 0:
            return True
        if expired_seconds > self._runtime.settings.transfer_resume_seconds:
            return False
        try:
            job = await self._runtime.store.get(self._job_id)
        except ServiceUnavailable:
            # The client waits for Redis as others do.
            return True
        return job is not None and not job.ended

    async def tell_until_end(self, tell: Tell, receive: Receive) -> Ending:
        """Tell the client of events until the last one, or until it leaves or has to."""
        told_to_stop = self._runtime.lifetime.told_to_stop
        # A task of its own, to be ended with its client: it waits for a store that is away.
        telling = asyncio.create_task(self._tell(tell))
        receiving = asyncio.ensure_future(receive())
        try:
            while True:
                awaited = (telling, receiving, told_to_stop)
                await asyncio.wait(awaited, timeout=self._next_check_seconds(), return_when=asyncio.FIRST_COMPLETED)
                if telling.done():
                    return telling.result()
                if told_to_stop.done():
                    return Ending.STOPPING
                if not receiving.done():
                    if not await self.is_allowed():
                        return Ending.NOT_ALLOWED
                elif receiving.result()["type"].endswith(".disconnect"):
                    return Ending.LEFT
                else:
                    receiving = asyncio.ensure_future(receive())
        finally:
            # The server's close never completes while something of the connection waits in receive().
            telling.cancel()
            receiving.cancel()
            await asyncio.wait((telling, receiving))

    def _next_check_seconds(self) -> float:
        left = self._expires_at - time.time()
        return max(left if left > 0 else left + self._runtime.settings.transfer_resume_seconds, 0) + 0.001

    async def _tell(self, tell: Tell) -> Ending:
        try:
            async with self._runtime.store.watch(self._job_id) as events:
                return await tell_all(tell, events, self._heard)
        except ServiceUnavailable:
            return Ending.AWAY


async def tell_all(
    tell: Tell, events: AsyncIterator[Event], heard: int | None = None, silence_seconds: float = _SILENCE_SECONDS
) -> Ending:
    """Tell a client of events until the last one, or until it has left.

    Args:
        heard: The version that it has heard of; it is not told of it again if nothing has changed.
        silence_seconds: After so long without a message the present state is sent again.
    """
    event: Event | None = None
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                following = await anext(events)
            # A store that takes over from another may give later events the same numbers again.
            text, is_new = following.text, event is not None or following.version != heard
            event, is_final = following, following.kind.final
        except TimeoutError:
            # Nothing to repeat yet: the store is away.
            if event is None:
                continue
            text, is_new, is_final = repeated(event.text), True, False
        if is_new:
            try:
                await tell(event.version, text)
            except (RuntimeError, OSError):
                return Ending.LEFT
        if is_final:
            return Ending.COMPLETE
