"""What goes while new jobs begin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.cleanup import Cleanup
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

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
