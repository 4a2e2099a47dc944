"""One client's view of one job, over a WebSocket or a stream of events (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from starlette.types import Receive

from open_workshop_storage.api.telling import Ending, Tell, Telling
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.services.runtime import Runtime


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
        telling = Telling(tell, self._heard)
        async with AsyncExitStack() as stack:
            # A task of its own, to be ended with its client: it waits for a store that is away.
            watching: asyncio.Future[Ending] | asyncio.Task[Ending | None] = asyncio.create_task(
                self._begin(telling, stack)
            )
            receiving = asyncio.ensure_future(receive())
            try:
                while True:
                    awaited = (watching, receiving, told_to_stop)
                    timeout = min(self._next_check_seconds(), telling.repeat_after_silence())
                    await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                    if watching.done():
                        if (ending := watching.result()) is not None:
                            return ending
                        watching = telling.ended
                    elif told_to_stop.done():
                        return Ending.STOPPING
                    elif not receiving.done():
                        if not await self.is_allowed():
                            return Ending.NOT_ALLOWED
                    elif receiving.result()["type"].endswith(".disconnect"):
                        return Ending.LEFT
                    else:
                        receiving = asyncio.ensure_future(receive())
            finally:
                # The server's close never completes while something of the connection waits in receive().
                watching.cancel()
                receiving.cancel()
                await asyncio.wait((watching, receiving))
                await telling.close()

    async def _begin(self, telling: Telling, stack: AsyncExitStack) -> Ending | None:
        try:
            telling.follow(await stack.enter_async_context(self._runtime.store.watch(self._job_id)))
        except ServiceUnavailable:
            return Ending.AWAY
        return None

    def _next_check_seconds(self) -> float:
        left = self._expires_at - time.time()
        return max(left if left > 0 else left + self._runtime.settings.transfer_resume_seconds, 0) + 0.001
