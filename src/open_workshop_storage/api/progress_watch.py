"""One client's view of one job, over a WebSocket or a stream of events (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive

from open_workshop_storage.api.telling import Ending, Tell, Telling
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.store import JobEvents
from open_workshop_storage.services.runtime import Runtime


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
        self._asking.add_done_callback(self._asked)

    def _asked(self, asking: asyncio.Future[None]) -> None:
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
