"""What a job is: one transfer's record, and how it may change.

The record says all that a worker needs to go on with a transfer that another worker left. It is frozen: a change
makes a new record, which counts only once a store has accepted it (`core.store.JobStore.save`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from open_workshop_storage.core.claims import TransferClaims, TransferKind

SCHEMA = 4
"""Number of the record's form. A change that an older worker would lose by saving the record raises it."""


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


class Inner(StrEnum):
    """States that clients see as another stage."""

    PAUSED = "paused"
    """`uploading` without an owner: an upload that waits for its next request. No worker may take it."""
    MOVING = "moving"
    """`packed`, on its way to its permanent place."""
    MOVED = "moved"
    """`packed`, and in its permanent place."""


State = Stage | Inner


class Slot(StrEnum):
    """What may be done only so many times at once, over all workers that share a store (docs/CONFIGURATION.md)."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    REPACK = "repack"
    IMAGE = "image"


NEXT: Mapping[State | None, frozenset[State]] = {
    None: frozenset({Stage.PENDING, Stage.UPLOADING, Inner.PAUSED}),
    Stage.PENDING: frozenset({Stage.DOWNLOADING, Stage.ERROR}),
    Stage.UPLOADING: frozenset({Stage.UPLOADED, Inner.PAUSED, Stage.ERROR}),
    Inner.PAUSED: frozenset({Stage.UPLOADING, Stage.ERROR}),
    Stage.DOWNLOADING: frozenset({Stage.DOWNLOADED, Stage.ERROR}),
    Stage.UPLOADED: frozenset(
        {Stage.EXTRACTING, Stage.REPACKING, Stage.PROCESSING, Stage.PACKED, Inner.PAUSED, Stage.ERROR}
    ),
    Stage.DOWNLOADED: frozenset(
        {Stage.EXTRACTING, Stage.REPACKING, Stage.PROCESSING, Stage.PACKED, Stage.DOWNLOADING, Stage.ERROR}
    ),
    Stage.EXTRACTING: frozenset({Stage.REPACKING, Stage.DOWNLOADING, Stage.ERROR}),
    Stage.REPACKING: frozenset({Stage.PACKED, Stage.EXTRACTING, Stage.DOWNLOADING, Inner.PAUSED, Stage.ERROR}),
    Stage.PROCESSING: frozenset({Stage.PACKED, Stage.DOWNLOADING, Stage.ERROR}),
    Stage.PACKED: frozenset({Inner.MOVING}),
    Inner.MOVING: frozenset({Inner.MOVED, Stage.PACKED}),
    Inner.MOVED: frozenset(),
    Stage.ERROR: frozenset({Stage.UPLOADING, Inner.PAUSED}),
}
"""Which states may follow which; `None` is that of a job without a record. A state may always follow itself."""

_MOST_LOST_OWNERS = 10
# A parser or decoder that a file can freeze or crash has that file from then on.
_MOST_LOST_PACKERS = 2

_STATUS_OF_STAGE = {
    Stage.UPLOADED: "processing",
    Stage.DOWNLOADED: "processing",
    Stage.EXTRACTING: "processing",
    Stage.REPACKING: "processing",
}


class WrongStep(Exception):
    """A change that `NEXT` does not allow: a fault of the code that makes it."""


class Part(BaseModel):
    """One file of an upload in several requests.

    Attributes:
        file: Its path, relative to the workspace.
        bytes: How many of its bytes count. A worker that was replaced may go on to write behind them.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    bytes: int = 0


class Resumable(BaseModel):
    """How far an upload in several requests is.

    Attributes:
        metadata: The client's own description of the file, handed back as it came.
        parts: The files that hold its bytes, in order; almost always one.
        sealed: Whether a worker that was replaced may still write to the last part, so that the next request
            begins another one.
        sha256: What the whole file's SHA-256 has to be, as hex digits; `None` if no request has said it.
    """

    model_config = ConfigDict(frozen=True)

    metadata: str | None = None
    parts: tuple[Part, ...] = ()
    sealed: bool = False
    sha256: str | None = None


class Change:
    """What a step adds to the record, in fields of the record's own names; `core.changes` has them all.

    Attributes:
        is_told: Whether clients are shown something of it.
    """

    is_told: ClassVar[bool] = True


