"""Slots that runs hold, wait for and give back, over a memory store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable, StorageBusy
from open_workshop_storage.core.store import Slot
from open_workshop_storage.services.transfers.slots import Slots
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.jobs import new_job
from tests.support.transfers import eventually

pytestmark = pytest.mark.anyio


class Store(MemoryJobStore):
    """A store that can be away.

    Attributes:
        renewed: The holders whose slots were renewed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.renewed: list[str] = []

    async def enter(self, slot: Slot, holder: str, limit: int, *, wait: bool, since: float | None = None) -> bool:
        if self.away:
            raise ServiceUnavailable
        return await super().enter(slot, holder, limit, wait=wait, since=since)

    async def leave(self, slot: Slot, holder: str, limit: int) -> None:
        if self.away:
            raise ServiceUnavailable
        await super().leave(slot, holder, limit)

    async def slot_granted(self, holder: str, timeout: float) -> None:
        await (asyncio.sleep(0.01) if self.away else super().slot_granted(holder, timeout))

    async def renew_slots(self, slot: Slot, holders: object) -> None:
        self.renewed += sorted(holders)  # type: ignore[call-overload]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def slots(store: Store, tmp_path: Path) -> Slots:
    limits = {f"transfer_{slot}_concurrency": 1 for slot in ("upload", "download", "repack")}
    return Slots(store, make_settings(tmp_path, Secrets(), **limits))


async def test_a_slot_that_a_save_took_is_given_back_at_the_end(slots: Slots, store: Store) -> None:
    first, second = slots.hold(Slot.UPLOAD, "first"), slots.hold(Slot.UPLOAD, "second")
    await store.save(new_job(), None, takes=first)
    async with slots.holding(first):
        assert slots.counts()[Slot.UPLOAD] == (1, 0)
        with pytest.raises(StorageBusy):
            await store.save(new_job(), None, takes=second)
    await store.save(new_job(), None, takes=second)
    assert set(slots.counts().values()) == {(0, 0)}


async def test_a_slot_that_a_save_is_to_give_back_stays_until_then_and_is_not_renewed(
    slots: Slots, store: Store
) -> None:
    hold = slots.hold(Slot.UPLOAD, "first")
    job = await store.save(new_job(), None, takes=hold)
    async with slots.holding(hold):
        assert slots.handed_on(hold) == hold
        await slots.renew()
    assert store.renewed == []
    with pytest.raises(StorageBusy):
        await store.save(new_job(), None, takes=slots.hold(Slot.UPLOAD, "second"))
    await store.save(job, None, leaves=hold)
    await store.save(new_job(), None, takes=slots.hold(Slot.UPLOAD, "second"))


async def test_runs_wait_in_the_order_of_their_jobs(slots: Slots) -> None:
    order = []

    async def use(holder: str, since: float) -> None:
        async with slots.in_turn(Slot.DOWNLOAD, holder, since):
            order.append(holder)

    async with slots.in_turn(Slot.DOWNLOAD, "first"), asyncio.TaskGroup() as group:
        group.create_task(use("younger", 2.0))
        group.create_task(use("older", 1.0))
        await eventually(lambda: slots.counts()[Slot.DOWNLOAD] == (1, 2))
        await slots._store.leave(Slot.DOWNLOAD, "first", 1)
    assert order == ["older", "younger"]


async def test_a_run_that_stops_waiting_leaves_the_queue(slots: Slots) -> None:
    async with slots.in_turn(Slot.REPACK, "first"):
        waiting = asyncio.create_task(slots.in_turn(Slot.REPACK, "second").__aenter__())
        await eventually(lambda: slots.counts()[Slot.REPACK] == (1, 1))
        waiting.cancel()
        await asyncio.wait([waiting])
        assert slots.counts()[Slot.REPACK] == (1, 0)
    async with slots.in_turn(Slot.REPACK, "third"):
        pass


async def test_waiting_outlives_an_absence_of_the_store(slots: Slots, store: Store) -> None:
    store.away = True

    async def use() -> None:
        async with slots.in_turn(Slot.REPACK, "holder"):
            pass

    using = asyncio.create_task(use())
    await eventually(lambda: slots.counts()[Slot.REPACK] == (0, 1))
    store.away = False
    await using


async def test_a_slot_is_given_up_though_the_store_is_away(slots: Slots, store: Store) -> None:
    async with slots.in_turn(Slot.UPLOAD, "holder"):
        store.away = True
    assert slots.counts()[Slot.UPLOAD] == (0, 0)


async def test_slots_in_use_are_renewed_and_waiting_runs_are_not(slots: Slots, store: Store) -> None:
    async with slots.in_turn(Slot.UPLOAD, "uploading"), slots.in_turn(Slot.REPACK, "repacking"):
        waiting = asyncio.create_task(slots.in_turn(Slot.REPACK, "waiting").__aenter__())
        await eventually(lambda: slots.counts()[Slot.REPACK] == (1, 1))
        await slots.renew()
        waiting.cancel()
        await asyncio.wait([waiting])
    assert sorted(store.renewed) == ["repacking", "uploading"]
