"""A transfer that is started, sent and followed, by the real loader."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from open_workshop_storage.client import (
    InvalidToken,
    Progress,
    StorageError,
    Transfer,
    TransferClaims,
    sign_transfer_token,
)
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import InterruptedBody, upload
from tests.support.manager import Answer
from tests.support.origins import Origin, Request, reply, running_origin
from tests.support.proxy import Fault, Proxy, running_proxy
from tests.support.servers import clean_environment, free_port, granian
from tests.support.services import Services, Ticket
from tests.support.tus import TusUpload

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)
LARGE_MOD = zip_of({**SMALL_MOD, "noise": random.Random(7).randbytes(3_000_000), "zeros": bytes(900_000)})


async def heard(transfer: Transfer) -> list[Progress]:
    return [progress async for progress in transfer.follow()]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin(reply(200, "Content-Disposition: attachment", body=seven_zip_of(SMALL_MOD))) as origin:
        yield origin


async def test_a_fetch_is_started_and_followed_to_its_end(
    services: Services, http: httpx.AsyncClient, origin: Origin
) -> None:
    ticket = services.ticket(download_url=f"{origin.url}/mod.7z")
    transfer = Transfer(http, services.loader + "/", ticket.token)
    assert transfer.job_id == ticket.job_id
    following = asyncio.create_task(heard(transfer))
    assert await transfer.start() == "started"
    *before, last = await following
    assert (last.event, last.stage, last.message) == ("complete", "packed", "")
    assert {"progress", "stage"} >= {progress.event for progress in before}
    stages = [progress.stage for progress in before]
    # The fetch may have begun by the time of the first look.
    assert "extracting" in stages and stages[0] in ("pending", "downloading")
    services.manager.wait_for_callbacks(ticket.job_id)
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == SMALL_MOD
    assert await transfer.start() == "moved"


async def test_a_failure_is_the_last_that_is_heard(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    transfer = Transfer(http, services.loader, ticket.token)
    body = InterruptedBody(MOD[:-50])
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(heard(transfer))
        sending = tasks.create_task(upload(http, services.loader, ticket.token, aiter(body)))
        body.go_on.set()
    assert (following.result()[-1].event, following.result()[-1].message) == ("error", "Corrupt archive")
    assert sending.result().text == "Corrupt archive"
    assert [progress.event for progress in await heard(transfer)] == ["error"]


async def test_a_token_of_another_secret_follows_nothing(services: Services, http: httpx.AsyncClient) -> None:
    with pytest.raises(StorageError, match="403 Access denied"):
        await heard(Transfer(http, services.loader, services.ticket().token[:-4] + "AAAA"))
    with pytest.raises(InvalidToken):
        Transfer(http, services.loader, "nonsense")


def event(number: int, kind: str, received: int) -> bytes:
    data = {"event": kind, "bytes": received, "total": 9, "status": "uploading", "stage": "uploading", "percent": None}
    return f"id: {number}\ndata: {json.dumps(data)}\n\n".encode()


async def test_events_go_on_after_cuts_where_they_were(services: Services, http: httpx.AsyncClient) -> None:
    parts = [event(3, "progress", 1) + event(5, "progress", 2)[:-20], event(5, "progress", 2), event(8, "complete", 9)]

    async def answer(request: Request, writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + parts.pop(0)

    async with running_origin(answer) as origin:
        progress = await heard(Transfer(http, origin.url, services.ticket().token))
        last_ids = [request.headers.get("last-event-id") for request in origin.requests]
    assert [(each.event, each.bytes) for each in progress] == [("progress", 1), ("progress", 2), ("complete", 9)]
    assert last_ids == [None, "3", "5"]


@pytest.mark.parametrize("content", [MOD, MOD[:-50]], ids=["sound", "refused"])
async def test_an_end_whose_answer_was_lost_is_heard_of_otherwise(
    content: bytes, services: Services, tmp_path: Path
) -> None:
    ticket, file, lost = services.ticket(), tmp_path / "mod.zip", list[int]()
    file.write_bytes(content)

    async def lose(answer: httpx.Response) -> None:
        if answer.request.method == "PATCH":
            lost.append(answer.status_code)
            raise httpx.ReadError("lost")

    async with httpx.AsyncClient(event_hooks={"response": [lose]}) as http:
        uploading = Transfer(http, services.loader, ticket.token).upload(file)
        if content is MOD:
            await uploading
        else:
            with pytest.raises(StorageError, match="^Corrupt archive$"):
                await uploading
    assert lost == [204 if content is MOD else 400]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mod über.zip"
    file.write_bytes(LARGE_MOD)
    return file


@pytest.fixture
def ticket(services: Services) -> Ticket:
    return services.ticket()


@pytest.fixture
async def network(services: Services) -> AsyncIterator[Proxy]:
    """A proxy to the loader."""
    async with running_proxy(services.servers["loader"].port) as proxy:
        yield proxy


def through(proxy: Proxy, http: httpx.AsyncClient, ticket: Ticket) -> Transfer:
    return Transfer(http, f"http://127.0.0.1:{proxy.port}", ticket.token)


def assert_arrived(services: Services, ticket: Ticket, count: int = 1) -> None:
    callbacks = services.manager.wait_for_callbacks(ticket.job_id, count)
    assert callbacks[-1].claims["status"] == "success" and len(callbacks) == count
    assert (services.main_dir / ticket.path).read_bytes() == LARGE_MOD


async def test_a_file_arrives_and_the_manager_was_told(
    services: Services, http: httpx.AsyncClient, ticket: Ticket, file: Path
) -> None:
    await Transfer(http, services.loader, ticket.token).upload(file)
    (callback,) = services.manager.callbacks(ticket.job_id)
    assert callback.answered, "the upload was said to be over before the Manager had heard of it"
    assert_arrived(services, ticket)


async def test_an_empty_file_arrives(services: Services, http: httpx.AsyncClient, tmp_path: Path) -> None:
    ticket = services.ticket()
    (tmp_path / "empty.txt").touch()
    await Transfer(http, services.loader, ticket.token).upload(tmp_path / "empty.txt")
    (callback,) = services.manager.callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["bytes"]) == ("success", 0)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET])
async def test_an_upload_goes_on_after_cuts(
    fault: Fault, network: Proxy, services: Services, http: httpx.AsyncClient, ticket: Ticket, file: Path
) -> None:
    for after_bytes in (700_000, 1_200_000, 200, 300_000):
        network.plan(fault, after_bytes)
    await through(network, http, ticket).upload(file)
    await asyncio.to_thread(assert_arrived, services, ticket)
    sent = network.passed_bytes
    # Two blocks of a connection may be under way when it is cut.
    assert len(sent) >= 5 and sum(sent) < len(LARGE_MOD) * 2


async def test_an_upload_that_another_process_began_goes_on_where_it_was(
    network: Proxy, services: Services, http: httpx.AsyncClient, ticket: Ticket, file: Path
) -> None:
    tus = TusUpload(http, services.loader, ticket.token, ticket.job_id)
    await tus.create(len(LARGE_MOD), LARGE_MOD[:2_000_000])
    await through(network, http, ticket).upload(file)
    await asyncio.to_thread(assert_arrived, services, ticket)
    assert sum(network.passed_bytes) < 1_100_000


async def test_a_request_at_an_offset_that_another_one_has_passed_is_made_anew(
    services: Services, ticket: Ticket, file: Path
) -> None:
    sent: list[httpx.Request] = []

    async def pass_it(request: httpx.Request) -> None:
        if len(sent) == 1:
            assert (await another.patch(0, LARGE_MOD[:1_000_000])).status_code == 204
        sent.append(request)

    async with httpx.AsyncClient() as others, httpx.AsyncClient(event_hooks={"request": [pass_it]}) as http:
        another = TusUpload(others, services.loader, ticket.token, ticket.job_id)
        await Transfer(http, services.loader, ticket.token).upload(file)
    await asyncio.to_thread(assert_arrived, services, ticket)
    assert [request.method for request in sent] == ["POST", "PATCH", "HEAD", "PATCH"]


async def test_an_upload_begins_anew_when_the_loader_has_forgotten_it(
    start_services: ServiceStarter, file: Path
) -> None:
    services = start_services(apps=["loader"])
    ticket, loader = services.ticket(), services.servers["loader"]
    environment = clean_environment() | {"OW_CONFIG": str(services.main_dir.parent / "ow_config.py")}
    sent: list[str] = []
    async with AsyncExitStack() as stack:

        async def restart(request: httpx.Request) -> None:
            sent.append(request.method)
            if sent == ["POST", "PATCH"]:
                await asyncio.to_thread(loader.stop)
                again = granian("loader", services.main_dir.parent, environment, port=loader.port)
                await asyncio.to_thread(stack.enter_context, again)

        http = await stack.enter_async_context(httpx.AsyncClient(event_hooks={"request": [restart]}))
        await Transfer(http, services.loader, ticket.token).upload(file)
        await asyncio.to_thread(assert_arrived, services, ticket)
    assert sent == ["POST", "PATCH", "POST", "PATCH"]


async def refusal_of(upload: Awaitable[object]) -> tuple[int | None, str]:
    with pytest.raises(StorageError) as refusal:
        await upload
    return refusal.value.status, refusal.value.message


async def test_refusals_come_in_the_services_words(services: Services, http: httpx.AsyncClient, file: Path) -> None:
    def upload(token: str) -> Awaitable[object]:
        return Transfer(http, services.loader, token).upload(file)

    foreign = sign_transfer_token(TransferClaims(job_id="job-12345678"), "another secret, of 32 bytes and more")
    assert await refusal_of(upload(foreign)) == (403, "Access denied")
    assert await refusal_of(upload(services.ticket(max_bytes=len(LARGE_MOD) - 1).token)) == (413, "File too large")
    unwanted = services.ticket()
    services.manager.script(unwanted.job_id, Answer(403, move=False))
    assert await refusal_of(upload(unwanted.token)) == (422, "Upload not accepted")
    file.write_bytes(LARGE_MOD[:-50])
    ticket = services.ticket()
    assert await refusal_of(upload(ticket.token)) == (400, "Corrupt archive")
    file.write_bytes(LARGE_MOD)
    services.manager.script(ticket.job_id, Answer(), Answer())
    await upload(ticket.token)
    assert_arrived(services, ticket, 2)


async def test_a_file_that_changes_under_way_is_not_taken(services: Services, ticket: Ticket, file: Path) -> None:
    async def change(request: httpx.Request) -> None:
        await asyncio.to_thread(file.write_bytes, LARGE_MOD[:-1] + b"?")

    async with httpx.AsyncClient(event_hooks={"request": [change]}) as http:
        assert await refusal_of(Transfer(http, services.loader, ticket.token).upload(file)) == (400, "Digest mismatch")
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id)
    assert callback.claims["status"] == "error"


async def test_a_loader_that_stays_away_is_told_when_patience_ends(file: Path, ticket: Ticket) -> None:
    async with httpx.AsyncClient() as http:
        transfer = Transfer(http, f"http://127.0.0.1:{free_port()}", ticket.token, patience_seconds=0.5)
        status, message = await refusal_of(transfer.upload(file))
    assert status is None and message.startswith("No answer from the storage: ")
