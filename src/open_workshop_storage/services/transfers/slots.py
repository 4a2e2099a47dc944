"""Concurrency limits over all workers that share a store (docs/CONFIGURATION.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.leases import RENEW_SECONDS
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import Hold, JobStore, Slot


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

    def hold(self, slot: Slot, holder: str) -> Hold:
        """Return a hold on a slot, for the save of a job to take."""
        return Hold(slot, holder, self._limits[slot])

    @asynccontextmanager
    async def holding(self, hold: Hold) -> AsyncIterator[None]:
        """Keep a slot that has been taken, and give it back."""
        slot, holder, limit = hold
        self._held[slot].add(holder)
        try:
            yield
        finally:
            if holder in self._held[slot]:
                self._held[slot].discard(holder)
                # Else it runs out by itself, since it is not renewed any more.
                with suppress(ServiceUnavailable):
                    await self._store.leave(slot, holder, limit)

    def handed_on(self, hold: Hold) -> Hold:
        """Return a hold for the save of a job to give back, which the end of `holding` then does not."""
        self._held[hold.slot].discard(hold.holder)
        return hold

    @asynccontextmanager
    async def in_turn(self, slot: Slot, holder: str, since: float | None = None) -> AsyncIterator[None]:
        """Hold a slot, after a wait in the queue if all are taken, or for the store to come back.

        Args:
            since: Unix time, in seconds, that decides over the place in the queue; `None` for now.
        """
        async with self.holding(self.hold(slot, holder)):
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
