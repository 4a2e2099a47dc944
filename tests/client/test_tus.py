"""Uploads that go on after cuts, by the real loader (docs/API.md, "Resumable uploads")."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from open_workshop_storage.client import StorageError, Transfer, TransferClaims, sign_transfer_token
from open_workshop_storage.client.patience import Patience
from open_workshop_storage.client.tus import TusUpload as Upload
from open_workshop_storage.client.tus import send_file
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.digests import field_of
from tests.support.manager import Answer
from tests.support.proxy import Fault, Proxy, running_proxy
from tests.support.servers import clean_environment, free_port, granian
from tests.support.services import Services, Ticket
from tests.support.tus import TusUpload

pytestmark = pytest.mark.anyio

MOD = zip_of({**SMALL_MOD, "noise": random.Random(7).randbytes(3_000_000), "zeros": bytes(900_000)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mod über.zip"
    file.write_bytes(MOD)
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
    assert (services.main_dir / ticket.path).read_bytes() == MOD


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
    assert len(sent) >= 5 and sum(sent) < len(MOD) * 2


async def test_an_upload_that_another_process_began_goes_on_where_it_was(
    network: Proxy, services: Services, http: httpx.AsyncClient, ticket: Ticket, file: Path
) -> None:
    tus = TusUpload(http, services.loader, ticket.token, ticket.job_id)
    await tus.create(len(MOD), MOD[:2_000_000])
    await through(network, http, ticket).upload(file)
    await asyncio.to_thread(assert_arrived, services, ticket)
    assert sum(network.passed_bytes) < 1_100_000


async def test_a_request_at_an_offset_that_another_one_has_passed_is_made_anew(
    services: Services, ticket: Ticket, file: Path
) -> None:
    sent: list[httpx.Request] = []

    async def pass_it(request: httpx.Request) -> None:
        if len(sent) == 1:
            assert (await another.patch(0, MOD[:1_000_000])).status_code == 204
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
    assert await refusal_of(upload(services.ticket(max_bytes=len(MOD) - 1).token)) == (413, "File too large")
    unwanted = services.ticket()
    services.manager.script(unwanted.job_id, Answer(403, move=False))
    assert await refusal_of(upload(unwanted.token)) == (422, "Upload not accepted")
    file.write_bytes(MOD[:-50])
    ticket = services.ticket()
    assert await refusal_of(upload(ticket.token)) == (400, "Corrupt archive")
    file.write_bytes(MOD)
    services.manager.script(ticket.job_id, Answer(), Answer())
    await upload(ticket.token)
    assert_arrived(services, ticket, 2)


async def test_a_file_that_changes_under_way_is_not_taken(
    services: Services, http: httpx.AsyncClient, ticket: Ticket, file: Path
) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Authorization": f"Bearer {ticket.token}"}
    upload = Upload(
        http,
        f"{services.loader}/transfer/tus/",
        ticket.job_id,
        headers,
        file,
        "mod.zip",
        len(MOD),
        field_of(b"what the file was before"),
    )
    assert await refusal_of(send_file(upload, Patience(0))) == (400, "Digest mismatch")
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id)
    assert callback.claims["status"] == "error"


async def test_a_loader_that_stays_away_is_told_when_patience_ends(file: Path, ticket: Ticket) -> None:
    async with httpx.AsyncClient() as http:
        transfer = Transfer(http, f"http://127.0.0.1:{free_port()}", ticket.token, patience_seconds=0.5)
        status, message = await refusal_of(transfer.upload(file))
    assert status is None and message.startswith("No answer from the storage: ")
