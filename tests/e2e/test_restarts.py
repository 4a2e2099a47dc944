"""What outlives a restart of all loaders, or the death of one worker after the other."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.conftest import ServiceStarter
from tests.e2e.under_way import FileOrigin, reported
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload
from tests.support.manager import Answer
from tests.support.origins import running_origin
from tests.support.servers import clean_environment, granian
from tests.support.services import Services

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)


async def test_callbacks_that_wait_are_delivered_after_a_restart_of_all_loaders(
    start_services: ServiceStarter, redis_url: str, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    services = start_services(redis_url, apps=["loader"], redis_workers=1)
    good, bad = services.ticket(), services.ticket()
    for ticket, body, answer in ((good, MOD, 200), (bad, MOD[:-50], 400)):
        services.manager.script(ticket.job_id, Answer(503, {"Retry-After": "5"}, move=False))
        assert (await upload(http, services.loader, ticket.token, body)).status_code == answer
        await reported(services, ticket)
    services.servers["loader"].stop()
    assert [len(services.manager.callbacks(ticket.job_id)) for ticket in (good, bad)] == [1, 1]

    environment = clean_environment() | {"OW_CONFIG": str(services.main_dir.parent / "ow_config.py")}
    with granian("loader", tmp_path, environment) as next_loader:
        services.manager.loader_url = next_loader.url
        for ticket, status in ((good, "success"), (bad, "error")):
            first, second = await reported(services, ticket, 2)
            assert (first.claims["status"], second.claims["status"]) == (status, status)
            assert second.headers["authorization"] != first.headers["authorization"]
            assert second.claims["iat"] > first.claims["iat"]
    assert (services.main_dir / good.path).read_bytes() == MOD


async def end_of(services: Services, redis_url: str, origin: str, **values: object) -> tuple[str, str | None]:
    """Put a job's record into the store as a worker leaves it that dies; return the reported status and reason."""
    prefix = f"test-{services.main_dir.parent.name}"
    async with running_origin(FileOrigin(MOD, None, whole=True)) as running, redis_client(redis_url) as client:
        ticket = services.ticket()
        claims = TransferClaims(job_id=ticket.job_id, mod_id=ticket.mod_id, download_url=f"{running.url}/mod")
        job = Job(
            job_id=ticket.job_id, claims=claims, origin=origin, file_name="mod.zip", owner="a dead worker", **values
        )
        await RedisJobStore(client, prefix, keep_seconds=60).save(job, None)
        await client.zadd(f"{prefix}:leases", {job.job_id: 0})
        (callback,) = await reported(services, ticket)
    return callback.claims["status"], callback.claims.get("reason")


@pytest.mark.parametrize(("lost_owners", "end"), [(9, ("success", None)), (10, ("error", "exception"))])
async def test_a_job_that_many_workers_died_over_is_not_given_another(
    lost_owners: int, end: tuple[str, str | None], services_redis: Services, redis_url: str
) -> None:
    assert await end_of(services_redis, redis_url, "url", lost_owners=lost_owners) == end


@pytest.mark.parametrize(
    ("origin", "stage", "end"),
    [
        ("url", Stage.DOWNLOADED, ("success", None)),
        ("url", Stage.EXTRACTING, ("success", None)),
        ("upload", Stage.UPLOADED, ("error", "exception")),
    ],
)
async def test_a_received_file_that_may_not_be_on_the_disk_is_fetched_again_or_ends_its_attempt(
    origin: str, stage: Stage, end: tuple[str, str | None], services_redis: Services, redis_url: str
) -> None:
    assert await end_of(services_redis, redis_url, origin, stage=stage) == end
