"""Shares one piece of work among all callers that want its result at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class SingleFlight(Generic[Key, Result]):
    """Lets callers that ask for the same thing at the same time share one answer."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Result]] = {}

    async def run(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do the work, or wait for another caller that is doing it, and return its result.

        A caller that fails or is cancelled fails alone: one of the callers that waited does the work then.

        Raises:
            Exception: Whatever the work raised when this caller did it.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.ended.wait()
            if flight.results:
                return flight.results[0]
        flight = self._flights[key] = _Flight()
        try:
            result = await work()
            flight.results.append(result)
            return result
        finally:
            del self._flights[key]
            flight.ended.set()


class _Flight(Generic[Result]):
    """Work that others wait for; it ends without a result when its caller fails."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.results: list[Result] = []
