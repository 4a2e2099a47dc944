"""Shows what runs, waits and failed, and which callbacks are pending (`open-workshop-storage status`)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.stores.redis_overview import Overview

Line = Sequence[str]

_HEAD = ("", "job", "kind", "stage", "received", "since", "what about it")


def status_text(now: Overview) -> str:
    """Return one table of jobs and callbacks, and a line on the slots."""
    lines = [*map(_job_line, now.unfinished), *map(_job_line, now.ended)]
    lines += [
        (
            "callback",
            callback.job_id,
            str(callback.claims["transfer_kind"]),
            str(callback.claims["status"]),
            "",
            _ago(callback.created_at),
            f"{callback.attempts} attempts failed; next {_ahead(due)}",
        )
        for callback, due in now.callbacks
    ]
    slots = ", ".join(f"{slot} {held} used, {waiting} waiting" for slot, (held, waiting) in now.slots.items())
    return f"{_table([_HEAD, *lines]) if lines else 'No transfers.'}\n\nSlots: {slots}"


def _job_line(job: Job) -> Line:
    state, about = _state(job)
    received = f"{job.bytes:,} of {job.total:,}" if job.total else f"{job.bytes:,}"
    return state, job.job_id, job.claims.transfer_kind.value, job.stage.value, received, _ago(job.updated_at), about


def _state(job: Job) -> tuple[str, str]:
    if job.stage is Stage.ERROR:
        return "failed", f"{job.message} ({job.reason})"
    if job.moved_bytes is not None:
        return "moved", f"to {job.move_to}"
    if job.stage is Stage.PACKED:
        return ("runs", f"moves to {job.move_to}") if job.move_to else ("packed", "waits for the Manager to move it")
    if job.paused:
        return "paused", "waits for the rest of the upload"
    if job.owner is None:
        return "waits", "for a worker"
    if job.stage is Stage.PENDING:
        return "waits", "for a download slot"
    return "runs", "" if job.percent is None else f"{job.percent:.0f} %"


def _ago(unix_seconds: float) -> str:
    return f"{_duration(time.time() - unix_seconds)} ago"


def _ahead(unix_seconds: float) -> str:
    seconds = unix_seconds - time.time()
    return f"in {_duration(seconds)}" if seconds > 0 else "now"


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def _table(lines: Sequence[Line]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
