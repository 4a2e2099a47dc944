"""Concurrency limits over all workers that share a store (docs/CONFIGURATION.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from open_workshop_storage.core.errors import ServiceUnavailable, StorageBusy
from open_workshop_storage.core.leases import RENEW_SECONDS
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore, Slot


def slot_limits(settings: Settings) -> Mapping[str, int]:
    """Return how many slots of each kind there are; 0 for any number."""
    return {
        Slot.UPLOAD: settings.transfer_upload_concurrency,
        Slot.DOWNLOAD: settings.transfer_download_concurrency,
        Slot.REPACK: settings.transfer_repack_concurrency,
        # A queue of their own, but no other limit: a decoder takes a core and memory as 7z does.
        Slot.IMAGE: settings.transfer_repack_concurrency,
    }


class Slots:
    """The slots that this worker holds, each in the name of the run that uses it."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._limits = slot_limits(settings)
        self._held: dict[Slot, set[str]] = {slot: set() for slot in Slot}
        self._waiting: dict[Slot, set[str]] = {slot: set() for slot in Slot}

    def counts(self) -> dict[Slot, tuple[int, int]]:
        """Return how many of each slot this worker uses, and how many of its jobs wait for one."""
        waiting = {slot: len(holders) for slot, holders in self._waiting.items()}
        return {slot: (len(holders) - waiting[slot], waiting[slot]) for slot, holders in self._held.items()}

    @asynccontextmanager
    async def at_once(self, slot: Slot, holder: str) -> AsyncIterator[None]:
        """Hold a slot that is free now.

        Raises:
            StorageBusy: All are taken.
            ServiceUnavailable: The store is away.
        """
        if not await self._store.enter(slot, holder, self._limits[slot], wait=False):
            raise StorageBusy
        async with self._holding(slot, holder):
            yield

    @asynccontextmanager
    async def in_turn(self, slot: Slot, holder: str, since: float | None = None) -> AsyncIterator[None]:
        """Hold a slot, after a wait in the queue if all are taken, or for the store to come back.

        Args:
            since: Unix time, in seconds, that decides over the place in the queue; `None` for now.
        """
        async with self._holding(slot, holder):
            self._waiting[slot].add(holder)
            try:
                while not await self._entered(slot, holder, since):
                    await self._store.slot_granted(holder, RENEW_SECONDS)
            finally:
                self._waiting[slot].discard(holder)
            yield

    async def _entered(self, slot: Slot, holder: str, since: float | None) -> bool:
        try:
            return await self._store.enter(slot, holder, self._limits[slot], wait=True, since=since)
        except ServiceUnavailable:
            return False

    @asynccontextmanager
    async def _holding(self, slot: Slot, holder: str) -> AsyncIterator[None]:
        self._held[slot].add(holder)
        try:
            yield
        finally:
            self._held[slot].discard(holder)
            try:
                await self._store.leave(slot, holder, self._limits[slot])
            except ServiceUnavailable:
                # It runs out by itself, since it is not renewed any more.
                pass

    async def renew(self) -> None:
        """Keep the slots that this worker uses for another lease; waiting runs ask again by themselves."""
        for slot, held in self._held.items():
            users = held - self._waiting[slot]
            if not users:
                continue
            await self._store.renew_slots(slot, users)
            # One that was given back during the call may have been counted again.
            for user in users - held:
                await self._store.leave(slot, user, self._limits[slot])
