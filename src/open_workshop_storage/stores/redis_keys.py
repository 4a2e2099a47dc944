"""What is kept in Redis: the names of keys (docs/ARCHITECTURE.md, "Redis keys"), and the records of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from open_workshop_storage.core.errors import NewerRecord
from open_workshop_storage.core.job import SCHEMA, Job, Slot
from open_workshop_storage.core.store import SLOTS_OF_JOBS


class RedisKeys:
    """Names of keys and channels, all below `REDIS_PREFIX`. What ends in a colon is the beginning of many names.

    Attributes:
        ping: Written to see whether Redis takes writes; goes by itself.
        doctor: Written, read and removed by `doctor`; also the name of the channel that it tries.
        sets: Each job is in one of them.
    """

    def __init__(self, prefix: str) -> None:
        self.job = f"{prefix}:job:"
        self.forgotten = f"{prefix}:forgotten:"
        self.ping = f"{prefix}:ping"
        self.kept_since = f"{prefix}:kept_since"
        self.leases = f"{prefix}:leases"
        self.paused = f"{prefix}:paused"
        self.ended = f"{prefix}:ended"
        self.slots = f"{prefix}:slots:"
        self.sets = self.leases, self.paused, self.ended, *(self.slot(slot, "jobs") for slot in SLOTS_OF_JOBS)
        self.outbox = f"{prefix}:outbox"
        self.due = f"{prefix}:outbox:due"
        self.since = f"{prefix}:outbox:since"
        self.events = f"{prefix}:events:"
        self.work = f"{prefix}:work:"
        self.idle = f"{prefix}:idle:"
        self.interrupted = f"{prefix}:interrupted:"
        self.granted = f"{prefix}:granted"
        self.workers = f"{prefix}:workers"
        self.reported = f"{prefix}:workers:told"
        self.metrics = f"{prefix}:metrics:"
        self.blurhash = f"{prefix}:blurhash:"
        self.doctor = f"{prefix}:doctor"

    def slot(self, slot: Slot, part: Literal["held", "queue", "jobs"]) -> str:
        """Return the key of a sorted set: the slot's holders, the holders that wait for it, or the jobs that do."""
        return f"{self.slots}{slot}:{part}"


FIELDS = ("data", "schema", "version", "owner", "lost_owners", "kept_since", "slot")
"""What `job_of` reads of a job's hash, in this order.

`data` is the record as its last save left it. A take changes only the fields beside it, so those count.
"""


def job_of(values: Sequence[str | None]) -> Job | None:
    """Return the job whose `FIELDS` these are, `None` if there is none.

    Raises:
        NewerRecord: This version of the program does not know its schema.
    """
    if values[0] is None:
        return None
    data, schema, version, owner, lost_owners, kept_since = cast(Sequence[str], values[:6])
    slot = values[6]
    if int(schema) > SCHEMA:
        raise NewerRecord
    beside = {
        "version": int(version),
        "owner": owner or None,
        "lost_owners": int(lost_owners),
        "kept_since": int(kept_since),
        "slot": Slot(slot) if slot else None,
    }
    return Job.model_validate_json(data).model_copy(update=beside)


def record_of(job: Job) -> dict[str, str | int | float]:
    """Return a job's hash, but for what scripts add: its owner, and since when it is kept and free."""
    return {
        "data": job.model_dump_json(),
        "schema": SCHEMA,
        "version": job.version,
        "lost_owners": job.lost_owners,
        "attempt": job.attempt,
        "slot": job.slot or "",
        "home": job.home or "",
        "created": job.created_at * 1000,
    }


def known_job_of(values: Sequence[str | None]) -> Job | None:
    """Return the job whose `FIELDS` these are, `None` also for a record that a newer version wrote."""
    try:
        return job_of(values)
    except NewerRecord:
        return None
