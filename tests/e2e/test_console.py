"""What operators ask the loader."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ServiceStarter
from tests.e2e.under_way import PACKED_LARGE, Records, Transfers, reported
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, eventually, upload, watching
from tests.support.manager import Answer
from tests.support.processes import is_running, send_signal
from tests.support.services import REDIS_WORKERS, Services, another_host
from tests.support.seven_zip_gate import SevenZipGate
from tests.support.tus import TusUpload

pytestmark = pytest.mark.anyio


def bearer(services: Services) -> dict[str, str]:
    """Return the header of an operator."""
    return {"Authorization": f"Bearer {services.secrets.storage_manage_token}"}


async def status_until(services: Services, http: httpx.AsyncClient, is_so: Any) -> dict[str, Any]:
    """Ask for the status until something is so of it; return it then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await http.get(f"{services.loader}/loader/status", headers=bearer(services))
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = answer.json()
            if is_so(told):
                return told
            await asyncio.sleep(0.1)


def counted(told: dict[str, Any], name: str) -> int:
    """Return a metric's sum over all steps."""
    return sum(step[name] for step in told["steps"])


async def test_the_status_goes_to_operators_only_and_never_for_a_token_in_the_address(
    services: Services, http: httpx.AsyncClient
) -> None:
    url, token = f"{services.loader}/loader/status", services.secrets.storage_manage_token
    for sent, status, text in (
        ({}, 401, "Token not found"),
        ({"params": {"token": token}}, 401, "Token not found"),
        ({"headers": {"Authorization": "Bearer"}}, 401, "Token not found"),
        ({"headers": {"Authorization": f"Basic {token}"}}, 401, "Token not found"),
        ({"headers": {"Authorization": "Bearer wrong"}}, 403, "Access denied"),
        ({"headers": {"Authorization": f"Bearer {services.secrets.upload_file}"}}, 403, "Access denied"),
    ):
        answer = await http.get(url, **sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.text) == (status, text), sent
    answer = await http.get(url, headers=bearer(services))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


async def test_the_status_tells_what_runs_waits_is_paused_and_failed_and_why(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient
) -> None:
    services = start_services(redis_url, apps=["loader"], redis_workers=1, TRANSFER_DOWNLOAD_CONCURRENCY=1)
    failed, packed = services.ticket(), services.ticket()
    services.manager.script(packed.job_id, *[Answer(status=503, move=False)] * 9)
    await upload(http, services.loader, failed.token, zip_of(SMALL_MOD)[:-50])
    await upload(http, services.loader, packed.token, zip_of(SMALL_MOD))
    paused = services.ticket()
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "9", "Authorization": f"Bearer {paused.token}"}
    assert (await http.post(f"{services.loader}/transfer/tus/", headers=tus)).status_code == 201
    async with AsyncExitStack() as stack:
        transfers = Transfers(services, http, stack)
        running = await transfers.fetch(PACKED_LARGE, whole=False)
        waiting = await transfers.fetch(PACKED_LARGE)

        def is_told(told: dict[str, Any]) -> bool:
            jobs = {job["job_id"]: job for job in told["jobs"]}
            return jobs[waiting.ticket.job_id]["about"] == "for a download slot" and any(
                jobs[running.ticket.job_id]["worker"] == worker["name"] for worker in told["workers"]
            )

        told = await status_until(services, http, is_told)
        running.file.go_on.set()
    jobs = {job["job_id"]: job for job in told["jobs"]}
    states = [jobs[ticket.job_id]["state"] for ticket in (failed, packed, paused)]
    assert states == ["failed", "packed", "paused"]
    assert (jobs[failed.job_id]["reason"], jobs[failed.job_id]["message"]) == ("corrupt_archive", "Corrupt archive")
    fetching = jobs[running.ticket.job_id]
    assert (fetching["state"], fetching["stage"], fetching["total"]) == ("runs", "downloading", len(PACKED_LARGE))
    assert told["totals"]["paused"] == 1 and told["totals"]["ended"] == 2
    (callback,) = told["callbacks"]
    assert (callback["job_id"], callback["status"]) == (packed.job_id, "success")
    slots = {slot["slot"]: (slot["held"], slot["waiting"], slot["limit"]) for slot in told["slots"]}
    assert slots["download"] == (1, 1, 1)
    assert told["storage"]["available"] and told["storage"]["free_bytes"] > 0


