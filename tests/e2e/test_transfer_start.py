"""Transfers from a URL."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import httpx
import pytest

from tests.archives.rars import NORMAL, file5, rar5
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import Message, upload, watching
from tests.support.manager import Answer, Callback
from tests.support.origins import Request, reply, running_origin
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)
UNPACKED = sum(map(len, SMALL_MOD.values()))


class HeldOrigin:
    """Sends the first half of a body at once and the rest when told to."""

    def __init__(self, body: bytes) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self._body = body

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> bytes:
        half = len(self._body) // 2
        writer.write(reply(200, body=self._body[:half], length=len(self._body)))
        self.asked.set()
        await self.go_on.wait()
        return self._body[half:]


async def start(http: httpx.AsyncClient, services: Services, token: str) -> httpx.Response:
    return await http.get(f"{services.loader}/transfer/start", params={"token": token})


async def end_of(services: Services, ticket: Ticket) -> tuple[Message, Callback]:
    """Wait for a transfer's end, and return the last message and the callback."""
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        last = (await watcher.finish())[-1]
        assert watcher.close_code == 1000
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id)
    return last, callback


async def assert_failed(services: Services, ticket: Ticket, reason: str) -> Message:
    last, callback = await end_of(services, ticket)
    assert (last["event"], last["status"], last["stage"]) == ("error", "error", "error")
    assert last["message"] and "\n" not in last["message"]
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", reason)
    assert not (services.main_dir / "temp" / ticket.job_id).exists()
    return last


@pytest.mark.parametrize("how", ["get", "post with query", "post with form", "post with multipart form"])
async def test_a_start_is_answered_at_once_and_the_file_arrives(
    how: str, services: Services, http: httpx.AsyncClient
) -> None:
    sent = seven_zip_of(SMALL_MOD)
    held = HeldOrigin(sent)
    async with running_origin(held) as origin:
        ticket = services.ticket(download_url=f"{origin.url}/mod.7z")
        url, token = f"{services.loader}/transfer/start", {"token": ticket.token}
        async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
            answer = await {
                "get": lambda: http.get(url, params=token),
                "post with query": lambda: http.post(url, params=token),
                "post with form": lambda: http.post(url, data=token),
                "post with multipart form": lambda: http.post(url, files={"token": (None, ticket.token)}),
            }[how]()
            assert (answer.status_code, answer.json()) == (
                200,
                {"job_id": ticket.job_id, "status": "started", "ws_url": f"/transfer/ws/{ticket.job_id}"},
            )
            held.go_on.set()
            messages = await watcher.finish()
    stages = list(dict.fromkeys(message["stage"] for message in messages))
    assert stages == ["pending", "downloading", "downloaded", "extracting", "repacking", "packed"]
    statuses = {message["stage"]: message["status"] for message in messages}
    assert (statuses["downloading"], statuses["downloaded"]) == ("downloading", "processing")
    assert (messages[-1]["event"], messages[-1]["bytes"], messages[-1]["total"]) == ("complete", len(sent), len(sent))
    _, callback = await end_of(services, ticket)
    expected = {"status": "success", "bytes": len(sent), "total": len(sent), "unpacked_bytes": UNPACKED}
    assert expected.items() <= callback.claims.items()
    packed = (services.main_dir / ticket.path).read_bytes()
    assert entries_of(packed) == SMALL_MOD
    assert callback.claims["sha256"] == sha256(packed).hexdigest()
    assert len(origin.requests) == 1


async def test_a_job_that_exists_is_not_started_again(services: Services, http: httpx.AsyncClient) -> None:
    held = HeldOrigin(MOD)
    async with running_origin(held) as origin:
        ticket = services.ticket(download_url=origin.url)
        answers = await asyncio.gather(*(start(http, services, ticket.token) for _ in range(6)))
        statuses = [answer.json()["status"] for answer in answers]
        assert statuses.count("started") == 1
        assert set(statuses) <= {"started", "pending", "downloading"}
        await held.asked.wait()
        again = await start(http, services, ticket.token)
        assert (again.status_code, again.json()["status"]) == (200, "downloading")
        refused = await upload(http, services.loader, ticket.token, MOD)
        assert (refused.status_code, refused.text) == (400, "Token is for a URL transfer")
        for_uploads = services.manager.transfer_token(ticket.job_id, mod_id=ticket.mod_id)
        uploaded = await upload(http, services.loader, for_uploads, MOD)
        assert (uploaded.status_code, uploaded.text) == (409, "Upload already in progress")
        held.go_on.set()
        await end_of(services, ticket)
        assert (await start(http, services, ticket.token)).json() == {
            "job_id": ticket.job_id,
            "status": "moved",
            "ws_url": f"/transfer/ws/{ticket.job_id}",
        }
    assert len(origin.requests) == 1
    assert len(services.manager.callbacks(ticket.job_id)) == 1


