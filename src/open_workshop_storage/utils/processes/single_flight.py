"""Does work once for all callers that want its result at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class SingleFlight(Generic[Key, Result]):
    """Shares the result of one call among the callers that come with the same key while it runs."""

    def __init__(self) -> None:
        # A future is cancelled if the caller that does the work fails.
        self._flights: dict[Key, asyncio.Future[Result]] = {}

    async def run(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do the work, or wait for another caller that is doing it, and return its result.

        A caller that fails or is cancelled fails alone: one of the callers that waited does the work then.

        Raises:
            Exception: Whatever the work raised when this caller did it.
        """
        while (flight := self._flights.get(key)) is not None:
            await asyncio.wait([flight])
            if not flight.cancelled():
                return flight.result()
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            result = await work()
            flight.set_result(result)
            return result
        finally:
            del self._flights[key]
            flight.cancel()
