"""Archives that are refused before all of them has come in (docs/ARCHITECTURE.md, "A job")."""

from __future__ import annotations

import asyncio
import random
import tarfile
from collections.abc import Iterator

import httpx
import pytest

from tests.archives.tars import member, tar_from
from tests.archives.zips import Entry, zip_from
from tests.e2e.under_way import FileOrigin, eventually
from tests.intake.origins import running_origin
from tests.support.archives import entries_of, seven_zip_of, tar_of
from tests.support.client import RawAnswer, raw_request, upload, watching
from tests.support.services import Services, Ticket, running_services

pytestmark = pytest.mark.anyio

NOISE = random.Random(11).randbytes(3_000_000)
SOUND_TAR = tar_of({"noise": NOISE})
ENCRYPTED_ZIP = seven_zip_of({"noise": NOISE}, "-tzip", "-psecret")
TAR_WITH_LINK = tar_from([member("link", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), member("noise", NOISE)])

REFUSED = [
    pytest.param(ENCRYPTED_ZIP, "Encrypted zip not allowed", "encrypted_zip", id="encrypted zip"),
    pytest.param(TAR_WITH_LINK, "Unsafe archive", "unsafe_archive", id="tar with a link"),
]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A loader with limits."""
    folder = tmp_path_factory.mktemp("limited")
    limit = 2 * len(NOISE)
    with running_services(
        folder, apps=["loader"], TRANSFER_MAX_UNPACKED_BYTES=limit, TRANSFER_IDLE_TIMEOUT_SECONDS=0.5
    ) as running:
        yield running


def half_of_upload(ticket: Ticket, body: bytes) -> bytes:
    """Return an upload that breaks off halfway."""
    head = f"POST /transfer/upload?token={ticket.token} HTTP/1.1\r\nHost: storage\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body[: len(body) // 2]


async def answer_to_half(services: Services, ticket: Ticket, body: bytes) -> RawAnswer:
    """Send half of an upload and no more; return what is answered."""
    return await raw_request(services.loader, half_of_upload(ticket, body))


async def assert_refused(services: Services, ticket: Ticket, reason: str) -> None:
    """Check what the Manager was told, and that nothing is left."""
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", reason)
    await eventually(lambda: not (services.main_dir / "temp" / ticket.job_id).exists())


@pytest.mark.parametrize(("body", "text", "reason"), REFUSED)
async def test_an_upload_is_refused_once_its_headers_have_come(
    body: bytes, text: str, reason: str, services: Services
) -> None:
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await answer_to_half(services, ticket, body)
        end = (await watcher.finish())[-1]
    assert (answer.status, answer.body.decode()) == (400, text)
    assert (end["event"], end["message"], end["total"]) == ("error", text, len(body))
    assert {message["stage"] for message in watcher.messages} <= {"pending", "uploading", "error"}
    await assert_refused(services, ticket, reason)


@pytest.mark.parametrize(("body", "text", "reason"), REFUSED)
async def test_a_fetch_is_given_up_once_its_headers_have_come(
    body: bytes, text: str, reason: str, services: Services, http: httpx.AsyncClient
) -> None:
    # Its origin never sends the rest, and hears that nobody wants it.
    async with running_origin(FileOrigin(body, None, whole=False)) as origin:
        ticket = services.ticket(download_url=origin.url)
        async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
            await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})
            end = (await watcher.finish())[-1]
        await origin.left[0].wait()
    assert (end["event"], end["message"]) == ("error", text)
    await assert_refused(services, ticket, reason)


async def test_a_tar_over_the_limit_is_refused_once_its_headers_have_come(limited: Services) -> None:
    ticket = limited.ticket()
    answer = await answer_to_half(limited, ticket, tar_of({"a": NOISE, "b": NOISE, "c": NOISE[:1]})[:-10_000])
    assert (answer.status, answer.body) == (408, b"Upload timed out"), "the last entry's header is in the other half"
    await assert_refused(limited, ticket, "timeout")

    ticket = limited.ticket()
    answer = await answer_to_half(limited, ticket, tar_of({"a": NOISE + NOISE + b"!"}))
    assert (answer.status, answer.body) == (413, b"Archive too large")
    await assert_refused(limited, ticket, "unpacked_size_limit")


async def test_a_client_that_leaves_in_the_middle_of_an_archive_was_interrupted(services: Services) -> None:
    ticket = services.ticket()
    url = httpx.URL(services.loader)
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(half_of_upload(ticket, SOUND_TAR))
        await watcher.until(stage="uploading", bytes=len(SOUND_TAR) // 2)
        writer.close()
        end = (await watcher.finish())[-1]
    assert (end["event"], end["message"]) == ("error", "Upload interrupted")
    await assert_refused(services, ticket, "exception")


async def test_a_sound_tar_that_comes_in_two_halves_is_packed(services: Services, http: httpx.AsyncClient) -> None:
    file = FileOrigin(SOUND_TAR, None, whole=False)
    async with running_origin(file) as origin:
        ticket = services.ticket(download_url=origin.url)
        async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
            await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})
            await watcher.until(stage="downloading", bytes=len(SOUND_TAR) // 2)
            file.go_on.set()
            assert (await watcher.finish())[-1]["event"] == "complete"
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id)
    assert callback.claims["unpacked_bytes"] == len(NOISE)
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == {"noise": NOISE}


async def test_what_a_zip_holds_besides_its_entries_is_not_judged(services: Services, http: httpx.AsyncClient) -> None:
    stale = Entry(b"../stale", NOISE, method=0)
    entries = [Entry(b"a", NOISE, method=0), Entry(b"b", NOISE, before=zip_from([stale]) + b"PK\3\4nonsense")]
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_from(entries))).status_code == 200
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == {"a": NOISE, "b": NOISE}
