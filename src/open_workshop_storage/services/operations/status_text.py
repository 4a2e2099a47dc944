"""The status of all loaders as a table (`open-workshop-storage status`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from open_workshop_storage.services.operations.status import CallbackStatus, JobStatus, Status, StorageStatus

Line = Sequence[str]

_HEAD = ("", "job", "kind", "stage", "received", "since", "what about it")


def status_text(status: Status) -> str:
    """Return one table of jobs and callbacks, and lines on slots, workers and storage."""
    slots = ", ".join(f"{slot.slot} {slot.held} used, {slot.waiting} waiting" for slot in status.slots)
    hosts = Counter(worker.host for worker in status.workers)
    workers = ", ".join(f"{count} on {host}" for host, count in hosts.items()) or "none"
    lines = [*_job_lines(status), *map(_callback_line, status.callbacks)]
    return "\n".join(
        [
            _table([_HEAD, *lines]) if lines else "No transfers.",
            "",
            f"Slots: {slots}",
            f"Workers: {workers}; {status.totals.sockets} sockets",
            f"Storage: {_storage(status.storage)}",
        ]
    )


def jobs_text(status: Status) -> str:
    """Return the table of jobs."""
    lines = _job_lines(status)
    return _table([_HEAD, *lines]) if lines else "No transfers."


def _storage(storage: StorageStatus) -> str:
    free = "" if storage.free_bytes is None else f", {storage.free_bytes:,} bytes free on this host"
    return f"{storage.kind}{'' if storage.available else ' (out of reach)'}{free}"


def _job_lines(status: Status) -> list[Line]:
    return [_job_line(job, status.at) for job in status.jobs]


def _job_line(job: JobStatus, now: float) -> Line:
    about = job.about if job.reason is None else f"{job.message} ({job.reason})"
    if job.percent is not None and not about:
        about = f"{job.percent:.0f} %"
    received = f"{job.bytes:,} of {job.total:,}" if job.total else f"{job.bytes:,}"
    return job.state, job.job_id, job.kind, job.stage, received, f"{_duration(now - job.changed_at)} ago", about


def _callback_line(callback: CallbackStatus) -> Line:
    due = f"in {_duration(callback.due_seconds)}" if callback.due_seconds else "now"
    about = f"{callback.attempts} attempts failed; next {due}; jti {callback.jti}"
    age = f"{_duration(callback.age_seconds)} ago"
    return "callback", callback.job_id, callback.kind, callback.status, "", age, about


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def _table(lines: Sequence[Line]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
