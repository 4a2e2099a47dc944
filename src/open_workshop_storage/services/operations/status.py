"""What runs, waits and failed on all hosts, and why, as `GET /loader/status` has it (docs/API.md, "Console")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.job import Job, Slot, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import STEP_SECONDS, Overview, WorkerReport
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.counts import SUCCESS, Count, by_label

MOST_JOBS = 1000
"""How many jobs, and how many callbacks, are listed at most."""

State = Literal["runs", "waits", "paused", "packed", "moved", "failed"]


class JobStatus(BaseModel):
    """One transfer."""

    job_id: str
    kind: Literal["archive", "img"]
    origin: Annotated[Literal["upload", "url"], Field(description="Whether the file is pushed to us or fetched.")]
    file_name: str
    state: Annotated[State, Field(description="What becomes of it at the moment.")]
    stage: Annotated[str, Field(json_schema_extra={"enum": [*Stage]})]
    about: Annotated[str, Field(description="What it waits for, or where its file goes; may be empty.")]
    bytes: Annotated[int, Field(description="Bytes received.")]
    total: Annotated[int | None, Field(description="Bytes expected; null if unknown.")] = None
    percent: Annotated[float | None, Field(description="While `extracting` and `repacking`; otherwise null.")] = None
    reason: Annotated[str | None, Field(description="Why it failed: one of the callback's reasons.")] = None
    message: Annotated[str | None, Field(description="The same, as its client was told.")] = None
    attempt: Annotated[int, Field(description="Counts the uploads of one job.")]
    created_at: Annotated[float, Field(description="Unix time at which the attempt began, seconds.")]
    changed_at: Annotated[float, Field(description="Unix time since which nothing has changed, seconds.")]
    host: Annotated[str | None, Field(description="The host that works on it; null if none says so.")] = None
    worker: Annotated[str | None, Field(description="The `name` of the worker there.")] = None


class CallbackStatus(BaseModel):
    """A report to the Manager that is not settled."""

    jti: str
    job_id: str
    kind: Literal["archive", "img"]
    status: Annotated[Literal["success", "error"], Field(description="What it reports.")]
    age_seconds: Annotated[float, Field(description="Time since the transfer's end.")]
    attempts: Annotated[int, Field(description="Attempts at delivery that failed.")]
    due_seconds: Annotated[float, Field(description="Time until the next attempt, 0 if it is due.")]


class SlotStatus(BaseModel):
    """What may be done only so many times at once."""

    slot: str
    held: int
    waiting: int
    limit: Annotated[int, Field(description="How many there are; 0 for no limit.")]


class WorkerStatus(BaseModel):
    """A process of a loader."""

    name: str
    host: str
    process: Annotated[int, Field(description="Its process id.")]
    age_seconds: Annotated[float, Field(description="Time since its start.")]
    silent_seconds: Annotated[float, Field(description="Time since it last reported; after 15 s it is not listed.")]
    jobs: Annotated[int, Field(description="How many it works on.")]
    sockets: Annotated[int, Field(description="How many clients watch transfers over it.")]
    free_bytes: Annotated[int | None, Field(description="Free space on its disk; null if it cannot tell.")] = None


class StorageStatus(BaseModel):
    """Where permanent files are."""

    kind: Literal["disk", "bucket"]
    available: Annotated[bool, Field(description="Whether it can be reached and written to.")]
    free_bytes: Annotated[
        int | None, Field(description="Free space for unfinished work on the answering host's disk.")
    ] = None
    reserve_bytes: Annotated[int, Field(description="`STORAGE_RESERVE_BYTES`.")]


class StageFigures(BaseModel):
    """Runs that left a stage."""

    count: int
    seconds: Annotated[float, Field(description="What they spent in it, together.")]


class StepFigures(BaseModel):
    """What all workers counted during one step."""

    at: Annotated[int, Field(description="Unix time at which the step began, seconds.")]
    begun: Annotated[int, Field(description="Transfers that began.")]
    succeeded: Annotated[int, Field(description="Transfers that were packed.")]
    failed: Annotated[dict[str, int], Field(description="Transfers that failed, by reason.")]
    bytes: Annotated[int, Field(description="Bytes that came in.")]
    stages: dict[str, StageFigures]


class Totals(BaseModel):
    """How many there are, listed or not."""

    unfinished: Annotated[int, Field(description="Jobs that run or wait for a worker.")]
    paused: Annotated[int, Field(description="Uploads that wait for their next request.")]
    ended: Annotated[int, Field(description="Jobs that are packed, moved or failed, and not forgotten yet.")]
    callbacks: Annotated[int, Field(description="Callbacks that wait.")]
    oldest_callback_seconds: Annotated[float, Field(description="How long one of them has waited; 0 without one.")]
    sockets: Annotated[int, Field(description="Clients that watch transfers.")]


class Status(BaseModel):
    """All that loaders do on all hosts that share a store."""

    at: Annotated[float, Field(description="Unix time, seconds.")]
    totals: Totals
    jobs: Annotated[
        list[JobStatus],
        Field(description="At most 500 that run or wait, 250 paused ones and 250 ended ones, the latest."),
    ]
    callbacks: Annotated[list[CallbackStatus], Field(description="At most 1,000, the next to be delivered first.")]
    slots: list[SlotStatus]
    workers: list[WorkerStatus]
    storage: StorageStatus
    step_seconds: Annotated[int, Field(description="The length of a step.")]
    steps: Annotated[list[StepFigures], Field(description="The last 60 steps, the oldest first; the last one goes on.")]


async def storage_status(settings: Settings, files: Files, workspaces: Workspaces) -> StorageStatus:
    """Return the state of the store of permanent files, as seen from this host."""
    return StorageStatus(
        kind="bucket" if settings.s3_bucket else "disk",
        available=await files.is_available(for_writing=True),
        free_bytes=await workspaces.free_bytes(),
        reserve_bytes=settings.storage_reserve_bytes,
    )


def status_of(now: Overview, settings: Settings, storage: StorageStatus) -> Status:
    """Return the status of all loaders by the store's overview of them."""
    workers = {job_id: worker for worker, _ in now.workers for job_id in worker.jobs}
    queues = {holder: slot for slot, queue in now.slots.items() for holder in queue.first}
    limits = settings.slot_limits
    return Status(
        at=now.at,
        totals=Totals(
            **now.totals,
            oldest_callback_seconds=now.oldest_callback_seconds,
            sockets=sum(worker.sockets for worker, _ in now.workers),
        ),
        jobs=[
            _job(job, queues.get(job.owner or ""), workers.get(job.job_id))
            for job in (*now.unfinished, *now.paused, *now.ended)
        ],
        callbacks=[_callback(callback, due, now.at) for callback, due in now.callbacks],
        slots=[
            SlotStatus(slot=slot, held=queue.held, waiting=queue.waiting, limit=limits[Slot(slot)])
            for slot, queue in now.slots.items()
        ],
        workers=[_worker(worker, silent_seconds, now.at) for worker, silent_seconds in now.workers],
        storage=storage,
        step_seconds=STEP_SECONDS,
        steps=[_step(at, counts) for at, counts in now.metrics.items()],
    )


