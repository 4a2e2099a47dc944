"""The table of what loaders do."""

from __future__ import annotations

import time

import pytest

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.store import Slot
from open_workshop_storage.services.operations.status import status_text
from open_workshop_storage.stores.redis_overview import Overview

JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="url", file_name="file")
SLOTS = {slot: (1, 2) for slot in Slot}


def table(*, unfinished: list[Job] | None = None, ended: list[Job] | None = None) -> list[str]:
    return status_text(Overview(unfinished or [], ended or [], [], SLOTS)).splitlines()


def test_nothing_is_said_in_a_line() -> None:
    assert table()[0] == "No transfers."
    assert table()[-1].startswith("Slots: upload 1 used, 2 waiting")


@pytest.mark.parametrize(
    ("job", "state", "about"),
    [
        (JOB, "waits", "for a worker"),
        (JOB.model_copy(update={"owner": "run"}), "waits", "for a download slot"),
        (JOB.model_copy(update={"owner": "run", "stage": Stage.EXTRACTING, "percent": 40.0}), "runs", "40 %"),
        (JOB.model_copy(update={"stage": Stage.PACKED, "move_to": "archive/a.zip"}), "runs", "moves to archive/a.zip"),
    ],
)
def test_an_unfinished_job_tells_what_it_waits_for_or_how_far_it_is(job: Job, state: str, about: str) -> None:
    line = table(unfinished=[job])[1]
    assert line.split()[0] == state and line.endswith(about)


def test_a_failed_job_tells_why() -> None:
    failed = JOB.model_copy(update={"stage": Stage.ERROR, "message": "Corrupt archive", "reason": "corrupt_archive"})
    assert table(ended=[failed])[1].endswith("Corrupt archive (corrupt_archive)")


def test_a_callback_tells_when_it_is_sent_again() -> None:
    failed = JOB.model_copy(update={"stage": Stage.ERROR})
    text = status_text(Overview([], [failed], [(callback_of(failed), time.time() + 200)], SLOTS))
    assert "0 attempts failed; next in 3 min" in text
