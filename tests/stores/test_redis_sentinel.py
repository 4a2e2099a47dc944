"""A client that goes where the sentinels say the primary is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.stores import redis_client as redis_clients
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from open_workshop_storage.stores.redis_sentinel import SentinelPool
from tests.support.events import watched
from tests.support.origins import CERTIFICATE
from tests.support.processes import connections
from tests.support.sentinel import NAME, Access, SentinelRedis
from tests.support.servers import free_port

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
JOB = Job(
    job_id="job-7f3a9c21",
    claims=TransferClaims(job_id="job-7f3a9c21"),
    origin="upload",
    file_name="mod.zip",
    stage=Stage.UPLOADING,
    owner="me",
)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SentinelRedis]:
    """A primary, a replica and three sentinels, which the test may kill."""
    with ExitStack() as stack:
        yield SentinelRedis(tmp_path, stack)


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[JobStore]:
    """A job store that runs until the block ends."""
    async with redis_client(url) as client:
        store = RedisJobStore(client, "test", keep_seconds=60)
        running = asyncio.create_task(store.run())
        try:
            yield store
        finally:
            running.cancel()
            await asyncio.wait([running])


async def until_reachable(store: JobStore) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await store.ping()
            except ServiceUnavailable:
                await asyncio.sleep(0.05)


async def test_what_a_replica_had_is_there_after_the_primary_was_killed_and_watchers_hear_on(
    servers: SentinelRedis,
) -> None:
    async with store_at(servers.url) as store:
        saved = await store.save(JOB, EventKind.STAGE)
        async with watched(store, JOB.job_id) as events:
            assert (await anext(events)).version == saved.version
            servers.kill(servers.until_whole())
            with pytest.raises(ServiceUnavailable):
                await store.ping()
            await until_reachable(store)
            assert await store.get(JOB.job_id) == saved
            async with asyncio.timeout(PATIENCE_SECONDS):
                await store.save(saved.model_copy(update={"stage": Stage.UPLOADED}), EventKind.STAGE)
                while json.loads((await anext(events)).text)["stage"] != "uploaded":
                    pass


async def test_calls_that_a_silent_primary_leaves_without_an_answer_end_once_there_is_another(
    servers: SentinelRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_clients, "_PATIENCE_SECONDS", 4 * PATIENCE_SECONDS)
    async with redis_client(servers.url) as client:
        store = RedisJobStore(client, "test", keep_seconds=60)
        await store.ping()
        old = servers.until_whole()
        with servers.silent(old):
            without_answer = asyncio.create_task(store.ping())
            await asyncio.to_thread(servers.until_failover, old)
            assert not without_answer.done()
            await store.ping()
            async with asyncio.timeout(PATIENCE_SECONDS):
                with pytest.raises(ServiceUnavailable):
                    await without_answer


async def test_a_primary_that_was_replaced_is_left_though_it_still_takes_changes(servers: SentinelRedis) -> None:
    async with store_at(servers.url) as store:
        await store.ping()
        old = servers.until_whole()
        servers.make_another_primary()
        new = await asyncio.to_thread(servers.until_failover, old)
        with servers.data(old) as left, servers.data(new) as data:
            data.delete("test:ping")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not data.exists("test:ping"):
                    await asyncio.sleep(0.05)
                    with suppress(ServiceUnavailable):
                        await store.ping()
            assert left.role()[0] == "master"


async def test_a_sentinel_that_is_silent_is_passed_over(servers: SentinelRedis) -> None:
    with servers.silent(servers.sentinels[0]):
        async with redis_client(servers.url) as client:
            await RedisJobStore(client, "test", keep_seconds=60).ping()


async def test_no_sentinel_is_forgotten_when_many_calls_pass_over_the_first_at_once(servers: SentinelRedis) -> None:
    async with redis_client(servers.url) as client:
        assert isinstance(client.connection_pool, SentinelPool)
        manager = client.connection_pool.sentinel_manager
        first, *others = manager.sentinels
        store = RedisJobStore(client, "test", keep_seconds=60)
        with servers.silent(servers.sentinels[0]):
            await asyncio.gather(*(store.ping() for _ in range(8)), return_exceptions=True)
        assert {*manager.sentinels} == {first, *others}
        assert len(manager.sentinels) == 1 + len(others)


async def test_connections_to_sentinels_are_closed_with_the_client(servers: SentinelRedis) -> None:
    sentinel = servers.sentinels[0]
    process_id = servers.process_id(sentinel)
    before = connections(process_id, sentinel)
    async with redis_client(servers.url) as client:
        await RedisJobStore(client, "test", keep_seconds=60).ping()
        assert connections(process_id, sentinel) == before + 1
    async with asyncio.timeout(PATIENCE_SECONDS):
        while connections(process_id, sentinel) > before:
            await asyncio.sleep(0.05)


async def test_without_a_sentinel_the_store_is_away(tmp_path: Path) -> None:
    async with redis_client(f"redis+sentinel://127.0.0.1:{free_port()}/{NAME}") as client:
        with pytest.raises(ServiceUnavailable):
            await RedisJobStore(client, "test", keep_seconds=60).ping()


async def test_data_servers_and_sentinels_may_each_ask_for_users_of_their_own(tmp_path: Path) -> None:
    rights = "~test:* &test:* +@all -@dangerous"
    access = Access(
        user="worker:data-word@",
        query="?sentinel_username=watcher&sentinel_password=sentinel-word",
        servers=["requirepass root", "masterauth root", f"user worker on >data-word {rights}"],
        sentinels=[
            "requirepass guard",
            "sentinel sentinel-pass guard",
            f"sentinel auth-pass {NAME} root",
            "user watcher on >sentinel-word -@all +sentinel|masters +hello +auth",
        ],
        server_password="root",
        sentinel_password="guard",
    )
    with ExitStack() as stack:
        servers = SentinelRedis(tmp_path, stack, access=access)
        async with redis_client(servers.url) as client:
            await RedisJobStore(client, "test", keep_seconds=60).ping()
        for word in ("data-word", "sentinel-word"):
            async with redis_client(servers.url.replace(word, "wrong")) as client:
                with pytest.raises(ServiceUnavailable):
                    await RedisJobStore(client, "test", keep_seconds=60).ping()


async def test_data_servers_and_sentinels_are_reached_over_tls_and_their_certificates_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with ExitStack() as stack:
        servers = SentinelRedis(tmp_path, stack, access=Access(query=f"?ssl_ca_certs={CERTIFICATE}", tls=True))
        async with redis_client(servers.url) as client:
            store = RedisJobStore(client, "test", keep_seconds=60)
            await store.ping()
            servers.kill(servers.until_whole())
            await until_reachable(store)
        async with redis_client(servers.url.partition("?")[0]) as client:
            with pytest.raises(ServiceUnavailable):
                await RedisJobStore(client, "test", keep_seconds=60).ping()
