"""Clients that send files, slowly, and do not give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from open_workshop_storage.client import Moved
from tests.chaos.payloads import FILE_NAME, Payload
from tests.chaos.plan import PlannedTransfer
from tests.chaos.timeline import Timeline
from tests.support.client import upload
from tests.support.manager import Callback
from tests.support.origins import Request, reply
from tests.support.services import Services, Ticket

_PIECES = 12
_PAUSE_SECONDS = 1.0
_POLL_SECONDS = 0.1
_ETAG = '"v1"'
_MAY_PASS = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}


@dataclass
class Transfer:
    """A transfer under way.

    Attributes:
        path: Where its permanent file belongs, relative to the storage root.
        requests: How many calls have been made that may have begun an attempt.
    """

    planned: PlannedTransfer
    payload: Payload
    ticket: Ticket
    path: str
    requests: int = 0

    @property
    def name(self) -> str:
        """What notes call it."""
        return f"transfer {self.planned.number}:"


class SlowOrigin:
    """Serves each transfer's file as slowly as planned."""

    def __init__(self) -> None:
        self._transfers: dict[str, Transfer] = {}

    def serve(self, transfers: Sequence[Transfer]) -> None:
        """Serve the files of these transfers, each at the path that is its number."""
        self._transfers = {f"/{transfer.planned.number}": transfer for transfer in transfers}

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> bytes:
        transfer = self._transfers[request.target]
        content = transfer.payload.content
        first = 0
        if transfer.planned.way == "fetch without ranges":
            head = reply(200, length=len(content))
        elif request.headers.get("if-range") == _ETAG:
            first = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
            content_range = f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}"
            head = reply(206, f"ETag: {_ETAG}", content_range, length=len(content) - first)
        else:
            head = reply(200, f"ETag: {_ETAG}", length=len(content))
        writer.write(head)
        async for piece in slowly(content[first:], transfer.planned.seconds):
            writer.write(piece)
            await writer.drain()
        return b""


async def slowly(content: bytes, seconds: float) -> AsyncIterator[bytes]:
    """Yield a file in pieces, over so many seconds."""
    size = len(content) // _PIECES + 1
    for start in range(0, len(content), size):
        await asyncio.sleep(seconds / _PIECES)
        yield content[start : start + size]


class Sender:
    """Begins transfers again until they are seen to have ended as they must."""

    def __init__(self, services: Services, http: httpx.AsyncClient, timeline: Timeline) -> None:
        self._services = services
        self._http = http
        self._timeline = timeline

    async def send(self, transfer: Transfer) -> None:
        """Bring a transfer to its end; the caller limits its time."""
        attempt = self._upload if transfer.planned.way == "upload" else self._start
        while not self._has_ended(transfer):
            transfer.requests += 1
            try:
                answer = await attempt(transfer)
            except httpx.TransportError as error:
                self._timeline.note(f"{transfer.name} {error!r}")
            else:
                self._timeline.note(f"{transfer.name} {answer.status_code} {answer.text}")
                if answer.status_code not in _MAY_PASS or answer.text == "Upload already finished":
                    break
            await asyncio.sleep(_PAUSE_SECONDS)
        while not self._has_ended(transfer):
            await asyncio.sleep(_POLL_SECONDS)
        self._timeline.note(f"{transfer.name} has ended")

    async def _upload(self, transfer: Transfer) -> httpx.Response:
        body = slowly(transfer.payload.content, transfer.planned.seconds)
        return await upload(self._http, self._services.loader, transfer.ticket.token, body, FILE_NAME)

    async def _start(self, transfer: Transfer) -> httpx.Response:
        url = f"{self._services.loader}/transfer/start"
        return await self._http.get(url, params={"token": transfer.ticket.token})

    def _has_ended(self, transfer: Transfer) -> bool:
        callbacks = self._services.manager.callbacks(transfer.ticket.job_id)
        return any(is_settled(callback, transfer.payload) for callback in callbacks)


def is_settled(callback: Callback, payload: Payload) -> bool:
    """Return whether the Manager has heard of the end that a transfer must come to, and has done its part."""
    if payload.reason is not None:
        return callback.claims.get("reason") == payload.reason
    return isinstance(callback.move, Moved)
