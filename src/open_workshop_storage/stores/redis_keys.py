"""The names of all that is kept in Redis (docs/ARCHITECTURE.md, "Redis keys")."""

from __future__ import annotations

from open_workshop_storage.core.slots import SLOTS_OF_JOBS, Slot


class RedisKeys:
    """Names of keys and channels, all below `REDIS_PREFIX`.

    Attributes:
        job: What the key of a job's hash begins with; its id follows.
        forgotten: What the key of a removed job's last status begins with; its id follows. Expires with its token.
        ping: Written to see whether Redis takes writes; goes by itself.
        kept_since: When Redis began to hold what it holds, so that a removed record can be told from a lost one.
        leases: Sorted set: jobs that need a worker, by the end of their lease; the past for those that wait for any.
        paused: Sorted set: uploads that wait for their next request, by their last change.
        ended: Sorted set: ended jobs, by their last change.
        queues: Sorted sets: jobs that wait for a slot of `SLOTS_OF_JOBS`, in this order, by their creation.
        sets: Those six; each job is in one of them.
        outbox: Hash: callbacks by `jti`.
        due: Sorted set: when they come due.
        since: Sorted set: since when they have waited.
        events: What the channel of a job's events begins with; its id follows.
        work: What the channel begins with on which a worker hears that there may be a job for it; its name follows.
        idle: What the keys of sorted sets begin with that hold the workers which wait for work, by the time when they
            last looked for it; a host's name follows, or nothing for all workers.
        interrupted: What the channels begin with on which workers are asked to leave a job or to cancel it; what they
            are asked for follows.
        slots: What the keys of slots begin with.
        granted: Channel: a slot was given to a holder that waited.
        workers: Hash: what workers last reported, by their names.
        told: Sorted set: when they did.
        metrics: What the key of a step's metrics begins with; the Unix time follows, in seconds, at which it began.
        blurhash: What the key of a file's BlurHash begins with; the digest of the file's version follows.
        doctor: Written, read and removed by `doctor`; also the name of the channel that it tries.
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
        self.queues = tuple(f"{self.slots}{slot}:jobs" for slot in SLOTS_OF_JOBS)
        self.sets = self.leases, self.paused, self.ended, *self.queues
        self.outbox = f"{prefix}:outbox"
        self.due = f"{prefix}:outbox:due"
        self.since = f"{prefix}:outbox:since"
        self.events = f"{prefix}:events:"
        self.work = f"{prefix}:work:"
        self.idle = f"{prefix}:idle:"
        self.interrupted = f"{prefix}:interrupted:"
        self.granted = f"{prefix}:granted"
        self.workers = f"{prefix}:workers"
        self.told = f"{prefix}:workers:told"
        self.metrics = f"{prefix}:metrics:"
        self.blurhash = f"{prefix}:blurhash:"
        self.doctor = f"{prefix}:doctor"

    def slot(self, slot: Slot) -> tuple[str, str, str]:
        """Return the keys of a slot's sorted sets, which all expire, unlike the queue of jobs.

        They hold the holders, by the end of their hold; the holders that wait, in their order; and the same, by the
        time until which they keep their places.
        """
        held, queue, seen = (f"{self.slots}{slot}:{part}" for part in ("held", "queue", "seen"))
        return held, queue, seen
