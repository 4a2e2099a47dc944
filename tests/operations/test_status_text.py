"""The table of what loaders do."""

from __future__ import annotations

from typing import Any

import pytest

from open_workshop_storage.api.documents.console import STATUS_EXAMPLE
from open_workshop_storage.services.operations.status import JobStatus, Status
from open_workshop_storage.services.operations.status_text import jobs_text, status_text

IDLE = STATUS_EXAMPLE.model_copy(update={"jobs": [], "callbacks": [], "workers": []})
RUNNING, FAILED = STATUS_EXAMPLE.jobs


def with_job(**values: object) -> Status:
    return IDLE.model_copy(update={"jobs": [RUNNING.model_copy(update=values)]})


def test_nothing_is_said_in_a_line() -> None:
    assert jobs_text(IDLE) == "No transfers."
    text = status_text(IDLE).splitlines()
    assert text[0] == "No transfers."
    assert text[2:] == [
        "Slots: repack 1 used, 0 waiting",
        "Workers: none; 3 sockets",
        "Storage: disk, 107,374,182,400 bytes free on this host",
    ]


@pytest.mark.parametrize(
    ("values", "about"),
    [
        ({}, "63 %"),
        ({"percent": None}, "0 s ago"),
        ({"percent": None, "state": "waits", "about": "for a download slot"}, "for a download slot"),
        ({"changed_at": STATUS_EXAMPLE.at - 200, "percent": None}, "3 min ago"),
        ({"changed_at": STATUS_EXAMPLE.at - 7300, "percent": None}, "2 h ago"),
    ],
)
def test_a_job_tells_what_it_waits_for_or_how_far_it_is(values: dict[str, Any], about: str) -> None:
    head, line = jobs_text(with_job(**values)).splitlines()
    assert line.endswith(about)
    assert line.split()[:2] == [values.get("state", "runs"), RUNNING.job_id]


def test_a_failed_job_tells_why() -> None:
    def line_of(job: JobStatus) -> str:
        return jobs_text(IDLE.model_copy(update={"jobs": [job]})).splitlines()[1]

    assert line_of(FAILED).endswith("Corrupt archive (corrupt_archive)")


def test_a_callback_tells_when_it_is_sent_again_and_its_name() -> None:
    text = status_text(STATUS_EXAMPLE)
    assert "4 attempts failed; next in 7 s; jti 3f0c5a3e9d1b5c0e8a4f6b7c8d9e0f10" in text
    assert "callback" not in jobs_text(STATUS_EXAMPLE)


def test_workers_are_counted_by_host_and_storage_that_is_away_is_told() -> None:
    worker = STATUS_EXAMPLE.workers[0]
    workers = [worker, worker, worker.model_copy(update={"host": "storage-2"})]
    storage = STATUS_EXAMPLE.storage.model_copy(update={"kind": "bucket", "available": False, "free_bytes": None})
    text = status_text(STATUS_EXAMPLE.model_copy(update={"workers": workers, "storage": storage}))
    assert "Workers: 2 on storage-1, 1 on storage-2; 3 sockets" in text
    assert text.endswith("Storage: bucket (out of reach)")
