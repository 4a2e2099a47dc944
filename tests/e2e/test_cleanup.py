"""What goes after its time, and what a restart forgets."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
import redis

from open_workshop_storage.client import StorageError
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, eventually, upload, watching
from tests.support.manager import Answer
from tests.support.servers import clean_environment, granian
from tests.support.services import Services, Ticket, another_host

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)
TTL_SECONDS = 1.5


async def move(services: Services, ticket: Ticket, path: str) -> str:
    """Return how a move is refused; nothing if it is done."""
    try:
        await asyncio.to_thread(services.manager.move, ticket.job_id, "resource", path)
    except StorageError as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_what_is_idle_goes_after_its_time_and_what_is_waited_for_stays(
    store: str,
    start_services: ServiceStarter,
    http: httpx.AsyncClient,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    redis_url = request.getfixturevalue("redis_url") if store == "redis" else ""
    services = start_services(
        redis_url, ["loader"], redis_workers=1, JOB_TTL_SECONDS=TTL_SECONDS, CLEANUP_INTERVAL_SECONDS=0.2
    )
    if not redis_url:
        await clean_up(services, http)
        return
    with another_host(services, tmp_path), redis.Redis.from_url(redis_url, decode_responses=True) as client:
        prefix = f"test-{services.main_dir.parent.name}:"
        for name in ("leases", "ended"):
            client.zadd(f"{prefix}{name}", {"job-without-a-record": 0})
        waiting = await clean_up(services, http)
        stays = {"kept_since", "outbox", "outbox:due", "outbox:since", "ended", f"job:{waiting.job_id}"}

        def kept() -> set[str]:
            names = {key.removeprefix(prefix) for key in client.keys(f"{prefix}*")}
            # Jobs whose tokens could begin them anew, and what workers tell of themselves.
            prefixes = ("forgotten:", "idle:", "metrics:", "slots:", "workers")
            expiring = {name for name in names if name.startswith(prefixes)}
            return names - {name for name in expiring if client.ttl(prefix + name) > 0}

        await eventually(lambda: kept() == stays)
        assert client.zrange(f"{prefix}ended", 0, -1) == [waiting.job_id]


async def clean_up(services: Services, http: httpx.AsyncClient) -> Ticket:
    """Return the one job whose callback still waits in the end."""
    temp = services.main_dir / "temp"

    stray, fresh = temp / "job-stray-workspace", temp / "job-fresh-workspace"
    for folder in (stray, fresh):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"left behind")
    for path in (stray / "file", stray):
        os.utime(path, (1, 1))
    stranger = temp / "a-file"
    stranger.write_bytes(b"of the operator")

    running, packed, waiting, moved, failed = (services.ticket() for _ in range(5))
    services.manager.script(packed.job_id, Answer(move=False))
    services.manager.script(waiting.job_id, Answer(503, {"Retry-After": "3600"}, move=False))
    body = InterruptedBody(MOD)
    async with asyncio.TaskGroup() as tasks, watching(services.loader, running.job_id, running.token) as watcher:
        sending = tasks.create_task(upload(http, services.loader, running.token, aiter(body)))
        await watcher.until(stage="uploading")
        for ticket in (packed, waiting, moved):
            assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200
        assert (await upload(http, services.loader, failed.token, MOD[:-50])).status_code == 400
        assert (await move(services, packed, "x" * 300)).startswith("400")
        await eventually(lambda: not stray.exists())

        await eventually(lambda: not (temp / packed.job_id).exists())
        await eventually(lambda: not fresh.exists())
        assert await move(services, packed, "packed.zip") == "404 Job not found"
        async with watching(services.loader, packed.job_id, packed.token) as forgotten:
            assert forgotten.messages[0]["stage"] == "pending"
        for ticket in (moved, failed):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await move(services, ticket, "any.zip") != "404 Job not found":
                    await asyncio.sleep(0.1)

        assert await move(services, waiting, "waiting.zip") == ""
        assert not sending.done()
        body.go_on.set()
    assert sending.result().status_code == 200
    assert (services.main_dir / running.path).read_bytes() == MOD
    assert stranger.exists()
    return waiting


async def test_a_restart_without_redis_forgets_jobs_and_clears_their_workspaces(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"])
    packed, moved = services.ticket(), services.ticket()
    services.manager.script(packed.job_id, Answer(move=False))
    for ticket in (packed, moved):
        assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200
    assert (services.main_dir / "temp" / packed.job_id).exists()

    folder = services.main_dir.parent
    environment = clean_environment() | {"OW_CONFIG": str(folder / "ow_config.py")}
    services.servers["loader"].stop()
    with granian("loader", folder, environment, port=services.servers["loader"].port):
        await eventually(lambda: not (services.main_dir / "temp" / packed.job_id).exists())
        for ticket in (packed, moved):
            assert await move(services, ticket, "any.zip") == "404 Job not found"
        assert (services.main_dir / moved.path).read_bytes() == MOD
        assert (await upload(http, services.loader, packed.token, MOD)).status_code == 200
