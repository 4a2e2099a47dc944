"""What a job store holds at one moment, for operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.job import Job

STEP_SECONDS = 10
"""The length of a step: metrics are added up over one."""
STEPS = 60
"""How many steps a store keeps, the present one among them."""
REPORT_SECONDS = 15.0
"""How long a worker counts as there after its last report."""


class WorkerReport(BaseModel):
    """What one worker says of itself, every few seconds.

    Attributes:
        name: One that no other worker has.
        started_at: Unix time, seconds.
        sockets: How many clients watch the progress of transfers over it.
        free_bytes: Free space on its disk; `None` if that cannot be asked.
        jobs: Ids of the jobs that it works on, 1,000 at most.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    host: str
    process: int
    started_at: float
    sockets: int
    free_bytes: int | None
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class SlotQueue:
    """The holders of one kind of slots: how many have one, how many wait, and which wait, the first ones first."""

    held: int
    waiting: int
    first: Sequence[str]


@dataclass(frozen=True)
class Overview:
    """All that waits, runs or ended a short time ago.

    Attributes:
        at: The store's time, Unix time in seconds.
        unfinished: Jobs that need a worker, with or without one, in the order in which their leases end.
        paused: Uploads that wait for their next request, the latest first.
        ended: Jobs that have ended, the latest first.
        callbacks: What waits in the outbox, the next to be delivered first, each with the Unix time, in seconds, when
            it comes due.
        totals: How many there are of these four, listed or not, by their names here.
        oldest_callback_seconds: The age of the callback that has waited longest; 0 if there is none.
        slots: Who has and who wants them, by the name of the kind.
        workers: What workers last said, each with the seconds that have passed since.
        metrics: What all workers counted, by the Unix time, in seconds, at which a step began; the oldest first.
    """

    at: float
    unfinished: Sequence[Job]
    paused: Sequence[Job]
    ended: Sequence[Job]
    callbacks: Sequence[tuple[Callback, float]]
    totals: Mapping[str, int]
    oldest_callback_seconds: float
    slots: Mapping[str, SlotQueue]
    workers: Sequence[tuple[WorkerReport, float]]
    metrics: Mapping[int, Mapping[str, int]]
