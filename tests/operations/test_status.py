"""What operators are told of what loaders do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.job import Inner, Job, Slot, Stage
from open_workshop_storage.core.store import Overview, SlotQueue, WorkerReport
from open_workshop_storage.services.operations.status import Status, StorageStatus, status_of, storage_status
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.workspaces import Workspaces
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.jobs import job_in, new_job

NOW = 1_767_700_800.0
STORAGE = StorageStatus(kind="disk", available=True, free_bytes=7, reserve_bytes=0)
FAILED = new_job(stage=Stage.ERROR, message="Corrupt archive", reason="corrupt_archive")


def overview(**values: Any) -> Overview:
    """Return one of an idle store, but for these values."""
    totals = {"unfinished": 0, "paused": 0, "ended": 0, "callbacks": 0}
    usual: dict[str, Any] = {
        **{"at": NOW, "unfinished": [], "paused": [], "ended": [], "callbacks": [], "totals": totals},
        **{"oldest_callback_seconds": 0.0, "slots": {slot: SlotQueue(0, 0, []) for slot in Slot}},
        **{"workers": [], "metrics": {}},
    }
    return Overview(**(usual | values))


@pytest.fixture
def status(tmp_path: Path) -> Any:
    settings = make_settings(tmp_path, Secrets(), transfer_repack_concurrency=3)

    def told(**values: Any) -> Status:
        return status_of(overview(**values), settings, STORAGE)

    return told


@pytest.mark.parametrize(
    ("job", "state", "about"),
    [
        (new_job(origin="url"), "waits", "for a worker"),
        (job_in(Stage.EXTRACTING), "runs", ""),
        (job_in(Stage.REPACKING).model_copy(update={"scanner_away_since": NOW}), "waits", "for the scanner"),
        (job_in(Inner.PAUSED), "paused", "waits for the rest of the upload"),
        (job_in(Stage.PACKED), "packed", "waits for the Manager to move it"),
        (job_in(Inner.MOVING), "runs", "moves to archive/mods/7/main.zip"),
        (job_in(Inner.MOVED), "moved", "to archive/mods/7/main.zip"),
        (FAILED, "failed", ""),
    ],
    ids=lambda value: value.state if isinstance(value, Job) else None,
)
def test_a_job_tells_what_becomes_of_it(job: Job, state: str, about: str, status: Any) -> None:
    (told,) = status(ended=[job]).jobs
    assert (told.state, told.about) == (state, about)
    assert (told.stage, told.changed_at) == (job.stage, job.updated_at)


def test_a_job_in_a_queue_waits_for_the_slot(status: Any) -> None:
    waiting, running = job_in(Stage.UPLOADED), job_in(Stage.UPLOADED).model_copy(update={"owner": "other"})
    slots = {**overview().slots, Slot.REPACK: SlotQueue(1, 1, ["me"])}
    told = status(unfinished=[waiting, running], slots=slots)
    assert [(job.state, job.about) for job in told.jobs] == [("waits", "for a repack slot"), ("runs", "")]
    (repack,) = (slot for slot in told.slots if slot.slot == "repack")
    assert (repack.held, repack.waiting, repack.limit) == (1, 1, 3)


def test_a_failed_job_tells_why(status: Any) -> None:
    (told,) = status(ended=[FAILED]).jobs
    assert (told.reason, told.message) == ("corrupt_archive", "Corrupt archive")


def test_a_job_names_the_host_and_worker_that_hold_it(status: Any) -> None:
    held, not_held = job_in(Stage.EXTRACTING), job_in(Stage.EXTRACTING)
    report = WorkerReport(
        name="w1", host="storage-1", process=9, started_at=NOW - 60, sockets=4, free_bytes=5, jobs=(held.job_id,)
    )
    told = status(unfinished=[held, not_held], workers=[(report, 1.5)])
    assert [(job.host, job.worker) for job in told.jobs] == [("storage-1", "w1"), (None, None)]
    (worker,) = told.workers
    assert (worker.age_seconds, worker.silent_seconds, worker.jobs, worker.free_bytes) == (60.0, 1.5, 1, 5)
    assert told.totals.sockets == 4


def test_a_callback_tells_its_age_its_attempts_and_when_it_is_sent_again(status: Any) -> None:
    callback = callback_of(FAILED).model_copy(update={"created_at": NOW - 90, "attempts": 4})
    late = callback.model_copy(update={"jti": "late"})
    told = status(callbacks=[(late, NOW - 3), (callback, NOW + 200)])
    assert [entry.due_seconds for entry in told.callbacks] == [0.0, 200.0]
    assert (told.callbacks[1].jti, told.callbacks[1].job_id) == (callback.jti, FAILED.job_id)
    assert (told.callbacks[1].age_seconds, told.callbacks[1].attempts, told.callbacks[1].status) == (90.0, 4, "error")


def test_metrics_are_told_by_step_reason_and_stage(status: Any) -> None:
    counts = {"begun": 3, "received": 900, "outcome success": 2, "outcome malware": 1, "outcome status:404": 4}
    counts |= {"left uploading": 2, "milliseconds uploading": 1500}
    told = status(metrics={100: counts, 110: {}})
    first, last = told.steps
    assert (first.at, first.begun, first.bytes, first.succeeded) == (100, 3, 900, 2)
    assert first.failed == {"malware": 1, "status:404": 4}
    assert (first.stages["uploading"].count, first.stages["uploading"].seconds) == (2, 1.5)
    assert (last.at, last.begun, last.failed, last.stages) == (110, 0, {}, {})


def test_the_disk_is_told_with_its_free_bytes_and_as_away_without_them(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "root", Secrets(), storage_reserve_bytes=11)
    files, workspaces = LocalFiles(settings.main_dir), Workspaces(settings.main_dir)
    there = asyncio.run(storage_status(settings, files, workspaces))
    assert (there.kind, there.available, there.reserve_bytes) == ("disk", True, 11)
    assert there.free_bytes is not None and there.free_bytes > 0
    (tmp_path / "root").rename(tmp_path / "away")
    away = asyncio.run(storage_status(settings, files, workspaces))
    assert (away.available, away.free_bytes) == (False, None)
