"""What a job is: one transfer's record, and how it may change.

The record says all that a worker needs to go on with a transfer that another worker left. It is frozen: a change
makes a new record, which counts only once a store has accepted it (`core.store.JobStore.save`).
"""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import StorageError


class Stage(StrEnum):
    """Where a transfer stands (docs/API.md, "WS `/transfer/ws/{job_id}`")."""

    PENDING = "pending"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    EXTRACTING = "extracting"
    REPACKING = "repacking"
    PROCESSING = "processing"
    PACKED = "packed"
    ERROR = "error"


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


_STATUS_OF_STAGE = {
    Stage.UPLOADED: "processing",
    Stage.DOWNLOADED: "processing",
    Stage.EXTRACTING: "processing",
    Stage.REPACKING: "processing",
}


class Job(BaseModel):
    """One transfer.

    Attributes:
        version: Number of the record and of the event that its last change published. A store accepts a change
            only to the version that it holds, so a worker that lost the job cannot change it any more.
        attempt: Counts the uploads of one job; each ends once.
        origin: Whether the file is pushed to us or fetched.
        file_name: The file's own name, made safe.
        bytes: Bytes received so far.
        total: Bytes expected, if anyone said so.
        percent: Progress of `extracting` and `repacking`, 0 to 100.
        partial_file: What a fetch writes to, relative to the workspace, until it is complete.
        validator: What the origin must still have for a fetch to go on from there (RFC 9110 section 13.1.5).
        source_file: The received file, relative to the workspace, once it is complete and on the disk.
        packed_file: The file to move, relative to the workspace.
        move_to: Where it goes or went, relative to the storage root, once a move has begun.
        moved_bytes: Size of the moved file in bytes, once it is in place.
        owner: The run that works on the job; `None` while it waits for a worker, or has ended.
        deaths: How many of its owners died of it, or at the same time.
        kept_since: When the store began to keep what it holds now; the store's own clock, milliseconds.
        traceparent: The trace that all work on the job belongs to (W3C Trace Context), `None` without telemetry.
        created_at: Unix time, seconds.
        updated_at: Unix time of the last change but a take, seconds.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    claims: TransferClaims
    origin: Literal["upload", "url"]
    file_name: str
    version: int = 0
    attempt: int = 1
    stage: Stage = Stage.PENDING
    bytes: int = 0
    total: int | None = None
    percent: float | None = None
    message: str | None = None
    reason: str | None = None
    partial_file: str | None = None
    validator: str | None = None
    source_file: str | None = None
    packed_file: str | None = None
    packed_bytes: int | None = None
    unpacked_bytes: int | None = None
    move_to: str | None = None
    moved_bytes: int | None = None
    owner: str | None = None
    deaths: int = 0
    kept_since: int = 0
    traceparent: str | None = None
    created_at: float = Field(default_factory=time.time)
    updated_at: float = Field(default_factory=time.time)

    @property
    def status(self) -> str:
        """The status that clients see."""
        if self.moved_bytes is not None:
            return "moved"
        return _STATUS_OF_STAGE.get(self.stage, self.stage.value)

    @property
    def ended(self) -> bool:
        """Whether this attempt has its end: packed, moved or failed."""
        return self.stage in (Stage.PACKED, Stage.ERROR)

    @property
    def needs_worker(self) -> bool:
        """Whether some worker has to hold the job's lease, or to take the job up."""
        return not self.ended or (self.move_to is not None and self.moved_bytes is None)

    def changed(self, **changes: Any) -> Job:
        """Return the record with other values, marked as changed now."""
        return self.model_copy(update={"updated_at": time.time(), **changes})

    def failed(self, error: StorageError) -> Job:
        """Return the record of an attempt that ended with this error."""
        return self.changed(
            stage=Stage.ERROR, message=error.message, reason=error.reason, percent=None, owner=None, source_file=None
        )

    def snapshot_kind(self) -> EventKind:
        """Return the kind of the first message that a new socket gets."""
        if self.stage is Stage.ERROR:
            return EventKind.ERROR
        return EventKind.COMPLETE if self.stage is Stage.PACKED else EventKind.PROGRESS

    def event_text(self, kind: EventKind) -> str:
        """Return the WebSocket message of this state (docs/API.md, "WS `/transfer/ws/{job_id}`")."""
        message = {
            "event": kind.value,
            "bytes": self.bytes,
            "total": self.total,
            "status": self.status,
            "stage": self.stage.value,
            "percent": self.percent,
        }
        if kind is EventKind.ERROR:
            message["message"] = self.message
        return json.dumps(message, separators=(",", ":"))


class Event(BaseModel):
    """One change of a job as its sockets hear of it.

    Attributes:
        version: Version of the record after the change.
        text: The WebSocket message, ready to send.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    kind: EventKind
    text: str


def event_of(job: Job, kind: EventKind) -> Event:
    """Return the event of a job's present state."""
    return Event(version=job.version, kind=kind, text=job.event_text(kind))


_NO_JOB_YET = '{"event":"progress","bytes":0,"total":null,"status":"pending","stage":"pending","percent":null}'


def first_event(job: Job | None) -> Event:
    """Return the first message of a new socket: the present state, or that of a job which is still to come."""
    if job is None:
        return Event(version=0, kind=EventKind.PROGRESS, text=_NO_JOB_YET)
    return event_of(job, job.snapshot_kind())