class Job(BaseModel):
    """One transfer.

    Attributes:
        version: Number of the record and of the event that its last change published. A store accepts a change
            only to the version that it holds, so a worker that lost the job cannot change it any more.
        attempt: Counts the uploads of one job; each ends once.
        origin: Whether the file is pushed to us or fetched.
        file_name: The file's own name, made safe.
        bytes: Bytes received so far.
        total: Bytes expected, if they were announced.
        waited_seconds: How long the senders of its bodies were waited for, in all attempts.
        sent_bytes: How much of what they sent counts in their favour (docs/CONFIGURATION.md).
        percent: Progress of `extracting` and `repacking`, 0 to 100.
        partial_file: What a fetch writes to, relative to the workspace, until it is complete.
        resumable: How far an upload in several requests is, `None` for one in a single request.
        validator: What the origin must still have for a fetch to go on from there (RFC 9110 section 13.1.5).
        source_file: The received file, relative to the workspace, once it is complete and on the disk.
        packed_file: The file to move, relative to the workspace.
        sha256: Its SHA-256, as 64 lower-case hex digits.
        malware: What the scanner calls what it found in the file; `None` unless the attempt ended for that.
        scanner_away_since: Since when the job has waited for the scanner, Unix time in seconds; `None` if it has not.
        unwanted: Whether the Manager said that it does not want the packed file.
        move_to: Where it goes or went, relative to the storage root, once a move has begun.
        moved_bytes: Size of the moved file in bytes, once it is in place.
        owner: The run that works on the job; `None` while it waits for a worker or a request, or has ended.
        slot: What its run may do while others wait, or what it waits for while it has no owner; `None` also for a run
            that takes its turn by itself, because a client waits for it.
        home: The host whose workers may take the job first, since others do not see its files; `None` if all do.
        lost_owners: How often a lease ran out while this job was held.
        lost_receivers: The same when the whole file had come for the first time; `None` before that.
        end_version: The version at which this attempt ended; later ones tell its clients nothing new.
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
    waited_seconds: float = 0.0
    sent_bytes: int = 0
    percent: float | None = None
    message: str | None = None
    reason: str | None = None
    partial_file: str | None = None
    resumable: Resumable | None = None
    validator: str | None = None
    source_file: str | None = None
    packed_file: str | None = None
    packed_bytes: int | None = None
    unpacked_bytes: int | None = None
    sha256: str | None = None
    malware: str | None = None
    scanner_away_since: float | None = None
    unwanted: bool = False
    move_to: str | None = None
    moved_bytes: int | None = None
    owner: str | None = None
    slot: Slot | None = None
    home: str | None = None
    lost_owners: int = 0
    lost_receivers: int | None = None
    end_version: int | None = None
    kept_since: int = 0
    traceparent: str | None = None
    created_at: float = Field(default_factory=time.time)
    updated_at: float = Field(default_factory=time.time)

    @property
    def state(self) -> State:
        """Where the job stands in `NEXT`."""
        if self.stage is Stage.PACKED and self.move_to is not None:
            return Inner.MOVING if self.moved_bytes is None else Inner.MOVED
        return Inner.PAUSED if self.paused else self.stage

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
    def paused(self) -> bool:
        """Whether an upload waits for its next request."""
        return self.stage is Stage.UPLOADING and self.owner is None

    @property
    def may_begin_again(self) -> bool:
        """Whether the job's token may begin another attempt."""
        return self.stage is Stage.ERROR and self.origin == "upload"

    @property
    def needs_worker(self) -> bool:
        """Whether some worker has to hold the job's lease, or to take the job."""
        return self.state is Inner.MOVING or not (self.ended or self.paused)

    @property
    def packing_slot(self) -> Slot:
        """The slot with which the received file is packed."""
        return Slot.IMAGE if self.claims.transfer_kind is TransferKind.IMAGE else Slot.REPACK

    @property
    def given_up(self) -> bool:
        """Whether so many owners were lost that the file itself may be what ends them."""
        if self.lost_receivers is not None and self.lost_owners - self.lost_receivers >= _MOST_LOST_PACKERS:
            return True
        return self.lost_owners > _MOST_LOST_OWNERS

    def changed(self, *changes: Change, stage: Stage | None = None) -> Job:
        """Return the record with these changes, marked as changed now.

        Args:
            stage: The stage that begins; its progress begins at 0 where it has one.

        Raises:
            WrongStep: The state that comes of it must not follow the present one.
        """
        values: dict[str, object] = {"updated_at": time.time()}
        for change in changes:
            values |= vars(change)
        if stage is not None:
            values |= {"stage": stage, "percent": 0.0 if stage in (Stage.EXTRACTING, Stage.REPACKING) else None}
        job = self.model_copy(update=values)
        check_step(self.state, job.state)
        return job

    def as_saved(self, *, ends: bool) -> Job:
        """Return the record as a store keeps it: with the next version, at which the attempt ends if `ends` says so."""
        version = self.version + 1
        return self.model_copy(update={"version": version, **({"end_version": version} if ends else {})})


def check_step(before: State | None, after: State) -> None:
    """Make sure that a state may follow another, or `None`, that of a job without a record.

    Raises:
        WrongStep: `NEXT` does not say so.
    """
    if after != before and after not in NEXT[before]:
        raise WrongStep(f"{after} after {before}")
