"""Archives that are refused before all of them has come in (docs/ARCHITECTURE.md, "A job")."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from tests.e2e.under_way import FileOrigin
from tests.support.archives import seven_zip_of
from tests.support.client import eventually, raw_request, watching
from tests.support.origins import running_origin
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

NOISE = random.Random(11).randbytes(3_000_000)
ENCRYPTED_ZIP = seven_zip_of({"noise": NOISE}, "-tzip", "-psecret")


def half_of_upload(ticket: Ticket, body: bytes) -> bytes:
    """Return an upload that breaks off halfway."""
    head = f"POST /transfer/upload?token={ticket.token} HTTP/1.1\r\nHost: storage\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body[: len(body) // 2]


async def assert_refused(services: Services, ticket: Ticket) -> None:
    """Check what the Manager was told, and that nothing is left."""
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "encrypted_zip")
    await eventually(lambda: not (services.main_dir / "temp" / ticket.job_id).exists())


async def test_an_encrypted_upload_is_refused_once_its_first_block_has_come(services: Services) -> None:
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await raw_request(services.loader, half_of_upload(ticket, ENCRYPTED_ZIP))
        end = (await watcher.finish())[-1]
    assert (answer.status, answer.body) == (400, b"Encrypted zip not allowed")
    assert (end["event"], end["message"], end["total"]) == ("error", "Encrypted zip not allowed", len(ENCRYPTED_ZIP))
    assert {message["stage"] for message in watcher.messages} <= {"pending", "uploading", "error"}
    await assert_refused(services, ticket)


async def test_an_encrypted_fetch_is_given_up_once_its_first_block_has_come(
    services: Services, http: httpx.AsyncClient
) -> None:
    # The origin never sends the rest, and notices that the connection is closed.
    async with running_origin(FileOrigin(ENCRYPTED_ZIP, None, whole=False)) as origin:
        ticket = services.ticket(download_url=origin.url)
        async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
            await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})
            end = (await watcher.finish())[-1]
        await origin.left[0].wait()
    assert (end["event"], end["message"]) == ("error", "Encrypted zip not allowed")
    await assert_refused(services, ticket)
