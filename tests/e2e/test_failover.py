"""Sentinels make a replica the primary, under transfers of all kinds and open sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServiceStarter
from tests.e2e.held_transfers import HeldTransfers
from tests.e2e.under_way import LARGE, Records, assert_arrived
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import PATIENCE_SECONDS, upload
from tests.support.sentinel import SentinelRedis
from tests.support.services import Services
from tests.support.seven_zip_gate import SevenZipGate

pytestmark = pytest.mark.anyio


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SentinelRedis]:
    """A primary, a replica and three sentinels, which outlive the services of a test that asks for them first."""
    with ExitStack() as stack:
        yield SentinelRedis(tmp_path, stack)


async def readiness(services: Services, http: httpx.AsyncClient) -> tuple[int, list[str]]:
    answer = await http.get(f"{services.loader}/loader/readyz")
    return answer.status_code, answer.json().get("missing", [])


async def until_ready(services: Services, http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await readiness(services, http) != (200, []):
            await asyncio.sleep(0.1)


async def test_transfers_and_sockets_go_on_over_two_failovers(
    servers: SentinelRedis, start_services: ServiceStarter, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    gate = SevenZipGate(tmp_path / "gate")
    services = start_services(servers.url, apps=["loader"], environment=gate.environment)
    records = Records(services, servers.url)
    async with AsyncExitStack() as stack:
        held = HeldTransfers(services, gate, records)
        await held.begin(http, stack)

        first = servers.until_whole()
        servers.kill(first)
        assert await readiness(services, http) == (503, ["redis"])
        refused = await upload(http, services.loader, services.ticket().token, b"any")
        assert (refused.status_code, refused.text) == (503, "Service unavailable")
        assert int(refused.headers["retry-after"]) > 0
        held.fetched.file.go_on.set()
        gate.release("x")
        second = await asyncio.to_thread(servers.until_failover, first)
        await until_ready(services, http)
        await held.assert_arrived(held.fetched, LARGE)
        await held.assert_arrived(held.extracted, SMALL_MOD)

        servers.start(first)
        await asyncio.to_thread(servers.until_whole)
        servers.kill(second)
        gate.release("t")
        held.body.go_on.set()
        await held.assert_arrived(held.tested, SMALL_MOD)
        await held.assert_arrived(held.uploaded, SMALL_MOD)


async def test_services_start_before_any_sentinel_and_begin_when_one_names_a_primary(
    servers: SentinelRedis, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    for port in servers.sentinels:
        servers.kill(port)
    services = start_services(servers.url, apps=["loader"], redis_workers=1)
    assert await readiness(services, http) == (503, ["redis"])
    servers.start(servers.sentinels[1], "--sentinel")
    await until_ready(services, http)
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    await assert_arrived(services, ticket, SMALL_MOD)
