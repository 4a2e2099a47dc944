"""What the doctor finds in a Redis that answers, and what the job store does in one that became a replica."""

from __future__ import annotations

import gc
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.slots import Slot
from open_workshop_storage.services.operations.findings import Verdict
from open_workshop_storage.services.operations.redis_checks import examine_redis
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.servers import PROJECT, Server, redis_server

pytestmark = pytest.mark.anyio

PREFIX = "open-workshop-storage"
JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis that the test may change."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Redis]:
    """A client that may do everything."""
    async with Redis.from_url(server.url) as client:
        yield client


async def acl(admin: Redis, *rules: str) -> None:
    answer: Awaitable[object] = admin.execute_command("ACL", "SETUSER", *rules)  # type: ignore[no-untyped-call]
    await answer


def settings_of(tmp_path: Path, url: str) -> Settings:
    return make_settings(tmp_path, Secrets(), redis_url=url, redis_prefix=PREFIX)


async def complaints(settings: Settings) -> str:
    """Return the faults that the doctor finds."""
    return "\n".join(text for verdict, _, text in await examine_redis(settings) if verdict is Verdict.FAULT)


async def test_the_documented_rights_are_enough_and_no_more_than_needed(
    server: Server, admin: Redis, tmp_path: Path
) -> None:
    (command,) = re.findall(r"^ACL SETUSER (.+)$", (PROJECT / "docs" / "DEPLOYMENT.md").read_text(), re.MULTILINE)
    await acl(admin, *command.split())
    url = server.url.replace("redis://", "redis://open-workshop:PASSWORD@")
    assert await complaints(settings_of(tmp_path, url)) == ""
    async with redis_client(url) as client:
        store = RedisJobStore(client, PREFIX, 60)
        await store.ping()
        job = await store.save(JOB, EventKind.STAGE)
        job = await store.save(
            job.changed(stage=Stage.ERROR), EventKind.ERROR, callback_of(job.changed(stage=Stage.ERROR))
        )
        assert await store.enter(Slot.UPLOAD, "holder")
        assert await store.outbox.claim(1) == [] and await store.take("owner") is None
        for denied in (client.flushdb(), client.set("another", 1), client.publish("another", ""), client.config_get()):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await denied


@pytest.mark.parametrize(
    ("denied", "named"),
    [
        ("resetchannels", "may not publish"),
        ("-subscribe", "may not subscribe"),
        ("-eval", "may not write a key by a script"),
        ("resetkeys", "may not write a key by a script"),
    ],
)
async def test_a_right_that_is_missing_is_named(
    denied: str, named: str, server: Server, admin: Redis, tmp_path: Path
) -> None:
    await acl(admin, "default", denied)
    assert named in await complaints(settings_of(tmp_path, server.url))


@pytest.mark.filterwarnings("error")
async def test_a_password_that_is_wrong_is_the_only_complaint(server: Server, admin: Redis, tmp_path: Path) -> None:
    await acl(admin, "storage", "on", ">password")
    url = server.url.replace("://", "://storage:another@")
    assert "correct user, password and database" in await complaints(settings_of(tmp_path, url))
    # A coroutine that nothing waited for complains when it goes.
    gc.collect()


async def test_a_redis_that_is_full_is_named(server: Server, admin: Redis, tmp_path: Path) -> None:
    await admin.config_set("maxmemory", 1)
    assert "is full" in await complaints(settings_of(tmp_path, server.url))
    async with redis_client(server.url) as client:
        with pytest.raises(ServiceUnavailable):
            await RedisJobStore(client, PREFIX, 60).ping()


async def test_connections_to_a_redis_that_became_a_replica_are_dropped(
    server: Server, admin: Redis, tmp_path: Path
) -> None:
    async with redis_client(server.url) as client:
        store = RedisJobStore(client, PREFIX, 60)
        await store.ping()
        await admin.replicaof("127.0.0.1", 9)
        with pytest.raises(ServiceUnavailable):
            await store.ping()
        names = [one["name"] for one in await admin.client_list()]
        assert len(names) == 1, "only the test's own connection is left"
        await admin.replicaof("NO", "ONE")
        await store.ping()
