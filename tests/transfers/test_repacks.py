"""Packed files that the Manager has packed again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import JobMissing, NoSpace, SourceMissing, UnsupportedFormat, UploadInProgress
from open_workshop_storage.core.job import Inner, Stage
from tests.support.archives import SMALL_MOD, entries_of, zip_of
from tests.support.client import eventually
from tests.support.jobs import job_in, new_job
from tests.support.transfers import bench

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)


async def test_a_repack_takes_the_place_of_the_packed_file(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        again = await parts.repacks.repack(job.job_id, 0)
        assert again.packed_file != job.packed_file
        file = parts.workspaces.folder(job.job_id) / str(again.packed_file)
        assert entries_of(file.read_bytes()) == SMALL_MOD
        assert again.unpacked_bytes == sum(map(len, SMALL_MOD.values()))
        assert again.packed_bytes == file.stat().st_size
        await eventually(lambda: list(file.parent.iterdir()) == [file])
        assert parts.manager.requests == []


async def test_of_two_repacks_of_one_file_the_last_one_counts(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.packed(MOD)
        await asyncio.gather(*(parts.repacks.repack(job.job_id, level) for level in (0, 9)))
        kept = await parts.job(job.job_id)
        assert (parts.workspaces.folder(job.job_id) / str(kept.packed_file)).stat().st_size == kept.packed_bytes


async def test_what_cannot_be_repacked_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(JobMissing):
            await parts.repacks.repack("job-unknown", None)
        busy = await parts.store.save(job_in(Stage.UPLOADED).model_copy(update={"source_file": "me/source"}), None)
        with pytest.raises(UploadInProgress):
            await parts.repacks.repack(busy.job_id, None)
        for state in (Inner.MOVED, Stage.ERROR, Stage.UPLOADING):
            without_a_source = await parts.store.save(job_in(state), None)
            with pytest.raises(SourceMissing):
                await parts.repacks.repack(without_a_source.job_id, None)
        lost = await parts.packed(MOD)
        (parts.workspaces.folder(lost.job_id) / str(lost.source_file)).unlink()
        with pytest.raises(SourceMissing):
            await parts.repacks.repack(lost.job_id, None)
        image = await parts.packed(MOD, claims=new_job({"transfer_kind": "img", "storage_type": "avatar"}).claims)
        with pytest.raises(UnsupportedFormat):
            await parts.repacks.repack(image.job_id, None)


async def test_a_repack_that_fails_leaves_the_job_and_no_files(tmp_path: Path) -> None:
    async with bench(tmp_path, storage_reserve_bytes=2**60) as parts:
        job = await parts.packed(MOD)
        with pytest.raises(NoSpace):
            await parts.repacks.repack(job.job_id, None)
        assert await parts.store.get(job.job_id) == job
        assert [folder.name for folder in parts.workspaces.folder(job.job_id).iterdir()] == ["run"]
