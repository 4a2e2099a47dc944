"""Loaders that end while they work, in order or not: other hosts go on with what they did."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError

from tests.conftest import ServiceStarter
from tests.e2e.under_way import LARGE, PACKED_LARGE, Fetch, Transfers, assert_arrived, assert_interrupted, reported
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of
from tests.support.client import InterruptedBody, Watcher, eventually, raw_request, watching
from tests.support.configs import Secrets, write_config
from tests.support.manager import Answer
from tests.support.processes import children, descendants, is_running, kill, send_signal
from tests.support.servers import PROJECT, clean_environment, free_port, granian_command
from tests.support.services import REDIS_WORKERS, Services, Ticket, another_host
from tests.support.seven_zip_gate import SevenZipGate

pytestmark = pytest.mark.anyio

END_SECONDS = 60


async def closing_code(watcher: Watcher) -> int | None:
    """Read until the server closes the socket, and return the code that it closed with."""
    with pytest.raises(ConnectionClosedError) as closed:
        await watcher.finish()
    return closed.value.rcvd.code if closed.value.rcvd else None


async def begin_fetches(transfers: Transfers, gate: SevenZipGate) -> tuple[Fetch, Fetch]:
    """Return one that is half fetched, and one that `7z` extracts."""
    gate.hold("x")
    fetches = await transfers.fetch(PACKED_LARGE, '"v1"', whole=False), await transfers.fetch(seven_zip_of(SMALL_MOD))
    await eventually(lambda: gate.held("x"))
    return fetches


async def assert_others_go_on(services: Services, gate: SevenZipGate, half_fetched: Fetch, extracted: Fetch) -> None:
    gate.release()
    await assert_arrived(services, extracted.ticket, SMALL_MOD)
    assert len(extracted.origin.requests) == 1, "a finished download is never fetched again"
    await assert_arrived(services, half_fetched.ticket, LARGE)
    ranges = [request.headers.get("range") is not None for request in half_fetched.origin.requests]
    assert ranges == [False, True], "a fetch goes on where it was"


async def test_a_loader_that_is_told_to_stop_hands_its_work_over_and_ends(
    start_services: ServiceStarter, redis_url: str, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    gate = SevenZipGate(tmp_path / "gate")
    services = start_services(redis_url, apps=["loader"], environment=gate.environment, SHUTDOWN_GRACE_SECONDS=3)
    loader = services.servers["loader"]
    async with AsyncExitStack() as stack:
        transfers = Transfers(services, http, stack)

        async def watch(ticket: Ticket) -> Watcher:
            return await stack.enter_async_context(watching(loader.url, ticket.job_id, ticket.token))

        half_fetched, extracted = await begin_fetches(transfers, gate)
        told = transfers.upload_image(64)
        manager_answers = threading.Event()
        services.manager.script(told.ticket.job_id, Answer(hold=manager_answers))
        in_time = InterruptedBody(zip_of(SMALL_MOD))
        ending = transfers.upload(aiter(in_time))
        endless = services.ticket()
        head = f"POST /transfer/upload?token={endless.token} HTTP/1.1\r\nHost: storage\r\nContent-Length: 1000\r\n\r\n"
        broken_off = asyncio.create_task(raw_request(loader.url, head.encode() + b"the rest never comes"))
        watchers = [await watch(ticket) for ticket in (ending.ticket, endless)]
        for watcher in watchers:
            if watcher.messages[0]["stage"] != "uploading":
                await watcher.until(stage="uploading")
        await eventually(lambda: services.manager.callbacks(told.ticket.job_id))
        commands = gate.held("x")
        other = stack.enter_context(another_host(services, tmp_path))
        services.manager.loader_url = other.url

        # As systemd does: it tells child processes too.
        send_signal([loader.process.pid, *descendants(loader.process.pid)], signal.SIGTERM)
        assert [await closing_code(watcher) for watcher in watchers] == [1012, 1012]
        await assert_others_go_on(services, gate, half_fetched, extracted)
        assert not any(map(is_running, commands))
        in_time.go_on.set()
        manager_answers.set()
        assert (await ending.answer).status_code == 200, "a body has some seconds left"
        await assert_arrived(services, ending.ticket, SMALL_MOD)
        assert (await told.answer).status_code == 200, "so has a callback"
        await reported(services, told.ticket)
        answer = await broken_off
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"Service unavailable", "5")
        await assert_interrupted(services, endless)
        assert await asyncio.to_thread(loader.process.wait, END_SECONDS) == 0


async def test_workers_whose_main_process_is_killed_end_themselves_and_hand_their_work_over(
    start_services: ServiceStarter, redis_url: str, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    gate = SevenZipGate(tmp_path / "gate")
    # A second worker could take what the first one hands over, before it knows itself that it has to end.
    services = start_services(redis_url, apps=["loader"], redis_workers=1, environment=gate.environment)
    loader = services.servers["loader"]
    async with AsyncExitStack() as stack:
        half_fetched, extracted = await begin_fetches(Transfers(services, http, stack), gate)
        processes = descendants(loader.process.pid)
        other = stack.enter_context(another_host(services, tmp_path))
        services.manager.loader_url = other.url
        loader.process.kill()
        await eventually(lambda: not any(map(is_running, processes)))
        await assert_others_go_on(services, gate, half_fetched, extracted)


async def test_workers_whose_main_process_is_killed_before_they_have_started_end_themselves(
    tmp_path: Path, redis_url: str
) -> None:
    settings = {"MAIN_DIR": str(tmp_path), "REDIS_URL": redis_url, **Secrets().settings()}
    addresses = {name: "http://127.0.0.1:9" for name in ("MANAGER_URL", "ACCESS_SERVICE_URL")}
    config = write_config(tmp_path, settings | addresses)
    command = granian_command("loader", free_port(), workers=REDIS_WORKERS)
    environment = clean_environment() | {"OW_CONFIG": str(config)}
    with (tmp_path / "log").open("wb") as log:
        main = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
    while not (workers := children(main.pid)):
        assert main.poll() is None
    main.kill()
    main.wait()
    try:
        await eventually(lambda: not any(map(is_running, workers)))
    finally:
        kill(workers)
