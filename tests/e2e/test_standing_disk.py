"""A disk that stands still holds up what needs it, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServiceStarter
from tests.e2e.test_move import move, packed
from tests.support.client import InterruptedBody, eventually, upload, watching
from tests.support.mounts import skipping_if_refused
from tests.support.services import Services
from tests.support.standing_disk import StandingDisk, standing_disk, waiting_threads

pytestmark = pytest.mark.anyio

AT_ONCE = max(8, len(os.sched_getaffinity(0)) + 6)
"""More than the threads that asyncio shares out by itself."""
ANSWER_SECONDS = 60
"""What is not answered by then waits for the disk."""
NOISE = random.Random(5).randbytes(2_000_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StandingDisk]:
    with skipping_if_refused(), standing_disk(tmp_path / "disk") as mounted:
        yield mounted


def held_up(services: Services) -> int:
    """Return how many threads of the loader wait for the disk."""
    return sum(map(waiting_threads, services.servers["loader"].workers()))


async def assert_answers(services: Services) -> None:
    """Ask for what needs nothing written."""
    async with httpx.AsyncClient(base_url=services.loader, timeout=ANSWER_SECONDS) as http:
        for path in ("/loader/healthz", "/loader/readyz"):
            assert (await http.get(path)).status_code == 200
        ticket = services.ticket()
        # Refused for want of a URL, once all that a transfer needs here has been looked at.
        assert (await http.get("/transfer/start", params={"token": ticket.token})).status_code == 400
        async with asyncio.timeout(ANSWER_SECONDS), watching(services.loader, ticket.job_id, ticket.token):
            pass


async def test_uploads_that_wait_for_the_disk_hold_up_nothing_else(
    disk: StandingDisk, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"], MAIN_DIR=str(disk.folder), TRANSFER_UPLOAD_CONCURRENCY=AT_ONCE)
    tickets = [services.ticket() for _ in range(AT_ONCE)]
    # The file is begun with the first half MiB.
    bodies = [InterruptedBody(NOISE, len(NOISE) // 2) for _ in tickets]
    async with asyncio.TaskGroup() as group:
        uploads = [
            group.create_task(upload(http, services.loader, ticket.token, aiter(body), "noise.bin"))
            for ticket, body in zip(tickets, bodies, strict=True)
        ]
        await eventually(lambda: len(list((disk.folder / "temp").glob("*/*/source"))) == AT_ONCE)
        with disk.standing_still():
            for body in bodies:
                body.go_on.set()
            await eventually(lambda: held_up(services) >= AT_ONCE)
            await assert_answers(services)
    assert [task.result().status_code for task in uploads] == [200] * AT_ONCE
    assert all((disk.folder / ticket.path).stat().st_size > len(NOISE) for ticket in tickets)


async def test_moves_that_wait_for_the_disk_hold_up_nothing_else(
    disk: StandingDisk, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"], MAIN_DIR=str(disk.folder))
    tickets = [await packed(http, services) for _ in range(AT_ONCE)]
    # The first right token is written to a file, and requests that bring it meanwhile wait for that together.
    first = await packed(http, services)
    assert (await move(http, services, first.job_id, first.path)).status_code == 200
    async with asyncio.TaskGroup() as group:
        with disk.standing_still():
            moves = [group.create_task(move(http, services, ticket.job_id, ticket.path)) for ticket in tickets]
            await eventually(lambda: held_up(services) >= AT_ONCE)
            await assert_answers(services)
    assert [task.result().status_code for task in moves] == [200] * AT_ONCE
    assert all((disk.folder / ticket.path).is_file() for ticket in tickets)
