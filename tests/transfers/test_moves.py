"""What the Manager does with packed files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from open_workshop_storage.core.changes import MoveBegun
from open_workshop_storage.core.errors import (
    InvalidType,
    JobMissing,
    PackedMissing,
    PathOutsideStorage,
    ServiceUnavailable,
)
from open_workshop_storage.core.job import Inner, Job, Stage
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.storage.files import Facts
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.jobs import SHA256, job_in
from tests.support.transfers import bench

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)
FINAL = "archive/mods/7/main.zip"


class AwayFor:
    """A store that cannot be reached a few times, and then can."""

    def __init__(self, store: JobStore, times: int) -> None:
        self.times = times
        self.save = store.save
        self._store = store

    async def get(self, job_id: str) -> Job | None:
        if self.times:
            self.times -= 1
            raise ServiceUnavailable
        return await self._store.get(job_id)


async def test_a_move_puts_the_file_in_its_place_and_is_answered_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        moved = await parts.moves.move(job.job_id, "archive", "mods/7/main.zip")
        assert (moved.state, moved.move_to, moved.moved_bytes, moved.owner) == (Inner.MOVED, FINAL, len(MOD), None)
        assert (tmp_path / FINAL).read_bytes() == MOD
        assert not parts.workspaces.folder(job.job_id).exists()
        assert await parts.moves.move(job.job_id, "archive", "mods/7/main.zip") == moved
        with pytest.raises(PackedMissing):
            await parts.moves.move(job.job_id, "archive", "mods/8/main.zip")


async def test_of_two_moves_at_once_one_moves_and_the_other_waits(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        moves = [parts.moves.move(job.job_id, "archive", "mods/7/main.zip") for _ in range(2)]
        first, second = await asyncio.gather(*moves)
        assert first == second == await parts.store.get(job.job_id)
        assert first.version == job.version + 2


@pytest.mark.parametrize("state", [*Stage, Inner.PAUSED])
async def test_only_a_packed_job_is_moved(tmp_path: Path, state: Stage | Inner) -> None:
    if state is Stage.PACKED:
        return
    async with bench(tmp_path) as parts:
        job = await parts.store.save(job_in(state), None)
        with pytest.raises(PackedMissing):
            await parts.moves.move(job.job_id, "archive", "mods/7/main.zip")
        assert await parts.store.get(job.job_id) == job


async def test_a_move_of_no_job_or_to_no_place_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        with pytest.raises(JobMissing):
            await parts.moves.move("job-unknown", "archive", "mods/7/main.zip")
        with pytest.raises(InvalidType):
            await parts.moves.move(job.job_id, "temp", "main.zip")
        with pytest.raises(PathOutsideStorage):
            await parts.moves.move(job.job_id, "archive", "../../main.zip")
        assert await parts.store.get(job.job_id) == job


async def test_a_move_that_fails_is_undone_and_may_be_said_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        file = parts.workspaces.folder(job.job_id) / "run" / "source"
        file.rename(tmp_path / "away")
        with pytest.raises(PackedMissing):
            await parts.moves.move(job.job_id, "archive", "mods/7/main.zip")
        undone = await parts.job(job.job_id)
        assert (undone.state, undone.move_to, undone.owner) == (Stage.PACKED, None, None)
        (tmp_path / "away").rename(file)
        assert (await parts.moves.move(job.job_id, "archive", "mods/8/main.zip")).state is Inner.MOVED


@pytest.mark.parametrize("in_place", [True, False])
async def test_a_move_that_a_dead_worker_began_is_carried_out_or_found_to_have_been(
    tmp_path: Path, in_place: bool
) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        moving = await parts.store.save(job.changed(MoveBegun(FINAL, "dead")), None)
        if in_place:
            (tmp_path / FINAL).parent.mkdir(parents=True)
            (parts.workspaces.folder(job.job_id) / "run" / "source").rename(tmp_path / FINAL)
        await parts.transfers.resume(await parts.store.save(moving.model_copy(update={"owner": "me"}), None))
        moved = await parts.job(job.job_id)
        assert (moved.state, moved.moved_bytes) == (Inner.MOVED, len(MOD))
        assert (tmp_path / FINAL).read_bytes() == MOD


@pytest.mark.parametrize("another", [b"another", b"x" * len(MOD)])
async def test_another_file_in_the_place_is_not_taken_for_a_moved_one(tmp_path: Path, another: bytes) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        moving = await parts.store.save(job.changed(MoveBegun(FINAL, "me")), None)
        source = parts.workspaces.folder(job.job_id) / "run" / "source"
        source.write_bytes(another)
        await parts.files.put(source, FINAL, Facts(9, SHA256))
        await parts.transfers.resume(moving)
        assert (await parts.job(job.job_id)).state is Stage.PACKED


async def test_a_move_waits_for_redis_and_the_storage_root_to_come_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with bench(root) as parts:
        job = await parts.packed(MOD)
        away = AwayFor(parts.store, 2)
        parts.moves._store = away  # type: ignore[assignment]
        root.rename(tmp_path / "unmounted")
        moving = asyncio.create_task(parts.moves.move(job.job_id, "archive", "mods/7/main.zip"))
        await asyncio.sleep(0.05)
        assert not moving.done()
        (tmp_path / "unmounted").rename(root)
        assert (await moving).state is Inner.MOVED
        assert away.times == 0


async def test_a_move_that_has_waited_long_enough_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with bench(root, transfer_move_wait_seconds=0.2) as parts:
        job = await parts.packed(MOD)
        root.rename(tmp_path / "unmounted")
        with pytest.raises(ServiceUnavailable):
            await parts.moves.move(job.job_id, "archive", "mods/7/main.zip")
        assert await parts.store.get(job.job_id) == job
        assert not root.exists()
