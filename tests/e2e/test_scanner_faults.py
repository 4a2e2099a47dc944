"""Transfers while the malware scanner is killed, hangs, or comes back, with the services as in production."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServiceStarter
from tests.e2e.under_way import Records, assert_arrived, reported
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of
from tests.support.clamd import MARKER, MOST_BYTES, NAME, Clamd
from tests.support.client import upload, watching
from tests.support.services import another_host

pytestmark = pytest.mark.anyio

TRANSFERS = 12
INFECTED = {**SMALL_MOD, "mod/evil.dll": MARKER * 99}
CLEAN_FILES, INFECTED_FILES = (
    [maker(entries) for maker in (zip_of, seven_zip_of)] for entries in (SMALL_MOD, INFECTED)
)


async def test_transfers_wait_for_the_scanner_over_a_restart_and_on_another_host(
    start_services: ServiceStarter, redis_url: str, clamd: Clamd, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    services = start_services(
        redis_url,
        apps=["loader"],
        redis_workers=1,
        CLAMD_ADDRESS=clamd.local,
        SCAN_FAILURE="wait",
        SHUTDOWN_GRACE_SECONDS=0,
        TRANSFER_UPLOAD_CONCURRENCY=0,
    )
    records = Records(services, redis_url)
    files = [(CLEAN_FILES, INFECTED_FILES)[number % 2][number // 2 % 2] for number in range(TRANSFERS)]
    tickets = [services.ticket() for _ in files]
    clamd.kill()
    try:
        uploads = [
            asyncio.create_task(upload(http, services.loader, ticket.token, file))
            for ticket, file in zip(tickets, files, strict=True)
        ]
        async with asyncio.timeout(60):
            while not all([(await records.get(ticket)).get("scanner_away_since") for ticket in tickets]):
                await asyncio.sleep(0.1)
        began = [(await records.get(ticket))["scanner_away_since"] for ticket in tickets]
        with another_host(services, tmp_path) as other:
            services.manager.loader_url = other.url
            await asyncio.to_thread(services.servers["loader"].stop)
            assert {(await task).status_code for task in uploads} == {503}
            assert [(await records.get(ticket))["scanner_away_since"] for ticket in tickets] == began
            clamd.start()
            for number, ticket in enumerate(tickets):
                (callback,) = await reported(services, ticket)
                if number % 2:
                    assert (callback.claims["reason"], callback.claims["malware"]) == ("malware", NAME)
                else:
                    await assert_arrived(services, ticket, SMALL_MOD)
    finally:
        clamd.start()


async def test_an_upload_is_judged_by_the_policy_whatever_the_scanner_does(
    start_services: ServiceStarter, clamd: Clamd, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"], CLAMD_ADDRESS=clamd.tcp, SCAN_TIMEOUT_SECONDS=1)
    ticket, infected = services.ticket(), services.ticket()

    async def refused() -> None:
        answer = await upload(http, services.loader, ticket.token, CLEAN_FILES[1])
        assert (answer.status_code, answer.text) == (503, "Scanner unavailable")
        assert int(answer.headers["Retry-After"]) > 0

    with clamd.frozen():
        await refused()
        assert services.manager.upload("resource", "a.bin", MARKER).status_code == 503
    clamd.kill()
    try:
        await refused()
    finally:
        clamd.start()
    too_large = await upload(http, services.loader, services.ticket().token, os.urandom(MOST_BYTES + 1))
    assert too_large.status_code == 503
    assert services.manager.callbacks(ticket.job_id) == []
    assert (await upload(http, services.loader, ticket.token, CLEAN_FILES[1])).status_code == 200
    async with watching(services.loader, infected.job_id, infected.token) as watcher:
        answer = await upload(http, services.loader, infected.token, INFECTED_FILES[0])
        assert (answer.status_code, answer.text) == (400, "Malware found")
        assert (await watcher.finish())[-1]["message"] == "Malware found"
    answer = services.manager.upload("resource", "a.bin", MARKER)
    assert (answer.status_code, answer.text) == (400, "Malware found")
    assert not (services.main_dir / "resource" / "a.bin").exists()
    assert not (services.main_dir / "temp" / infected.job_id).exists()