def _job(job: Job, queue: str | None, worker: WorkerReport | None) -> JobStatus:
    state, about = _state(job, queue)
    return JobStatus(
        job_id=job.job_id,
        kind=job.claims.transfer_kind.value,
        origin=job.origin,
        file_name=job.file_name,
        state=state,
        stage=job.stage,
        about=about,
        bytes=job.bytes,
        total=job.total,
        percent=job.percent,
        reason=job.reason,
        message=job.message,
        attempt=job.attempt,
        created_at=job.created_at,
        changed_at=job.updated_at,
        host=worker.host if worker else None,
        worker=worker.name if worker else None,
    )


def _state(job: Job, queue: str | None) -> tuple[State, str]:
    if job.stage is Stage.ERROR:
        return "failed", ""
    if job.moved_bytes is not None:
        return "moved", f"to {job.move_to}"
    if job.stage is Stage.PACKED:
        return ("runs", f"moves to {job.move_to}") if job.move_to else ("packed", "waits for the Manager to move it")
    if job.paused:
        return "paused", "waits for the rest of the upload"
    if job.owner is None and job.slot is None:
        return "waits", "for a worker"
    if job.owner is None:
        return "waits", f"for a {job.slot} slot"
    if queue:
        return "waits", f"for a {queue} slot"
    return ("waits", "for the scanner") if job.scanner_away_since is not None else ("runs", "")


def _callback(callback: Callback, due: float, now: float) -> CallbackStatus:
    return CallbackStatus(
        jti=callback.jti,
        job_id=callback.job_id,
        kind=callback.claims["transfer_kind"],
        status=callback.claims["status"],
        age_seconds=max(now - callback.created_at, 0),
        attempts=callback.attempts,
        due_seconds=max(due - now, 0),
    )


def _worker(worker: WorkerReport, silent_seconds: float, now: float) -> WorkerStatus:
    return WorkerStatus(
        name=worker.name,
        host=worker.host,
        process=worker.process,
        age_seconds=max(now - worker.started_at, 0),
        silent_seconds=max(silent_seconds, 0),
        jobs=len(worker.jobs),
        sockets=worker.sockets,
        free_bytes=worker.free_bytes,
    )


def _step(at: int, counts: Mapping[str, int]) -> StepFigures:
    labelled = by_label(counts)
    outcomes, milliseconds = dict(labelled[Count.OUTCOME]), labelled[Count.MILLISECONDS]
    return StepFigures(
        at=at,
        begun=counts.get(Count.BEGUN, 0),
        succeeded=outcomes.pop(SUCCESS, 0),
        failed=outcomes,
        bytes=counts.get(Count.RECEIVED, 0),
        stages={
            stage: StageFigures(count=count, seconds=milliseconds.get(stage, 0) / 1000)
            for stage, count in labelled[Count.LEFT].items()
        },
    )
