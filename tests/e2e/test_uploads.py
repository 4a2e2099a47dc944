"""Raw uploads of archives and other files."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.archives import SMALL_MOD, compressed_tar_of, entries_of, seven_zip_of, zip_of
from tests.support.client import InterruptedBody, raw_request, upload, watching
from tests.support.digests import field_of
from tests.support.manager import Answer
from tests.support.services import Services

pytestmark = pytest.mark.anyio


async def download(http: httpx.AsyncClient, services: Services, path: str) -> bytes:
    answer = await http.get(f"{services.distributor}/download/{path}")
    assert answer.status_code == 200
    return answer.content


async def in_chunks(content: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def test_a_sound_zip_is_kept_to_the_byte(services: Services, http: httpx.AsyncClient) -> None:
    sent = zip_of(SMALL_MOD)
    ticket = services.ticket()
    answer = await upload(http, services.loader, ticket.token, sent)
    assert answer.status_code == 200
    assert answer.json() == {"job_id": ticket.job_id, "bytes": len(sent), "total": len(sent)}
    assert await download(http, services, ticket.path) == sent


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_of(SMALL_MOD, zipfile.ZIP_STORED), id="stored zip"),
        pytest.param(seven_zip_of(SMALL_MOD), id="7z"),
        pytest.param(compressed_tar_of(SMALL_MOD, "gz"), id="tar.gz"),
    ],
)
async def test_another_archive_becomes_a_deflated_zip_of_the_same_entries(
    sent: bytes, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    # The name lies: what an archive is, its content says.
    assert (await upload(http, services.loader, ticket.token, sent, "picture.png")).status_code == 200
    stored = await download(http, services, ticket.path)
    assert entries_of(stored) == SMALL_MOD
    assert len(stored) < sum(map(len, SMALL_MOD.values()))


async def test_any_other_file_becomes_a_zip_with_that_file(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    answer = await upload(http, services.loader, ticket.token, b"no archive" * 100, "../über notes.txt")
    assert answer.status_code == 200
    ((name, content),) = entries_of(await download(http, services, ticket.path)).items()
    assert content == b"no archive" * 100
    assert name.endswith("notes.txt") and "/" not in name and ".." not in name


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
async def test_a_file_is_judged_by_its_digest_and_told_with_it(
    field: str, services: Services, http: httpx.AsyncClient
) -> None:
    sent = zip_of(SMALL_MOD)
    for value, status, text in (
        ("sha-256=:AAAA:", 400, "Malformed digest"),
        (field_of(sent + b"."), 400, "Digest mismatch"),
        (f"md5=:AAAA:, {field_of(sent)}", 200, ""),
    ):
        ticket = services.ticket()
        address = f"{services.loader}/transfer/upload?token={ticket.token}"
        answer = await http.post(address, headers={field: value}, content=sent)
        assert answer.status_code == status and text in (answer.text, "")
        (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
        assert callback.claims.get("reason") == (None if status == 200 else "exception")
    told = await http.head(f"{services.distributor}/download/{ticket.path}")
    assert told.headers["repr-digest"] == field_of(sent)
    assert "Repr-Digest" in told.headers["access-control-expose-headers"]


async def test_no_body_is_an_empty_file(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    query = f"token={ticket.token}&filename=nothing.txt"
    request = f"POST /transfer/upload?{query} HTTP/1.1\r\nHost: storage\r\n\r\n"
    assert (await raw_request(services.loader, request.encode())).status == 200
    assert entries_of(await download(http, services, ticket.path)) == {"nothing.txt": b""}


async def test_an_empty_zip_is_a_zip(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_of({}))).status_code == 200
    assert await download(http, services, ticket.path) == zip_of({})


async def test_token_name_and_size_may_come_in_headers_and_the_body_in_chunks(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    headers = {"Authorization": f"Bearer {ticket.token}", "X-File-Name": "notes.txt", "X-File-Size": "36000"}
    answer = await http.post(
        f"{services.loader}/transfer/upload", headers=headers, content=in_chunks(b"lots of text" * 3000)
    )
    assert (answer.status_code, answer.json()["bytes"]) == (200, 36_000)
    assert list(entries_of(await download(http, services, ticket.path))) == ["notes.txt"]


ENCRYPTED = "Encrypted zip not allowed"
DAMAGED: bytes = zip_of({"noise.bin": SMALL_MOD["mod/textures/grass.bin"], "text.txt": b"text" * 5000})


@pytest.mark.parametrize(
    ("sent", "status", "text", "reason"),
    [
        pytest.param(seven_zip_of(SMALL_MOD, "-tzip", "-psecret"), 400, ENCRYPTED, "encrypted_zip", id="zip"),
        pytest.param(seven_zip_of(SMALL_MOD, "-psecret", "-mhe"), 400, ENCRYPTED, "encrypted_zip", id="7z headers"),
        pytest.param(zip_of({"../evil.txt": b"evil"}), 400, "Unsafe archive", "unsafe_archive", id="climbing"),
        pytest.param(DAMAGED[:-100], 400, "Corrupt archive", "corrupt_archive", id="truncated zip"),
        pytest.param(
            compressed_tar_of(SMALL_MOD, "gz")[:-4000], 400, "Corrupt archive", "corrupt_archive", id="truncated tar.gz"
        ),
    ],
)
async def test_a_bad_archive_is_refused_reported_and_shown(
    sent: bytes, status: int, text: str, reason: str, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await upload(http, services.loader, ticket.token, sent)
        end = (await watcher.finish())[-1]
    assert (answer.status_code, answer.text) == (status, text)
    assert (end["event"], end["status"], end["stage"], end["message"]) == ("error", "error", "error", text)
    assert watcher.close_code == 1000
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", reason)
    assert callback.claims["bytes"] == len(sent)
    assert not (services.main_dir / ticket.path).exists()


async def test_a_job_that_failed_may_be_uploaded_afresh_with_an_end_of_its_own(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(503, move=False))
    assert (await upload(http, services.loader, ticket.token, DAMAGED[:-100])).status_code == 400
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    failed, succeeded = services.manager.wait_for_callbacks(ticket.job_id, 2)
    assert (failed.claims["status"], succeeded.claims["status"]) == ("error", "success")
    assert failed.claims["jti"] != succeeded.claims["jti"]
    assert await download(http, services, ticket.path) == zip_of(SMALL_MOD)


async def test_a_second_upload_is_a_conflict_while_the_first_runs_and_after_it_ended(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    body = InterruptedBody(zip_of(SMALL_MOD))
    async with asyncio.TaskGroup() as tasks, watching(services.loader, ticket.job_id, ticket.token) as watcher:
        first = tasks.create_task(upload(http, services.loader, ticket.token, aiter(body)))
        await watcher.until(stage="uploading")
        second = await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))
        assert (second.status_code, second.text) == (409, "Upload already in progress")
        body.go_on.set()
    assert first.result().status_code == 200
    third = await upload(http, services.loader, ticket.token, zip_of({}))
    assert (third.status_code, third.text) == (409, "Upload already finished")
    assert len(services.manager.wait_for_callbacks(ticket.job_id)) == 1
    assert await download(http, services, ticket.path) == zip_of(SMALL_MOD)


@pytest.mark.parametrize("announcement", ["content-length", "query", "x-file-size", "x-upload-size"])
async def test_too_large_an_upload_is_refused_at_once_where_its_size_is_announced(
    announcement: str, services: Services
) -> None:
    ticket = services.ticket(max_bytes=100_000)
    query = "&size=100001" if announcement == "query" else ""
    length = "Content-Length: 100001" if announcement == "content-length" else "Transfer-Encoding: chunked"
    hint = f"{announcement}: 100001\r\n" if announcement.startswith("x-") else ""
    head = (
        f"POST /transfer/upload?token={ticket.token}{query} HTTP/1.1\r\nHost: storage\r\n{length}\r\n{hint}"
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    answer = await raw_request(services.loader, head.encode())  # not one byte of the body follows
    assert (answer.status, answer.body) == (413, b"File too large")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "size_limit")


async def test_too_large_an_upload_is_refused_as_it_comes_where_its_size_is_not_announced(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket(max_bytes=100_000)
    answer = await upload(http, services.loader, ticket.token, in_chunks(bytes(100_001)))
    assert (answer.status_code, answer.text) == (413, "File too large")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "size_limit")

    exact = services.ticket(max_bytes=100_000)
    assert (await upload(http, services.loader, exact.token, in_chunks(bytes(100_000)))).status_code == 200


async def test_a_form_and_less_than_was_announced_are_refused_and_reported(
    services: Services, http: httpx.AsyncClient
) -> None:
    form = {"files": {"file": ("mod.zip", zip_of(SMALL_MOD))}}
    cut_short = {"content": in_chunks(bytes(600_000))}
    for body, size, text in (
        (form, "", "Send the file as the raw body"),
        (cut_short, "1000000", "Upload interrupted"),
        ({"content": bytes(600_000)}, "1000000", "Upload interrupted"),
        ({"content": in_chunks(bytes(600_000)), "headers": {"X-File-Size": "1000000"}}, "600000", "Upload interrupted"),
    ):
        ticket = services.ticket()
        params = {"token": ticket.token, "filename": "mod.zip", "size": size}
        answer = await http.post(f"{services.loader}/transfer/upload", params=params, **body)
        assert (answer.status_code, answer.text) == (400, text)
        (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
        assert (callback.claims["status"], callback.claims["reason"]) == ("error", "exception")
