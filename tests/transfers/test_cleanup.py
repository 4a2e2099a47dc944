"""What the cleanup removes, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.changes import Owned
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import UploadTimedOut
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import SCHEMA, Inner, Job, Stage, State
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers import cleanup
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.client import eventually
from tests.support.jobs import job_in
from tests.support.object_store import settings_of
from tests.support.transfers import Bench, bench

pytestmark = pytest.mark.anyio

JOB_ID = "job-that-comes-again"
AWAY = "http://127.0.0.1:9/"


class Store(MemoryJobStore):
    """A new job of the same name begins in the very moment in which the store says that there is none."""

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self._run = workspace / "new-run"

    def _begin(self) -> None:
        self._run.mkdir(parents=True)
        (self._run / "source").write_bytes(b"new")

    async def get(self, job_id: str) -> Job | None:
        job = await super().get(job_id)
        if job is None:
            self._begin()
        return job

    async def remove(self, job: Job) -> None:
        await super().remove(job)
        self._begin()


async def test_packed_files_in_a_bucket_go_with_their_jobs(tmp_path: Path, bucket: Credentials) -> None:
    names: dict[str, Any] = {
        name.lower(): value for name, value in settings_of(bucket, S3_PREFIX=uuid.uuid4().hex).items()
    }
    async with bench(tmp_path, job_ttl_seconds=0.01, **names) as parts:
        job = await parts.store.save(job_in(Stage.PACKED), None)
        for job_id in (job.job_id, "stray-job"):
            packed = parts.workspaces.folder(job_id) / "run" / "packed.zip"
            packed.parent.mkdir(parents=True)
            packed.write_bytes(b"packed")
            await parts.staging.stage(job_id, "run/packed.zip", Facts())
        assert {*await parts.staging.idle(-60)} == {job.job_id, "stray-job"}
        # The store tells whole seconds.
        await asyncio.sleep(1.1)
        await parts.cleanup.clean()
        assert await parts.staging.idle(-60) == []
        assert await parts.store.get(job.job_id) is None


@pytest.mark.parametrize("stray", [True, False])
async def test_files_of_a_job_that_begins_while_an_old_one_is_forgotten_stay(stray: bool, tmp_path: Path) -> None:
    workspace = Workspaces(tmp_path).folder(JOB_ID)
    old = workspace / "old-run"
    old.mkdir(parents=True)
    (old / "source").write_bytes(b"old")
    (workspace / "file").write_bytes(b"old")
    store = Store(workspace)
    if not stray:
        claims = TransferClaims(job_id=JOB_ID)
        job = Job(job_id=JOB_ID, claims=claims, origin="upload", file_name="a", stage=Stage.ERROR, updated_at=1)
        await store.save(job, None)
    else:
        for path in (workspace / "file", old, workspace):
            os.utime(path, (1, 1))
    async with bench(tmp_path, store=store, job_ttl_seconds=60) as parts:
        await parts.cleanup.clean()
    assert [path.relative_to(workspace).as_posix() for path in workspace.rglob("*")] == ["new-run", "new-run/source"]


def old_workspace(parts: Bench, job_id: str) -> Path:
    workspace = parts.workspaces.folder(job_id)
    (workspace / "run").mkdir(parents=True)
    for path in (workspace / "run", workspace):
        os.utime(path, (1, 1))
    return workspace


def aged(job: Job, seconds: float) -> Job:
    return job.model_copy(update={"updated_at": time.time() - seconds})


@pytest.mark.parametrize("state", [*Stage, *Inner])
async def test_jobs_go_once_they_have_ended_and_not_before(tmp_path: Path, state: State) -> None:
    async with bench(tmp_path, job_ttl_seconds=60) as parts:
        job = await parts.store.save(aged(job_in(state), 600), None)
        fresh = await parts.store.save(job_in(Stage.ERROR), None)
        workspace = old_workspace(parts, job.job_id)
        await parts.cleanup.clean()
        goes = state in (Stage.PACKED, Inner.MOVED, Stage.ERROR)
        assert (await parts.store.get(job.job_id) is None) is goes is not workspace.exists()
        assert await parts.store.get(fresh.job_id) == fresh


async def test_a_packed_job_stays_until_the_manager_has_heard_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path, job_ttl_seconds=60) as parts:
        job = aged(job_in(Stage.PACKED), 600)
        callback = callback_of(job)
        await parts.store.save(job, EventKind.COMPLETE, callback)
        await parts.cleanup.clean()
        kept = await parts.job(job.job_id)
        assert kept.updated_at > job.updated_at
        await parts.store.outbox.settle(callback)
        await parts.store.save(aged(kept, 600), None)
        await parts.cleanup.clean()
        assert await parts.store.get(job.job_id) is None


async def test_an_upload_that_was_paused_for_too_long_ends_with_a_report_and_leaves_no_files(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_resume_seconds=60) as parts:
        job = await parts.store.save(aged(job_in(Inner.PAUSED), 61), None)
        paused = await parts.store.save(aged(job_in(Inner.PAUSED), 59), None)
        workspace = old_workspace(parts, job.job_id)
        await parts.cleanup.clean()
        ended = await parts.job(job.job_id)
        assert (ended.stage, ended.reason, ended.message) == (Stage.ERROR, "timeout", "Upload timed out")
        assert not workspace.exists()
        assert await parts.store.get(paused.job_id) == paused
        await eventually(lambda: parts.manager.requests)


@pytest.mark.parametrize("state", [Inner.PAUSED, Stage.ERROR])
async def test_all_whose_time_is_over_go_at_once(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "_AT_ONCE", 10)
    async with bench(tmp_path, transfer_resume_seconds=60, job_ttl_seconds=60) as parts:
        for _ in range(25):
            await parts.store.save(aged(job_in(state), 600), None)
        await parts.cleanup.clean()
        assert await parts.store.paused(60, 1) == await parts.store.idle(60, 1) == []


async def test_a_manager_that_is_away_is_not_buried_under_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "_AT_ONCE", 10)
    async with bench(tmp_path, transfer_resume_seconds=60, manager_transfer_callback_url=AWAY) as parts:
        for _ in range(25):
            await parts.store.save(aged(job_in(Inner.PAUSED), 600), None)
        await parts.cleanup.clean()
        assert len(await parts.store.paused(60, 25)) == 15
        await parts.cleanup.clean()
        assert len(await parts.store.paused(60, 25)) == 5


async def test_a_paused_upload_that_a_request_has_claimed_is_not_ended(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        paused = await parts.store.save(job_in(Inner.PAUSED), None)
        claimed = await parts.store.save(paused.changed(Owned("request")), None)
        await parts.attempts.end_waiting(paused, UploadTimedOut())
        assert await parts.store.get(paused.job_id) == claimed
        assert await parts.store.outbox.pending() == (0, 0)


async def test_jobs_that_a_newer_version_wrote_keep_their_workspaces_and_hold_up_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    async with (
        redis_client(redis_url) as redis,
        bench(tmp_path, store=RedisJobStore(redis, prefix, keep_seconds=60), job_ttl_seconds=0.001) as parts,
    ):
        newer = await parts.store.save(job_in(Stage.ERROR), None)
        await redis.hset(f"{prefix}:job:{newer.job_id}", "schema", SCHEMA + 1)
        workspace = old_workspace(parts, newer.job_id)
        stray = old_workspace(parts, "job-stray")
        await asyncio.sleep(0.01)
        await parts.cleanup.clean()
        assert workspace.exists() and not stray.exists()
        assert await redis.hget(f"{prefix}:job:{newer.job_id}", "schema") == str(SCHEMA + 1)


async def test_what_the_last_process_left_goes_and_what_has_come_since_stays(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.store.save(job_in(Stage.UPLOADING), None)
        workspaces = [parts.workspaces.folder(name) for name in (job.job_id, "job-of-the-last-process")]
        for workspace in workspaces:
            (workspace / "run").mkdir(parents=True)
        await parts.cleanup.remove_strays(0)
        assert [workspace.exists() for workspace in workspaces] == [True, False]
