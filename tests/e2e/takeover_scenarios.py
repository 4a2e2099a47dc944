"""Workers that die, and workers that only sleep, with Redis: other ones take over what they did.

A worker is taken for dead when its lease has run out. That takes its time, so these scenarios run side by side.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from open_workshop_storage.client import Moved, StorageError
from tests.conftest import ServiceStarter
from tests.e2e.at_each_point import AtEachPoint
from tests.e2e.outage_scenarios import LONGER_THAN_A_LEASE_SECONDS
from tests.e2e.under_way import Records, Transfers, assert_arrived
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, eventually
from tests.support.processes import children, is_running, send_signal
from tests.support.servers import redis_server
from tests.support.services import Services, another_host
from tests.support.seven_zip_gate import SevenZipGate

ANOTHER_FILE_SYSTEM = "/dev/shm"


async def _begun(
    start_services: ServiceStarter, folder: Path, stack: AsyncExitStack
) -> tuple[Services, SevenZipGate, Records, httpx.AsyncClient, AtEachPoint]:
    gate = SevenZipGate(folder / "gate")
    redis = stack.enter_context(redis_server(folder))
    services = start_services(redis.url, apps=["loader"], environment=gate.environment)
    elsewhere = stack.enter_context(tempfile.TemporaryDirectory(dir=ANOTHER_FILE_SYSTEM))
    (services.main_dir / "archive").symlink_to(elsewhere)
    records = Records(services, redis.url)
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_SECONDS))
    transfers = AtEachPoint(services, gate, records)
    await transfers.begin(http, stack)
    return services, gate, records, http, transfers


async def workers_are_killed_at_each_point(start_services: ServiceStarter, folder: Path) -> None:
    """`kill -9` of all workers: those that take their place bring everything to its end."""
    async with AsyncExitStack() as stack:
        services, _, _, _, transfers = await _begun(start_services, folder, stack)
        send_signal(transfers.workers, signal.SIGKILL)
        await eventually(lambda: not any(map(is_running, transfers.commands)))
        transfers.go_on()
        (cut_off,) = await asyncio.gather(transfers.move, return_exceptions=True)
        assert isinstance(cut_off, StorageError) and cut_off.status is None
        await transfers.assert_taken_over()
        path = transfers.moved.ticket.path.removeprefix("archive/")
        again = await asyncio.to_thread(services.manager.move, transfers.moved.ticket.job_id, "archive", path)
        assert again.final_path == transfers.moved.ticket.path, "a move said again has the same answer"


async def workers_sleep_at_each_point_while_another_host_goes_on(start_services: ServiceStarter, folder: Path) -> None:
    """SIGSTOP of all workers for longer than their leases: once awake, they change nothing any more.

    The other host has a working directory of its own, and another path to the storage root.
    """
    async with AsyncExitStack() as stack:
        services, gate, records, http, transfers = await _begun(start_services, folder, stack)
        other = stack.enter_context(another_host(services, folder, gate.environment))
        services.manager.loader_url = other.url
        transfers.go_on()
        await transfers.assert_taken_over()

        elsewhere_services = services.through(other)
        newer = Transfers(elsewhere_services, http, stack).upload(
            zip_of(SMALL_MOD), mod_id=transfers.moved.ticket.mod_id
        )
        assert (await newer.answer).status_code == 200
        tickets = [each.ticket for each in transfers.all()]
        before = [await records.get(ticket) for ticket in tickets]
        counts = [len(services.manager.callbacks(ticket.job_id)) for ticket in tickets]
        send_signal(transfers.workers, signal.SIGCONT)
        uploads = (transfers.told, transfers.normalised, transfers.uploaded)
        assert [(await upload.answer).status_code for upload in uploads] == [200, 503, 503]
        # It looks again, and finds the move done, unless it has slept through `TRANSFER_MOVE_WAIT_SECONDS`.
        (woken,) = await asyncio.gather(transfers.move, return_exceptions=True)
        assert isinstance(woken, Moved) or (isinstance(woken, StorageError) and woken.status == 503)
        # Nothing of it is left to be done wrong once each sleeper is seen to have dropped what it had.
        log = services.servers["loader"]
        await eventually(lambda: log.output().count("lost to another worker") == len(tickets) - 2)
        assert [await records.get(ticket) for ticket in tickets] == before
        assert [len(services.manager.callbacks(ticket.job_id)) for ticket in tickets] == counts
        assert (services.main_dir / transfers.moved.ticket.path).read_bytes() == zip_of(SMALL_MOD)
        awake = Transfers(services, http, stack).upload(zip_of(SMALL_MOD))
        assert (await awake.answer).status_code == 200


async def all_workers_sleep_and_no_job_is_taken(start_services: ServiceStarter, folder: Path) -> None:
    """SIGSTOP of all workers there are for longer than their leases, as of a frozen host: once awake, they go on."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server(folder))
        services = start_services(redis.url, apps=["loader"])
        records = Records(services, redis.url)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_SECONDS))
        transfers = Transfers(services, http, stack)
        bodies = [InterruptedBody(zip_of(SMALL_MOD)) for _ in range(4)]
        uploads = [transfers.upload(aiter(body)) for body in bodies]
        for upload in uploads:
            await records.until(upload.ticket, stage="uploading")
        workers = children(services.servers["loader"].process.pid)
        send_signal(workers, signal.SIGSTOP)
        await asyncio.sleep(LONGER_THAN_A_LEASE_SECONDS)
        send_signal(workers, signal.SIGCONT)
        for body, upload in zip(bodies, uploads, strict=True):
            body.go_on.set()
            assert (await upload.answer).status_code == 200
            await assert_arrived(services, upload.ticket, SMALL_MOD)
