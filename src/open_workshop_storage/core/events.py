"""What the sockets of a job hear of it (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from open_workshop_storage.core.job import Job, Stage


class EventKind(StrEnum):
    """What a WebSocket message tells."""

    PROGRESS = "progress"
    STAGE = "stage"
    COMPLETE = "complete"
    ERROR = "error"

    @property
    def final(self) -> bool:
        """Whether nothing follows in this attempt."""
        return self in (EventKind.COMPLETE, EventKind.ERROR)


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a job.

    Attributes:
        version: Version of the record after the change.
        text: The WebSocket message, ready to send.
    """

    version: int
    kind: EventKind
    text: str


_NO_JOB_YET = Event(
    version=0,
    kind=EventKind.PROGRESS,
    text='{"event":"progress","bytes":0,"total":null,"status":"pending","stage":"pending","percent":null}',
)


def event_of(job: Job, kind: EventKind) -> Event:
    """Return the event of a job's present state."""
    message = {
        "event": kind.value,
        "bytes": job.bytes,
        "total": job.total,
        "status": job.status,
        "stage": job.stage.value,
        "percent": job.percent,
    }
    if kind is EventKind.ERROR:
        message["message"] = job.message
    return Event(version=job.version, kind=kind, text=json.dumps(message, separators=(",", ":")))


def repeated(text: str) -> str:
    """Return the message that tells a state once more, which an earlier message told."""
    return json.dumps(json.loads(text) | {"event": EventKind.PROGRESS.value}, separators=(",", ":"))


def first_event(job: Job | None) -> Event:
    """Return the first message of a new socket: the present state, or that of a job which is still to come."""
    if job is None:
        return _NO_JOB_YET
    if job.stage is Stage.ERROR:
        return event_of(job, EventKind.ERROR)
    return event_of(job, EventKind.COMPLETE if job.stage is Stage.PACKED else EventKind.PROGRESS)