async def test_metrics_workers_and_sockets_are_those_of_all_workers_on_all_hosts(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    services = start_services(redis_url, apps=["loader"])
    sent, refused, watched = zip_of(SMALL_MOD), b"no image", services.ticket()
    with another_host(services, tmp_path) as other:
        hosts = [services, services.through(other)]
        async with AsyncExitStack() as stack:
            for host in hosts:
                for _ in range(3):
                    await stack.enter_async_context(watching(host.loader, watched.job_id, watched.token))
                    assert (await upload(http, host.loader, services.ticket().token, sent)).status_code == 200
                    image = services.ticket(transfer_kind="img", storage_type="resource")
                    assert (await upload(http, host.loader, image.token, refused)).status_code == 400

            def is_told(told: dict[str, Any]) -> bool:
                ended = counted(told, "succeeded") + sum(sum(step["failed"].values()) for step in told["steps"])
                return (told["totals"]["sockets"], ended) == (6, 12)

            answers = [await status_until(host, http, is_told) for host in hosts]
    for told in answers:
        assert len(told["workers"]) == REDIS_WORKERS + 1
        assert len({worker["process"] for worker in told["workers"]}) == REDIS_WORKERS + 1
        assert counted(told, "begun") == 12
        assert counted(told, "bytes") == 6 * (len(sent) + len(refused))
        assert sum(step["failed"].get("not_image", 0) for step in told["steps"]) == 6
        assert sum(step["stages"].get("uploading", {"count": 0})["count"] for step in told["steps"]) == 12


async def cancel(services: Services, http: httpx.AsyncClient, job_id: str) -> tuple[int, str]:
    """Cancel a transfer as an operator does; return status and text of the answer."""
    url = f"{services.loader}/loader/jobs/{job_id}/cancel"
    answer = await http.post(url, headers=bearer(services), timeout=PATIENCE_SECONDS)
    return answer.status_code, answer.text


async def test_a_transfer_is_cancelled_from_any_worker_on_any_host(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    gate = SevenZipGate(tmp_path / "gate")
    services = start_services(redis_url, apps=["loader"], environment=gate.environment)
    (tmp_path / "other").mkdir()
    with another_host(services, tmp_path / "other", gate.environment) as other:
        there = services.through(other)
        async with AsyncExitStack() as stack:
            transfers = Transfers(services, http, stack)
            gate.hold("a")
            packed = transfers.upload(b"any other file")
            body = InterruptedBody(zip_of(SMALL_MOD))
            uploaded = transfers.upload(aiter(body))
            fetched = await transfers.fetch(PACKED_LARGE, whole=False)
            paused = TusUpload(http, services.loader, (ticket := services.ticket()).token, ticket.job_id)
            await paused.create(9, b"some")
            await eventually(lambda: gate.held("a"))
            records = Records(services, redis_url)
            await records.until(uploaded.ticket, stage="uploading")
            cancelled = [packed.ticket, uploaded.ticket, fetched.ticket, ticket]
            for each in cancelled:
                status, text = await cancel(there, http, each.job_id)
                assert (status, "Transfer cancelled" in text) == (200, True), text
            # This client reads no answer before it has sent its whole body.
            body.go_on.set()
            for sent in (packed, uploaded):
                answer = await sent.answer
                assert (answer.status_code, answer.text) == (400, "Transfer cancelled")
            assert (await paused.head()).status_code == 410
            assert not gate.held("a")
        for each in cancelled:
            (callback,) = await reported(services, each)
            assert (callback.claims["status"], callback.claims["reason"]) == ("error", "exception")
            async with watching(there.loader, each.job_id, each.token) as watcher:
                (message,) = await watcher.finish()
            assert (message["event"], message["message"]) == ("error", "Transfer cancelled")
            assert await cancel(services, http, each.job_id) == (409, "Transfer already ended")
        # What was cancelled may be sent again, if the Manager has it so.
        gate.release()
        services.manager.is_final = False
        assert (await upload(http, services.loader, packed.ticket.token, b"any other file")).status_code == 200
        assert await cancel(services, http, "job-of-nobody") == (404, "Job not found")


async def test_the_transfer_of_a_dead_worker_is_cancelled_by_the_one_that_takes_it_over(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    gate = SevenZipGate(tmp_path / "gate")
    services = start_services(redis_url, apps=["loader"], environment=gate.environment)
    # It does not end before it is cancelled.
    gate.hold("t")
    async with AsyncExitStack() as stack:
        fetched = await Transfers(services, http, stack).fetch(PACKED_LARGE, whole=False)

        def is_told(told: dict[str, Any]) -> bool:
            return any(job["worker"] for job in told["jobs"])

        told = await status_until(services, http, is_told)
        (holder,) = (worker["process"] for worker in told["workers"] if worker["jobs"])
        send_signal([holder], signal.SIGKILL)
        await eventually(lambda: not is_running(holder))
        # The other client may hold a connection to that worker, and the kernel may still give it new ones.
        async with httpx.AsyncClient() as another, asyncio.timeout(PATIENCE_SECONDS):
            answer = None
            while answer is None:
                with suppress(httpx.TransportError):
                    answer = await cancel(services, another, fetched.ticket.job_id)
        status, text = answer
        assert (status, "Transfer cancelled" in text) == (200, True), text
    (callback,) = await reported(services, fetched.ticket)
    assert callback.claims["reason"] == "exception"


async def test_a_callback_is_delivered_now(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(status=503, headers={"Retry-After": "600"}, move=False))
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    (callback,) = (
        callback
        for callback in (await status_until(services, http, lambda told: told["callbacks"]))["callbacks"]
        if callback["job_id"] == ticket.job_id
    )
    assert callback["attempts"] == 1 and 400 < callback["due_seconds"] <= 600
    url = f"{services.loader}/loader/callbacks/{callback['jti']}/deliver"
    assert (await http.post(url)).status_code == 401
    answer = await http.post(url, headers=bearer(services))
    assert (answer.status_code, answer.json()) == (202, {"jti": callback["jti"], "due_seconds": 0})
    assert len(await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id, 2)) == 2
    await status_until(services, http, lambda told: callback["jti"] not in {each["jti"] for each in told["callbacks"]})
    answer = await http.post(url, headers=bearer(services))
    assert (answer.status_code, answer.text) == (404, "Callback not found")


async def test_nothing_is_done_for_those_who_are_no_operators(services: Services, http: httpx.AsyncClient) -> None:
    for path in ("callbacks/any/deliver", "jobs/job-12345678/cancel"):
        url = f"{services.loader}/loader/{path}"
        assert (await http.post(url)).status_code == 401
        assert (await http.post(url, headers={"Authorization": "Bearer wrong"})).status_code == 403
        assert (await http.post(url, params={"token": services.secrets.storage_manage_token})).status_code == 401
