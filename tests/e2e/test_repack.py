"""Packing a received file again."""

from __future__ import annotations

import asyncio
import random
from hashlib import sha256
from io import BytesIO

import httpx
import pytest
from PIL import Image

from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import InterruptedBody, upload, watching
from tests.support.manager import Answer
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

_CHOICE = random.Random(3)
_WORDS = [_CHOICE.randbytes(_CHOICE.randint(1, 4)).hex() for _ in range(2000)]
TEXT = {"text.txt": " ".join(_CHOICE.choices(_WORDS, k=6_000)).encode()}
"""Smaller with each level that 7z treats differently."""


async def packed(http: httpx.AsyncClient, services: Services, sent: bytes, **claims: object) -> Ticket:
    """Return the ticket of a job that is packed and not moved."""
    ticket = services.ticket(**claims)
    services.manager.script(ticket.job_id, Answer(move=False))
    assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
    return ticket


async def repack(http: httpx.AsyncClient, services: Services, job_id: object, **form: object) -> httpx.Response:
    fields = {"token": services.secrets.storage_manage_token, "job_id": job_id, **form}
    given = {name: value for name, value in fields.items() if value is not None}
    return await http.post(f"{services.loader}/transfer/repack", data=given)


@pytest.mark.parametrize("sent", [zip_of(TEXT), seven_zip_of(TEXT)], ids=["kept zip", "7z"])
async def test_a_packed_file_is_packed_again_with_another_level(
    sent: bytes, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = await packed(http, services, sent)
    sizes = {}
    for level in (9, 1, 5):
        answer = await repack(http, services, ticket.job_id, format="zip", compression_level=level)
        assert answer.status_code == 200
        told = answer.json()
        assert set(told) == {"job_id", "packed_bytes", "packed_path", "unpacked_bytes", "sha256"}
        assert (told["job_id"], told["unpacked_bytes"]) == (ticket.job_id, len(TEXT["text.txt"]))
        assert told["packed_path"].startswith(f"temp/{ticket.job_id}/")
        file = services.main_dir / told["packed_path"]
        assert entries_of(file.read_bytes()) == TEXT
        assert file.stat().st_size == told["packed_bytes"]
        digest = told["sha256"]
        assert digest == sha256(file.read_bytes()).hexdigest()
        sizes[level] = told["packed_bytes"]
    assert sizes[9] < sizes[5] < sizes[1]
    moved = await asyncio.to_thread(services.manager.move, ticket.job_id, "archive", "mods/1/repacked.zip")
    assert (moved.final_bytes, moved.sha256) == (sizes[5], digest)
    assert len(services.manager.callbacks(ticket.job_id)) == 1


@pytest.mark.parametrize(
    ("level", "same_as"), [("99", "9"), ("-3", "0"), (None, "7"), ("", "7")], ids=["above", "below", "none", "empty"]
)
async def test_a_level_is_held_to_0_to_9_and_is_else_that_of_the_token(
    level: str | None, same_as: str, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = await packed(http, services, zip_of(TEXT), pack_level=7)
    given = await repack(http, services, ticket.job_id, compression_level=level)
    expected = await repack(http, services, ticket.job_id, format="zip", compression_level=same_as)
    assert (given.status_code, expected.status_code) == (200, 200)
    assert given.json()["packed_bytes"] == expected.json()["packed_bytes"]


async def test_two_repacks_at_once_both_succeed(services: Services, http: httpx.AsyncClient) -> None:
    ticket = await packed(http, services, zip_of(TEXT))
    answers = await asyncio.gather(*(repack(http, services, ticket.job_id, compression_level=9) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    moved = await asyncio.to_thread(services.manager.move, ticket.job_id, "archive", "mods/1/at-once.zip")
    assert moved.final_bytes == answers[0].json()["packed_bytes"]


async def test_a_repack_needs_the_manage_token_before_anything_else(
    services: Services, http: httpx.AsyncClient
) -> None:
    for token, status, text in (
        (None, 401, "Token not found"),
        ("", 401, "Token not found"),
        ("wrong", 403, "Access denied"),
        (services.secrets.delete_file, 403, "Access denied"),
    ):
        answer = await repack(http, services, "no job id", token=token, format="rar")
        assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("form", "status", "text"),
    [
        ({"job_id": None}, 400, "Invalid job id"),
        ({"job_id": "short"}, 400, "Invalid job id"),
        ({"job_id": "../../../../etc"}, 400, "Invalid job id"),
        ({"format": "7z"}, 400, "Unsupported format"),
        ({"format": "rar"}, 400, "Unsupported format"),
        ({"compression_level": "high"}, 400, "Invalid compression level"),
        ({"compression_level": "3.5"}, 400, "Invalid compression level"),
        ({}, 404, "Job not found"),
    ],
)
async def test_a_repack_that_will_not_do_is_refused(
    form: dict[str, object], status: int, text: str, services: Services, http: httpx.AsyncClient
) -> None:
    answer = await repack(http, services, **{"job_id": services.ticket().job_id, **form})
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_without_the_received_file_there_is_nothing_to_repack(
    services: Services, http: httpx.AsyncClient
) -> None:
    async def refused(ticket: Ticket) -> None:
        answer = await repack(http, services, ticket.job_id, format="zip")
        assert (answer.status_code, answer.text) == (404, "Source file not found")

    moved = services.ticket()
    assert (await upload(http, services.loader, moved.token, zip_of(SMALL_MOD))).status_code == 200
    await refused(moved)

    failed = services.ticket()
    assert (await upload(http, services.loader, failed.token, zip_of(SMALL_MOD)[:-50])).status_code == 400
    await refused(failed)

    lost = await packed(http, services, zip_of(SMALL_MOD))
    for file in (services.main_dir / "temp" / lost.job_id).rglob("source"):
        file.unlink()
    await refused(lost)

    running = services.ticket()
    body = InterruptedBody(zip_of(SMALL_MOD))
    async with asyncio.TaskGroup() as tasks, watching(services.loader, running.job_id, running.token) as watcher:
        tasks.create_task(upload(http, services.loader, running.token, aiter(body)))
        await watcher.until(stage="uploading")
        await refused(running)
        body.go_on.set()


async def test_an_image_is_not_repacked(services: Services, http: httpx.AsyncClient) -> None:
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    ticket = await packed(http, services, file.getvalue(), transfer_kind="img", storage_type="resource")
    answer = await repack(http, services, ticket.job_id, format="zip")
    assert (answer.status_code, answer.text) == (400, "Unsupported format")


async def test_a_source_that_became_unusable_is_refused_and_the_packed_file_stays(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = await packed(http, services, seven_zip_of(SMALL_MOD))
    (source,) = (services.main_dir / "temp" / ticket.job_id).rglob("source")
    for content, status, text in (
        (zip_of({"../x": b"x"}), 400, "Unsafe archive"),
        (seven_zip_of(SMALL_MOD, "-psecret"), 400, "Encrypted zip not allowed"),
        (zip_of(SMALL_MOD)[:-30], 400, "Corrupt archive"),
    ):
        source.write_bytes(content)
        answer = await repack(http, services, ticket.job_id, format="zip")
        assert (answer.status_code, answer.text) == (status, text)
    await asyncio.to_thread(services.manager.move, ticket.job_id, "archive", "mods/1/kept.zip")
    assert entries_of((services.main_dir / "archive/mods/1/kept.zip").read_bytes()) == SMALL_MOD
