"""Packing a received file again."""

from __future__ import annotations

import asyncio
import random
from hashlib import sha256

import httpx
import pytest

from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import upload
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


@pytest.mark.parametrize(("level", "same_as"), [("99", "9"), (None, "7"), ("", "7")], ids=["above", "none", "empty"])
async def test_a_level_is_held_to_0_to_9_and_is_else_that_of_the_token(
    level: str | None, same_as: str, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = await packed(http, services, zip_of(TEXT), pack_level=7)
    given = await repack(http, services, ticket.job_id, compression_level=level)
    expected = await repack(http, services, ticket.job_id, format="zip", compression_level=same_as)
    assert (given.status_code, expected.status_code) == (200, 200)
    assert given.json()["packed_bytes"] == expected.json()["packed_bytes"]


async def test_a_source_that_became_unusable_is_refused_and_the_packed_file_stays(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = await packed(http, services, seven_zip_of(SMALL_MOD))
    (source,) = (services.main_dir / "temp" / ticket.job_id).glob("*/source")
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
