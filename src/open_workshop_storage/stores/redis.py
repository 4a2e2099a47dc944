"""The job store of loaders that act as one: every worker on every host over one Redis.

`redis_keys` says what it keeps there under which names.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Collection, Mapping, Sequence
from itertools import chain
from typing import cast

from redis.asyncio import Redis

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.errors import ServiceUnavailable, StorageBusy
from open_workshop_storage.core.events import Event, EventKind, event_of, first_event
from open_workshop_storage.core.job import Job, Slot
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import (
    LEASE_SECONDS,
    REPORT_SECONDS,
    STEP_SECONDS,
    STEPS,
    Interruption,
    JobEvents,
    Overview,
    StaleJobError,
    WorkerReport,
)
from open_workshop_storage.stores import redis_scripts as scripts
from open_workshop_storage.stores.fanout import Notices
from open_workshop_storage.stores.redis_channels import RedisChannels
from open_workshop_storage.stores.redis_client import RedisCalls
from open_workshop_storage.stores.redis_functions import functions
from open_workshop_storage.stores.redis_keys import FIELDS, RedisKeys, job_of, record_of
from open_workshop_storage.stores.redis_outbox import RedisOutbox
from open_workshop_storage.stores.redis_overview import read_overview
from open_workshop_storage.stores.redis_sentinel import SentinelPool

_LEASE_MS = int(LEASE_SECONDS * 1000)
_DAY_SECONDS = 86400.0


def redis_job_store(settings: Settings, redis: Redis) -> RedisJobStore:
    """Return the store of all loaders with these settings."""
    idle = max(settings.job_ttl_seconds, settings.transfer_resume_seconds)
    keep = idle + settings.callback_retry_window_seconds + _DAY_SECONDS
    return RedisJobStore(redis, settings.redis_prefix, keep, settings.slot_limits)


class RedisJobStore(Notices):
    """Fulfils `core.store.JobStore`, which documents the methods; each change is one script, by Redis's clock.

    `run` has to run as long as the store is used.

    Args:
        redis: As `redis_client` makes it.
        prefix: `REDIS_PREFIX`.
        keep_seconds: After so long without a change a record goes by itself, should no loader be there to clean up.
        limits: How many slots of each kind there are; 0, or no entry, for any number.
    """

    def __init__(
        self, redis: Redis, prefix: str, keep_seconds: float, limits: Mapping[Slot, int] | None = None
    ) -> None:
        super().__init__()
        self._redis = redis
        self._keys = RedisKeys(prefix)
        self._name = uuid.uuid4().hex
        self._own_work = self._keys.work + self._name
        always = [self._own_work, self._keys.granted, *(self._keys.interrupted + each for each in Interruption)]
        self._channels = RedisChannels(redis, always, self._on_message, self._on_return)
        self._calls = RedisCalls(redis, functions(self._keys, limits or {}, keep_seconds))
        self.outbox = RedisOutbox(self._calls, self._keys)

    async def run(self) -> None:
        """Receive events of other workers, and follow the sentinels if there are some, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._channels.run())
            if isinstance(self._redis.connection_pool, SentinelPool):
                group.create_task(self._redis.connection_pool.follow())

    def _on_message(self, channel: str, payload: str) -> None:
        if channel == self._own_work:
            self._work.set()
        elif channel == self._keys.granted:
            if payload in self._granted:
                self._granted[payload].set()
        elif channel.startswith(self._keys.interrupted):
            self._interrupted.put_nowait((payload, Interruption(channel.removeprefix(self._keys.interrupted))))
        else:
            version, kind, text = payload.split(" ", 2)
            event = Event(version=int(version), kind=EventKind(kind), text=text)
            self._fanout.publish(channel.removeprefix(self._keys.events), event)

    async def _on_return(self) -> None:
        for job_id in self._fanout.job_ids:
            try:
                job = await self.get(job_id)
            except ServiceUnavailable as error:
                # A Redis that still loads its data takes subscriptions, and no more.
                raise ConnectionError("no record to catch up with") from error
            # A job that Redis has lost is about to be restored.
            if job:
                self._fanout.catch_up(job_id, first_event(job))

    async def ping(self) -> None:
        """Return if Redis answers."""
        # Replicas answer PING too, and so does a Redis that is full.
        await self._calls.ask(self._redis.set(self._keys.ping, 1, px=_LEASE_MS))

    async def get(self, job_id: str) -> Job | None:
        values = self._redis.hmget(self._keys.job + job_id, FIELDS)
        return job_of(await self._calls.ask(cast(Awaitable[list[str | None]], values)))

    async def save(
        self, job: Job, event: EventKind | None, callback: Callback | None = None, *, withdrawn: str | None = None
    ) -> Job:
        saved = job.as_saved(ends=event is not None and event.final)
        record = record_of(saved)
        stored = await self._calls.script(
            scripts.SAVE,
            *chain.from_iterable(record.items()),
            id=saved.job_id,
            expected=job.version,
            owner=saved.owner or "",
            slot=record["slot"],
            home=record["home"],
            created=record["created"],
            set="leases" if saved.needs_worker else "paused" if saved.paused else "ended",
            event=event and f"{saved.version} {event} {event_of(saved, event).text}",
            jti=callback.jti if callback else None,
            callback=callback.model_dump_json() if callback else None,
            withdrawn=withdrawn,
        )
        if stored is None:
            raise StaleJobError
        if stored == 0:
            raise StorageBusy
        kept_since, owner = stored
        return saved.model_copy(update={"kept_since": int(kept_since), "owner": owner or None})

    async def remove(self, job: Job) -> None:
        removed = await self._calls.script(
            scripts.REMOVE,
            id=job.job_id,
            expected=job.version,
            status=None if job.may_begin_again else job.status,
            expires_at=int(job.claims.expires_at * 1000),
        )
        if not removed:
            raise StaleJobError

    async def forgotten(self, job_id: str) -> str | None:
        return cast(str | None, await self._calls.ask(self._redis.get(self._keys.forgotten + job_id)))

    async def restore(self, job: Job) -> None:
        restored = await self._calls.script(
            scripts.RESTORE,
            *chain.from_iterable(record_of(job).items()),
            id=job.job_id,
            owner=job.owner or "",
            kept_before=job.kept_since,
        )
        if not restored:
            raise StaleJobError

    async def take(self, owner: str, *, home: str | None = None, expired: bool = True) -> Job | None:
        taken = await self._calls.script(scripts.TAKE, owner=owner, worker=self._name, expired=int(expired), home=home)
        if not taken:
            return None
        may_be_more, fields = taken
        if may_be_more:
            self._work.set()
        return job_of(fields)

    async def renew(self, jobs: Collection[Job]) -> set[str]:
        values = [text for job in jobs for text in (job.job_id, job.owner or "", job.slot or "")]
        return set(await self._calls.script(scripts.RENEW, *values))

    async def idle(self, seconds: float, limit: int) -> Sequence[Job]:
        return await self._unchanged("ended", seconds, limit)

    async def paused(self, seconds: float, limit: int) -> Sequence[Job]:
        return await self._unchanged("paused", seconds, limit)

    async def _unchanged(self, in_set: str, seconds: float, limit: int) -> Sequence[Job]:
        answers = await self._calls.script(
            scripts.UNCHANGED, set=in_set, unchanged_for=int(seconds * 1000), limit=limit
        )
        return [job for job in map(job_of, answers) if job]

    async def interrupt(self, job_id: str, interruption: Interruption) -> None:
        await self._calls.ask(self._redis.publish(self._keys.interrupted + interruption, job_id))

    async def watch(self, job_id: str) -> JobEvents:
        watcher = self._fanout.add(job_id)
        try:
            await self._channels.subscribe(self._keys.events + job_id)
            watcher.start(first_event(await self.get(job_id)))
        except BaseException:
            await self.unwatch(job_id, watcher)
            raise
        return watcher

    async def unwatch(self, job_id: str, events: JobEvents) -> None:
        self._fanout.remove(job_id, events)
        await self._channels.unsubscribe(self._keys.events + job_id)

    async def enter(self, slot: Slot, holder: str, since: float | None = None) -> bool:
        self._granted.setdefault(holder, asyncio.Event())
        place = None if since is None else since * 1000
        entered = await self._calls.script(scripts.ENTER, slot=slot, holder=holder, since=place)
        if entered:
            self._granted.pop(holder, None)
        return bool(entered)

    async def leave(self, slot: Slot, holder: str) -> None:
        self._granted.pop(holder, None)
        await self._calls.script(scripts.LEAVE, slot=slot, holder=holder)

    async def renew_slots(self, slot: Slot, holders: Collection[str]) -> None:
        await self._calls.script(scripts.RENEW_SLOT, *holders, slot=slot)

    async def waiting(self) -> Mapping[Slot, int]:
        return dict(zip(Slot, await self._calls.script(scripts.WAITING, *Slot), strict=True))

    async def report(self, worker: WorkerReport, metrics: Mapping[str, int]) -> None:
        await self._calls.script(
            scripts.REPORT,
            *(value for metric in metrics.items() for value in metric),
            name=worker.name,
            report=worker.model_dump_json(),
            present=int(REPORT_SECONDS * 1000),
            step=STEP_SECONDS,
            kept_for=STEP_SECONDS * (STEPS + 1),
        )

    async def overview(self, limit: int) -> Overview:
        return await self._calls.ask(read_overview(self._redis, self._keys, limit))
