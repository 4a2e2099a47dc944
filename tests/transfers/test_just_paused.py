"""Uploads that a worker has just paused."""

from __future__ import annotations

import pytest

from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.services.transfers.just_paused import JustPaused
from tests.support.transfers import eventually

pytestmark = pytest.mark.anyio

JOB = Job(job_id="job-in-pieces", claims=TransferClaims(job_id="job-in-pieces"), origin="upload", file_name="mod.zip")


async def test_an_upload_is_known_once_and_only_at_the_offset_where_it_was_paused() -> None:
    known = JustPaused()
    paused = JOB.model_copy(update={"stage": Stage.UPLOADING, "bytes": 50})
    known.remember(paused)
    assert known.recall("another-job", 50) is None
    assert known.recall(JOB.job_id, 70) is None
    assert known.recall(JOB.job_id, 50) is paused
    assert known.recall(JOB.job_id, 50) is None


async def test_an_upload_is_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_workshop_storage.services.transfers.just_paused._SECONDS", 0.01)
    known = JustPaused()
    known.remember(JOB)
    await eventually(lambda: not known._jobs)
