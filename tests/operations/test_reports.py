"""What a worker tells of itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.job import Stage
from open_workshop_storage.core.store import Overview, WorkerReport
from open_workshop_storage.services.operations.reports import Reports
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.jobs import new_job
from tests.support.transfers import bench

pytestmark = pytest.mark.anyio


class Store(MemoryJobStore):
    """A store that may be away."""

    away = False

    async def report(self, worker: WorkerReport, metrics: object) -> None:
        if self.away:
            raise ServiceUnavailable
        await super().report(worker, metrics)  # type: ignore[arg-type]


def begun(shown: Overview) -> int:
    return sum(counts.get("begun", 0) for counts in shown.metrics.values())


async def test_a_worker_reports_where_it_is_what_it_holds_and_how_many_watch(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        reports = Reports(parts.store, parts.workspaces, parts.lifetime, parts.runs)
        job = await parts.store.save(new_job(owner="me", stage=Stage.UPLOADING), None)
        run = parts.runs.begin_run(job)
        with parts.lifetime.holding_socket(job.job_id):
            await reports.report()
        ((report, _),) = (await parts.store.overview(40)).workers
        assert (report.host, report.process) == (socket.gethostname(), os.getpid())
        assert (report.sockets, report.jobs) == (1, (job.job_id,))
        assert report.free_bytes is not None and report.free_bytes > 0
        parts.runs.release(run)
        await reports.report()
        ((report, _),) = (await parts.store.overview(40)).workers
        assert (report.sockets, report.jobs) == (0, ())


async def test_a_disk_that_is_away_is_reported_as_unknown(tmp_path: Path) -> None:
    async with bench(tmp_path / "root") as parts:
        reports = Reports(parts.store, parts.workspaces, parts.lifetime, parts.runs)
        (tmp_path / "root").rename(tmp_path / "away")
        await reports.report()
        ((report, _),) = (await parts.store.overview(40)).workers
        assert report.free_bytes is None


async def test_what_was_counted_while_the_store_was_away_is_reported_once_afterwards(tmp_path: Path) -> None:
    store = Store()
    async with bench(tmp_path, store=store) as parts:
        reports = Reports(store, parts.workspaces, parts.lifetime, parts.runs)
        parts.runs.counts.begun()
        store.away = True
        await reports.report()
        store.away = False
        assert begun(await store.overview(40)) == 0
        parts.runs.counts.begun()
        await reports.report()
        await reports.report()
        assert begun(await store.overview(40)) == 2
