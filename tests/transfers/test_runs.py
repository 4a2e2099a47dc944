"""The jobs and slots that a worker holds, and what becomes of them when it is about to go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from open_workshop_storage.core.changes import Owned, Packed
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.job import Slot, Stage
from open_workshop_storage.core.store import StaleJobError
from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.client import eventually
from tests.support.jobs import job_in, new_job
from tests.support.transfers import PATIENCE_SECONDS, bench

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
async def runs(store: Store, tmp_path: Path) -> AsyncIterator[Runs]:
    async with bench(tmp_path, store=store) as parts:
        yield parts.runs


async def waits(runs: Runs, slot: Slot, holders: int = 1) -> None:
    """Return once so many holders wait."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await runs._store.waiting())[slot] != holders:
            await asyncio.sleep(0.01)


async def forever() -> Packed:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_run_that_lost_its_job_leaves_record_and_files_to_its_successor(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.REPACKING))
        successor = await parts.store.save(run.job.changed(Owned("successor")), None)
        working = asyncio.create_task(parts.attempts.carry_out(run, forever()))
        await asyncio.sleep(0)
        await parts.runs.renew()
        with pytest.raises(ServiceUnavailable):
            await working
        assert await parts.store.get(run.job.job_id) == successor
        assert (run.folder / "source").exists()
        assert parts.manager.requests == []


async def test_a_second_run_at_a_job_in_one_worker_ends_the_first(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.REPACKING))
        working = asyncio.create_task(parts.attempts.carry_out(run, forever()))
        await asyncio.sleep(0)
        parts.runs.begin_run(await parts.store.save(run.job.changed(Owned("successor")), None))
        with pytest.raises(ServiceUnavailable):
            await working


async def test_a_stopping_worker_hands_fetches_over_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(new_job(origin="url", stage=Stage.DOWNLOADING, owner="me"))
        working = asyncio.create_task(parts.attempts.carry_out(run, forever()))
        await asyncio.sleep(0)
        await parts.runs.stop(20)
        with pytest.raises(ServiceUnavailable):
            await working
        taken = await parts.taken("other")
        assert (taken.stage, taken.owner) == (Stage.DOWNLOADING, "other")
        assert parts.manager.requests == []


async def test_a_stopping_worker_hands_received_uploads_over_and_ends_the_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        received = await parts.held(job_in(Stage.UPLOADED).model_copy(update={"source_file": "me/source"}))
        coming = await parts.held(job_in(Stage.UPLOADING))
        working = [asyncio.create_task(parts.attempts.carry_out(run, forever())) for run in (received, coming)]
        await asyncio.sleep(0)
        await parts.runs.stop(0)
        assert [type(task.exception()) for task in working] == [ServiceUnavailable] * 2
        assert (await parts.taken("other")).job_id == received.job.job_id
        assert await parts.store.take("another") is None
        assert (await parts.job(coming.job.job_id)).stage is Stage.ERROR


async def test_a_stop_waits_for_clients_that_are_attended_to(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with parts.lifetime.holding_socket("job-7f3a9c21"):
            assert parts.lifetime.open_sockets == 1
            stopping = asyncio.create_task(parts.runs.stop(20))
            await eventually(parts.lifetime.stopping.is_set)
            assert not stopping.done()
        await stopping
        assert parts.lifetime.open_sockets == 0


async def test_a_lost_record_is_told_apart_from_a_removed_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.UPLOADING))
        working = asyncio.create_task(parts.attempts.carry_out(run, forever()))
        await asyncio.sleep(0)
        await parts.store.remove(run.job)
        with pytest.raises(StaleJobError):
            await parts.store.restore(run.job)
        await parts.runs.renew()
        with pytest.raises(ServiceUnavailable):
            await working


async def test_runs_wait_in_the_order_of_their_jobs(runs: Runs) -> None:
    order = []

    async def use(holder: str, since: float) -> None:
        async with runs.in_turn(Slot.DOWNLOAD, holder, since):
            order.append(holder)

    async with runs.in_turn(Slot.DOWNLOAD, "first"), asyncio.TaskGroup() as group:
        group.create_task(use("younger", 2.0))
        group.create_task(use("older", 1.0))
        await waits(runs, Slot.DOWNLOAD, 2)
        assert runs.slots[Slot.DOWNLOAD] == 1
        await runs._store.leave(Slot.DOWNLOAD, "first")
    assert order == ["older", "younger"]


async def test_a_run_that_stops_waiting_leaves_the_queue(runs: Runs, store: Store) -> None:
    async with runs.in_turn(Slot.REPACK, "first"):
        waiting = asyncio.create_task(runs.in_turn(Slot.REPACK, "second").__aenter__())
        await waits(runs, Slot.REPACK)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await store.waiting() == {slot: 0 for slot in Slot}
    async with runs.in_turn(Slot.REPACK, "third"):
        pass


async def test_waiting_outlives_an_absence_of_the_store(runs: Runs, store: Store) -> None:
    store.away = True

    async def use() -> None:
        async with runs.in_turn(Slot.REPACK, "holder"):
            pass

    using = asyncio.create_task(use())
    await eventually(lambda: store.refused)
    store.away = False
    await using


async def test_a_slot_is_given_up_though_the_store_is_away(runs: Runs, store: Store) -> None:
    async with runs.in_turn(Slot.UPLOAD, "holder"):
        store.away = True
    assert runs.slots[Slot.UPLOAD] == 0


async def test_slots_in_use_are_renewed_and_waiting_runs_are_not(runs: Runs, store: Store) -> None:
    async with runs.in_turn(Slot.UPLOAD, "uploading"), runs.in_turn(Slot.REPACK, "repacking"):
        waiting = asyncio.create_task(runs.in_turn(Slot.REPACK, "waiting").__aenter__())
        await waits(runs, Slot.REPACK)
        await runs.renew_slots()
        waiting.cancel()
        await asyncio.wait([waiting])
    assert sorted(store.renewed) == ["repacking", "uploading"]
