"""What the cleanup removes, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path

import pytest

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import SCHEMA, Inner, Job, Stage, State
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.cleanup import Cleanup
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.jobs import job_in

pytestmark = pytest.mark.anyio

JOB_ID = "job-that-comes-again"


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


@pytest.mark.parametrize("stray", [True, False])
async def test_files_of_a_job_that_begins_while_an_old_one_is_forgotten_stay(stray: bool, tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path)
    workspace = workspaces.folder(JOB_ID)
    settings = make_settings(tmp_path, Secrets(), job_ttl_seconds=60)
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
    await Cleanup(settings, store, LocalFiles(tmp_path), workspaces).clean()
    assert [path.relative_to(workspace).as_posix() for path in workspace.rglob("*")] == ["new-run", "new-run/source"]


async def old_workspace(workspaces: Workspaces, job_id: str) -> Path:
    workspace = workspaces.folder(job_id)
    (workspace / "run").mkdir(parents=True)
    for path in (workspace / "run", workspace):
        os.utime(path, (1, 1))
    return workspace


@pytest.mark.parametrize("state", [*Stage, *Inner])
async def test_jobs_go_once_they_have_ended_and_paused_ones_stay(tmp_path: Path, state: State) -> None:
    workspaces, store = Workspaces(tmp_path), MemoryJobStore()
    settings = make_settings(tmp_path, Secrets(), job_ttl_seconds=60)
    fresh = await store.save(job_in(Stage.ERROR), None)
    job = await store.save(job_in(state).model_copy(update={"updated_at": 1.0}), None)
    workspace = await old_workspace(workspaces, job.job_id)
    await Cleanup(settings, store, LocalFiles(tmp_path), workspaces).clean()
    goes = state in (Stage.PACKED, Inner.MOVED, Stage.ERROR)
    assert (await store.get(job.job_id) is None) is goes is not workspace.exists()
    assert await store.get(fresh.job_id) == fresh


async def test_a_packed_job_stays_until_the_manager_has_heard_of_it(tmp_path: Path) -> None:
    workspaces, store = Workspaces(tmp_path), MemoryJobStore()
    cleanup = Cleanup(make_settings(tmp_path, Secrets(), job_ttl_seconds=60), store, LocalFiles(tmp_path), workspaces)
    job = job_in(Stage.PACKED).model_copy(update={"updated_at": 1.0})
    callback = callback_of(job)
    await store.save(job, EventKind.COMPLETE, callback)
    await cleanup.clean()
    kept = await store.get(job.job_id)
    assert kept is not None and kept.updated_at > 1.0
    await store.settle_callback(callback)
    await store.save(kept.model_copy(update={"updated_at": 1.0}), None)
    await cleanup.clean()
    assert await store.get(job.job_id) is None


async def test_jobs_that_a_newer_version_wrote_keep_their_workspaces_and_hold_up_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    async with redis_client(redis_url) as redis:
        store, workspaces = RedisJobStore(redis, prefix, keep_seconds=60), Workspaces(tmp_path)
        newer = await store.save(job_in(Stage.ERROR), None)
        await redis.hset(f"{prefix}:job:{newer.job_id}", "schema", SCHEMA + 1)
        workspace = await old_workspace(workspaces, newer.job_id)
        stray = await old_workspace(workspaces, "job-stray")
        await asyncio.sleep(0.01)
        settings = make_settings(tmp_path, Secrets(), redis_url=redis_url, job_ttl_seconds=0.001)
        await Cleanup(settings, store, LocalFiles(tmp_path), workspaces).clean()
        assert workspace.exists() and not stray.exists()
        assert await redis.hget(f"{prefix}:job:{newer.job_id}", "schema") == str(SCHEMA + 1)
