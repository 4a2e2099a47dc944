"""What the doctor finds in Redis and in sentinels, and what the job store does in one that became a replica."""

from __future__ import annotations

import gc
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Slot, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.operations.findings import Finding, Severity
from open_workshop_storage.services.operations.redis_checks import examine_redis
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.sentinel import NAME, Access, SentinelRedis
from tests.support.servers import PROJECT, Server, free_port, redis_server

pytestmark = pytest.mark.anyio

PREFIX = "open-workshop-storage"
JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")
pytestmark = pytest.mark.anyio


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
    return "\n".join(text for severity, _, text in await examine_redis(settings) if severity is Severity.FAULT)


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


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def findings(root: Path, url: str) -> list[Finding]:
    """Return what the doctor finds in a Redis of this URL."""
    return await examine_redis(make_settings(root / "storage", Secrets(), redis_url=url))


async def test_what_is_as_it_should_be_is_said_of_each_server(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack)
    primary, replica = servers.ports
    assert await findings(tmp_path, servers.url) == [
        (Severity.OK, "Sentinel", f"3 answer, and name the primary 127.0.0.1:{primary}"),
        (Severity.OK, "Redis", "writes each change to its disk"),
        (Severity.OK, f"replica 127.0.0.1:{replica}", "writes each change to its disk"),
    ]


async def test_what_may_lose_jobs_is_named_on_the_server_that_may(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack, replicas=2)
    primary, *replicas = servers.ports
    with servers.data(replicas[0]) as data:
        data.config_set("maxmemory", 10**9)
        data.config_set("maxmemory-policy", "allkeys-lru")
        data.config_set("appendonly", "no")
    advice = {(subject, text.split(";")[-1].strip()) for _, subject, text in await findings(tmp_path, servers.url)}
    assert advice >= {
        (f"replica 127.0.0.1:{replicas[0]}", "set `maxmemory-policy noeviction`"),
        (f"replica 127.0.0.1:{replicas[0]}", "set `appendonly yes`"),
        (f"replica 127.0.0.1:{replicas[1]}", "writes each change to its disk"),
        ("Redis", "set `min-replicas-to-write 1`"),
    }
    with servers.data(primary) as data:
        data.config_set("min-replicas-to-write", 1)
    assert (Severity.OK, "Redis", "writes each change to its disk") in await findings(tmp_path, servers.url)


async def test_a_primary_without_the_replica_that_it_needs_is_named(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack)
    primary, replica = servers.ports
    with servers.data(primary) as data:
        data.config_set("min-replicas-to-write", 1)
        texts = [text for _, subject, text in await findings(tmp_path, servers.url) if subject == "Redis"]
        assert ["only replica" in text for text in texts] == [True]
        servers.kill(replica)
        servers.until_known_as_down(replica)
        found = await findings(tmp_path, servers.url)
        assert (Severity.WARNING, "Sentinel", f"takes the replica 127.0.0.1:{replica} for down; start it") in found
        refusals = [text for severity, subject, text in found if (severity, subject) == (Severity.FAULT, "Redis")]
        assert refusals and all("without a replica that follows" in text for text in refusals)
        data.config_set("min-replicas-to-write", 0)
    assert "has no replica that follows it" in str(await findings(tmp_path, servers.url))


async def test_sentinels_that_cannot_do_their_work_are_named(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack)
    first, second, third = servers.sentinels
    other = servers.url.replace(f"/{NAME}/", "/other/")
    assert f"127.0.0.1:{first} knows no primary of this name" in str(await findings(tmp_path, other))
    for sentinel in (second, third):
        servers.kill(sentinel)
        servers.until_known_as_down(sentinel)
    found = await findings(tmp_path, servers.url)
    assert f"127.0.0.1:{second} does not answer" in str(found)
    assert [severity for severity, _, text in found if "NOQUORUM" in text] == [Severity.FAULT]


async def test_sentinels_that_are_away_are_named_and_no_more_is_asked(tmp_path: Path) -> None:
    port = free_port()
    *away, none = await findings(tmp_path, f"redis+sentinel://127.0.0.1:{port}/{NAME}")
    assert [text.split(" (")[0] for _, _, text in away] == [f"127.0.0.1:{port} does not answer"]
    assert none.severity is Severity.FAULT and "names no primary" in none.text


async def test_the_documented_rights_at_sentinels_are_enough_and_a_wrong_password_is_named(
    tmp_path: Path, stack: ExitStack
) -> None:
    (user,) = re.findall("^user open-workshop .+", (PROJECT / "docs" / "DEPLOYMENT.md").read_text(), re.MULTILINE)
    access = Access(
        query="?sentinel_username=open-workshop&sentinel_password=PASSWORD",
        sentinels=["requirepass guard", "sentinel sentinel-pass guard", user],
        sentinel_password="guard",
    )
    servers = SentinelRedis(tmp_path, stack, access=access)
    assert {severity for severity, _, _ in await findings(tmp_path, servers.url)} == {Severity.OK}
    refused = await findings(tmp_path, servers.url.replace("PASSWORD", "hush"))
    assert "refuses" in refused[0].text and "hush" not in str(refused)
