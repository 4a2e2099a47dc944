"""Slots of those that a client waits for; jobs without one wait in the store (docs/ARCHITECTURE.md, "Waiting")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.slots import Slot
from open_workshop_storage.core.store import RENEW_SECONDS, JobStore


class Slots:
    """The slots that this worker holds besides those of its jobs' records, each in the name of the run that uses it."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._held: dict[Slot, set[str]] = {slot: set() for slot in Slot}
        self._waiting: dict[Slot, set[str]] = {slot: set() for slot in Slot}

    def used(self) -> Mapping[Slot, int]:
        """Return how many of each kind this worker uses."""
        return {slot: len(holders) - len(self._waiting[slot]) for slot, holders in self._held.items()}

    @asynccontextmanager
    async def in_turn(self, slot: Slot, holder: str, since: float | None = None) -> AsyncIterator[None]:
        """Hold a slot, after a wait in the queue if all are taken, or for the store to come back.

        Args:
            since: Unix time, in seconds, that decides over the place in the queue; `None` for now.
        """
        self._held[slot].add(holder)
        self._waiting[slot].add(holder)
        try:
            while not await self._entered(slot, holder, since):
                await self._store.slot_granted(holder, RENEW_SECONDS)
            self._waiting[slot].discard(holder)
            yield
        finally:
            self._waiting[slot].discard(holder)
            self._held[slot].discard(holder)
            # Where the store is away it runs out by itself, since it is not renewed any more.
            with suppress(ServiceUnavailable):
                await self._store.leave(slot, holder)

    async def _entered(self, slot: Slot, holder: str, since: float | None) -> bool:
        try:
            return await self._store.enter(slot, holder, since)
        except ServiceUnavailable:
            return False

    async def renew(self) -> None:
        """Keep the slots that this worker uses for another lease; waiting runs ask again by themselves."""
        for slot, held in self._held.items():
            users = held - self._waiting[slot]
            if not users:
                continue
            await self._store.renew_slots(slot, users)
            # One that was given back during the call may have been counted again.
            for user in users - held:
                await self._store.leave(slot, user)
