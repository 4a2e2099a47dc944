"""Redis goes away, and comes back with its data or without."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from tests.conftest import ServiceStarter
from tests.e2e.under_way import (
    LARGE,
    Records,
    Transfers,
    assert_arrived,
    eventually,
)
from tests.support.archives import SMALL_MOD, seven_zip_of, tar_of, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, watching
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
        transfers = Transfers(services, http, stack)
        gate.hold("x")
        gate.hold("t")
        fetched = await transfers.fetch(tar_of(LARGE), whole=False)
        extracted = await transfers.fetch(seven_zip_of(SMALL_MOD))
        tested = await transfers.fetch(zip_of(SMALL_MOD))
        body = InterruptedBody(tar_of(SMALL_MOD))
        uploaded = transfers.upload(aiter(body))
        begun = {fetched.ticket: "downloading", extracted.ticket: "extracting", uploaded.ticket: "uploading"}
        begun[tested.ticket] = "downloaded"
        sockets = {}
        for ticket, stage in begun.items():
            await records.until(ticket, stage=stage)
            socket = watching(services.loader, ticket.job_id, ticket.token)
            sockets[ticket] = await stack.enter_async_context(socket)
        await eventually(lambda: gate.held("x") and gate.held("t"))

        redis.stop()
        await assert_new_transfers_are_put_off(services, http)
        gate.release("x")
        fetched.file.go_on.set()
        body.go_on.set()
        await asyncio.sleep(LONGER_THAN_A_LEASE_SECONDS)
        redis.start()
        for ticket, entries in {fetched.ticket: LARGE, extracted.ticket: SMALL_MOD, uploaded.ticket: SMALL_MOD}.items():
            assert (await sockets[ticket].finish())[-1]["event"] == "complete", "sockets stay open and catch up"
            assert sockets[ticket].close_code == 1000
            await assert_arrived(services, ticket, entries)
        assert (await uploaded.answer).status_code == 200
        assert (await http.get(f"{services.loader}/loader/readyz")).status_code == 200

        redis.stop()
        redis.lose_data()
        redis.start()
        await records.until(tested.ticket, stage="downloaded")
        gate.release("t")
        assert (await sockets[tested.ticket].finish())[-1]["event"] == "complete"
        await assert_arrived(services, tested.ticket, SMALL_MOD)
        for fetch in (fetched, extracted, tested):
            assert len(fetch.origin.requests) == 1, "no worker took a job from one that is alive"


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
