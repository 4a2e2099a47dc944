"""A client of Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.support.client import PATIENCE_SECONDS, Message


@dataclass(frozen=True)
class Told:
    """One event of a stream."""

    id: int
    message: Message


class Stream:
    """An open stream, read as `EventSource` does (HTML Standard, "Server-sent events")."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> Told | None:
        """Return the next event, None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in self._lines:
                if not line:
                    assert fields.keys() == {"id", "data"}, fields
                    return Told(int(fields["id"]), json.loads(fields["data"]))
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        return None

    async def rest(self) -> list[Told]:
        """Return all further events."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def streaming(
    http: httpx.AsyncClient, loader_url: str, job_id: str, token: str, heard: int | None = None
) -> AsyncIterator[Stream]:
    """Hold a stream that was answered 200."""
    headers = {} if heard is None else {"Last-Event-ID": str(heard)}
    url = f"{loader_url}/transfer/events/{job_id}"
    async with http.stream("GET", url, params={"token": token}, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield Stream(answer)
