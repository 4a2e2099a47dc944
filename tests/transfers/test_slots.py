"""Slots that runs hold, wait for and give back, over a memory store."""

from __future__ import annotations

import asyncio

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.slots import Slot
from open_workshop_storage.services.transfers.slots import Slots
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.transfers import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.anyio


class Store(MemoryJobStore):
    """A store that can be away.

    Attributes:
        refused: How often it was asked while it was away.
        renewed: The holders whose slots were renewed.
    """

    def __init__(self) -> None:
        super().__init__({slot: 1 for slot in Slot})
        self.away = False
        self.refused = 0
        self.renewed: list[str] = []

    async def enter(self, slot: Slot, holder: str, since: float | None = None) -> bool:
        if self.away:
            self.refused += 1
            raise ServiceUnavailable
        return await super().enter(slot, holder, since)

    async def leave(self, slot: Slot, holder: str) -> None:
        if self.away:
            raise ServiceUnavailable
        await super().leave(slot, holder)

    async def slot_granted(self, holder: str, timeout: float) -> None:
        await (asyncio.sleep(0.01) if self.away else super().slot_granted(holder, timeout))

    async def renew_slots(self, slot: Slot, holders: object) -> None:
        self.renewed += sorted(holders)  # type: ignore[call-overload]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def slots(store: Store) -> Slots:
    return Slots(store)


async def waits(slots: Slots, slot: Slot, holders: int = 1) -> None:
    """Return once so many holders wait."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await slots._store.waiting())[slot] != holders:
            await asyncio.sleep(0.01)


async def test_runs_wait_in_the_order_of_their_jobs(slots: Slots) -> None:
    order = []

    async def use(holder: str, since: float) -> None:
        async with slots.in_turn(Slot.DOWNLOAD, holder, since):
            order.append(holder)

    async with slots.in_turn(Slot.DOWNLOAD, "first"), asyncio.TaskGroup() as group:
        group.create_task(use("younger", 2.0))
        group.create_task(use("older", 1.0))
        await waits(slots, Slot.DOWNLOAD, 2)
        assert slots.used()[Slot.DOWNLOAD] == 1
        await slots._store.leave(Slot.DOWNLOAD, "first")
    assert order == ["older", "younger"]


async def test_a_run_that_stops_waiting_leaves_the_queue(slots: Slots, store: Store) -> None:
    async with slots.in_turn(Slot.REPACK, "first"):
        waiting = asyncio.create_task(slots.in_turn(Slot.REPACK, "second").__aenter__())
        await waits(slots, Slot.REPACK)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await store.waiting() == {slot: 0 for slot in Slot}
    async with slots.in_turn(Slot.REPACK, "third"):
        pass


async def test_waiting_outlives_an_absence_of_the_store(slots: Slots, store: Store) -> None:
    store.away = True

    async def use() -> None:
        async with slots.in_turn(Slot.REPACK, "holder"):
            pass

    using = asyncio.create_task(use())
    await eventually(lambda: store.refused)
    store.away = False
    await using


async def test_a_slot_is_given_up_though_the_store_is_away(slots: Slots, store: Store) -> None:
    async with slots.in_turn(Slot.UPLOAD, "holder"):
        store.away = True
    assert slots.used()[Slot.UPLOAD] == 0


async def test_slots_in_use_are_renewed_and_waiting_runs_are_not(slots: Slots, store: Store) -> None:
    async with slots.in_turn(Slot.UPLOAD, "uploading"), slots.in_turn(Slot.REPACK, "repacking"):
        waiting = asyncio.create_task(slots.in_turn(Slot.REPACK, "waiting").__aenter__())
        await waits(slots, Slot.REPACK)
        await slots.renew()
        waiting.cancel()
        await asyncio.wait([waiting])
    assert sorted(store.renewed) == ["repacking", "uploading"]
