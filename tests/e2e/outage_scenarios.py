"""Redis goes away, and comes back with its data or without."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from tests.conftest import ServiceStarter
from tests.e2e.held_transfers import HeldTransfers
from tests.e2e.under_way import LARGE, Records
from tests.support.archives import SMALL_MOD
from tests.support.client import PATIENCE_SECONDS
from tests.support.restarts import RestartableRedis
from tests.support.services import Services
from tests.support.seven_zip_gate import SevenZipGate

LONGER_THAN_A_LEASE_SECONDS = 17


async def redis_goes_away_and_comes_back(start_services: ServiceStarter, folder: Path) -> None:
    """At first with its data, and then without."""
    gate = SevenZipGate(folder / "gate")
    async with AsyncExitStack() as stack:
        redis = RestartableRedis(folder, stack)
        services = start_services(redis.url, apps=["loader"], environment=gate.environment)
        records = Records(services, redis.url)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_SECONDS))
        held = HeldTransfers(services, gate, records)
        await held.begin(http, stack)

        redis.stop()
        await assert_new_transfers_are_put_off(services, http)
        gate.release("x")
        held.fetched.file.go_on.set()
        held.body.go_on.set()
        await asyncio.sleep(LONGER_THAN_A_LEASE_SECONDS)
        redis.start()
        await held.assert_arrived(held.fetched, LARGE)
        await held.assert_arrived(held.extracted, SMALL_MOD)
        await held.assert_arrived(held.uploaded, SMALL_MOD)
        assert (await http.get(f"{services.loader}/loader/readyz")).status_code == 200

        redis.stop()
        redis.lose_data()
        redis.start()
        await records.until(held.tested.ticket, stage="downloaded")
        gate.release("t")
        await held.assert_arrived(held.tested, SMALL_MOD)


async def assert_new_transfers_are_put_off(services: Services, http: httpx.AsyncClient) -> None:
    ready = await http.get(f"{services.loader}/loader/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["redis"])
    sent, fetched = services.ticket(), services.ticket(download_url="http://127.0.0.1/x")
    for answer in (
        await http.post(f"{services.loader}/transfer/upload", params={"token": sent.token}, content=b"any"),
        await http.get(f"{services.loader}/transfer/start", params={"token": fetched.token}),
    ):
        assert (answer.status_code, answer.text) == (503, "Service unavailable")
        assert int(answer.headers["retry-after"]) > 0
