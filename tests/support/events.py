"""Reads a job's events as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from open_workshop_storage.core.events import Event
from open_workshop_storage.core.store import JobEvents, JobStore


async def following(events: JobEvents) -> AsyncIterator[Event]:
    """Yield events without end."""
    come = asyncio.Event()
    events.on_event = come.set
    while True:
        while events.waiting:
            yield events.waiting.pop(0)
        come.clear()
        await come.wait()


@asynccontextmanager
async def watched(store: JobStore, job_id: str) -> AsyncIterator[AsyncIterator[Event]]:
    """Follow a job of a store."""
    events = await store.watch(job_id)
    try:
        yield following(events)
    finally:
        await store.unwatch(job_id, events)