async def test_a_fetch_that_failed_is_not_started_again_but_its_job_may_be_uploaded(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with running_origin(reply(404)) as origin:
        ticket = services.ticket(download_url=origin.url)
        # A Manager that takes the second attempt, too.
        services.manager.script(ticket.job_id, Answer(), Answer())
        await start(http, services, ticket.token)
        await assert_failed(services, ticket, "status:404")
        assert (await start(http, services, ticket.token)).json()["status"] == "error"
    for_uploads = services.manager.transfer_token(ticket.job_id, mod_id=ticket.mod_id)
    assert (await upload(http, services.loader, for_uploads, MOD)).status_code == 200
    failed, succeeded = services.manager.wait_for_callbacks(ticket.job_id, 2)
    assert (failed.claims["status"], succeeded.claims["status"]) == ("error", "success")
    assert failed.claims["jti"] != succeeded.claims["jti"]
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2:{port}/mod.zip",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "https://192.168.1.1/",
    ],
)
async def test_an_address_that_is_not_public_is_blocked(url: str, services: Services, http: httpx.AsyncClient) -> None:
    async with running_origin(reply(200, body=MOD), host="127.0.0.2") as inside:
        ticket = services.ticket(download_url=url.format(port=inside.port))
        assert (await start(http, services, ticket.token)).status_code == 200
        await assert_failed(services, ticket, "blocked_url")
    assert not inside.left


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(reply(200, body=MOD[:-1], length=len(MOD)), "exception", id="broken off"),
        pytest.param(reply(503), "status:503", id="another status"),
        pytest.param(reply(302, "Location: http://127.0.0.2/"), "blocked_url", id="redirect to the inside"),
        pytest.param(reply(302, "Location: /"), "exception", id="redirects without end"),
        pytest.param(reply(200, body=MOD[:-100]), "corrupt_archive", id="corrupt"),
        pytest.param(
            reply(200, body=rar5(file5(b"a", b"text", method=NORMAL))), "unsupported_format", id="unsupported"
        ),
    ],
)
async def test_a_fetch_that_goes_wrong_is_shown_and_reported(
    answer: bytes, reason: str, services: Services, http: httpx.AsyncClient
) -> None:
    async with running_origin(answer) as origin:
        ticket = services.ticket(download_url=origin.url)
        await start(http, services, ticket.token)
        await assert_failed(services, ticket, reason)


@pytest.mark.parametrize(
    ("claims", "headers", "path", "name"),
    [
        ({"filename": "Mein Mod ü.txt"}, ['Content-Disposition: attachment; filename="x.txt"'], "/y", "Mein Mod ü.txt"),
        ({}, ['Content-Disposition: attachment; filename="notes.txt"'], "/y.bin", "notes.txt"),
        ({}, [], "/files/read%20me.txt?key=1", "read me.txt"),
        ({"filename": "../../etc/passwd"}, [], "/y", "passwd"),
    ],
)
async def test_a_file_that_is_no_archive_gets_the_name_of_the_token_or_the_origin(
    claims: dict[str, object], headers: list[str], path: str, name: str, services: Services, http: httpx.AsyncClient
) -> None:
    async with running_origin(reply(200, *headers, body=b"no archive")) as origin:
        ticket = services.ticket(download_url=f"{origin.url}{path}", **claims)
        await start(http, services, ticket.token)
        await end_of(services, ticket)
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == {name: b"no archive"}


async def test_fetches_over_the_concurrency_limit_wait_in_order(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient
) -> None:
    services = start_services(redis_url, apps=["loader"], TRANSFER_DOWNLOAD_CONCURRENCY=1)
    held = HeldOrigin(MOD)
    async with running_origin(held) as first, running_origin(reply(200, body=MOD)) as others:
        tickets = [services.ticket(download_url=f"{others.url}/{number}") for number in range(12)]
        running = services.ticket(download_url=first.url)
        await start(http, services, running.token)
        await held.asked.wait()
        for ticket in tickets:
            assert (await start(http, services, ticket.token)).json()["status"] == "started"
        assert (await start(http, services, tickets[0].token)).json()["status"] == "pending"
        assert not others.requests
        held.go_on.set()
        for ticket in tickets:
            await end_of(services, ticket)
    assert [request.target for request in others.requests] == [f"/{number}" for number in range(12)]


async def test_a_share_link_ends_as_no_file(services: Services, http: httpx.AsyncClient) -> None:
    page = reply(200, "Content-Type: text/html; charset=utf-8", body=b"<!DOCTYPE html><title>mod.zip</title>")
    async with running_origin(page) as origin:
        ticket = services.ticket(download_url=f" {origin.url}/my mod.zip ")
        assert (await start(http, services, ticket.token)).status_code == 200
        last = await assert_failed(services, ticket, "not_a_file")
    assert last["message"] == "The link leads to a web page"
    assert origin.requests[0].target == "/my%20mod.zip"
