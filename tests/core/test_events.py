"""The messages of a job's sockets."""

from __future__ import annotations

import json

import pytest

from open_workshop_storage.core.events import Event, EventKind, event_of, first_event
from open_workshop_storage.core.job import Inner, Job, Stage
from tests.support.jobs import job_in, new_job


def told(event: Event) -> dict[str, object]:
    """Return a message as a client reads it."""
    message: dict[str, object] = json.loads(event.text)
    return message


def test_an_event_tells_the_state_after_its_change() -> None:
    job = new_job(stage=Stage.EXTRACTING, bytes=70, total=100, percent=12.5, version=9, owner="me")
    event = event_of(job, EventKind.STAGE)
    assert (event.version, event.kind) == (9, EventKind.STAGE)
    assert told(event) == {
        "event": "stage",
        "bytes": 70,
        "total": 100,
        "status": "processing",
        "stage": "extracting",
        "percent": 12.5,
    }


def test_an_error_has_its_message_for_people() -> None:
    failed = new_job(stage=Stage.ERROR, message="Corrupt archive", reason="corrupt_archive")
    assert told(event_of(failed, EventKind.ERROR))["message"] == "Corrupt archive"


@pytest.mark.parametrize(
    ("job", "event"),
    [
        (None, "progress"),
        (job_in(Stage.UPLOADING), "progress"),
        (job_in(Inner.PAUSED), "progress"),
        (job_in(Stage.PACKED), "complete"),
        (job_in(Inner.MOVED), "complete"),
        (job_in(Stage.ERROR), "error"),
    ],
)
def test_a_new_socket_first_hears_of_the_present_state(job: Job | None, event: str) -> None:
    assert told(first_event(job))["event"] == event


def test_a_job_that_is_still_to_come_is_pending() -> None:
    first = first_event(None)
    assert (first.version, told(first)["status"], told(first)["stage"]) == (0, "pending", "pending")


@pytest.mark.parametrize("kind", EventKind)
def test_an_attempt_ends_with_complete_or_error(kind: EventKind) -> None:
    assert kind.final == (kind in ("complete", "error"))
