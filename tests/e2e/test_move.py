"""Moving packed files to their place."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import httpx
import pytest

from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.local_file import kept_facts, version_of
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload, watching
from tests.support.manager import Answer
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)
UNPACKED = sum(map(len, SMALL_MOD.values()))
SHA256 = sha256(MOD).hexdigest()


async def packed(http: httpx.AsyncClient, services: Services) -> Ticket:
    """Return the ticket of a job that is packed and not moved."""
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(move=False))
    assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200
    return ticket


async def move(http: httpx.AsyncClient, services: Services, job_id: str, target: str) -> httpx.Response:
    """Call `/transfer/move` with a target such as `archive/mods/7/main.zip`."""
    storage_type, _, path = target.partition("/")
    form = {
        "token": services.secrets.storage_manage_token,
        "job_id": job_id,
        "type": storage_type,
        "path": path,
    }
    return await http.post(f"{services.loader}/transfer/move", data=form)


@pytest.mark.parametrize("target", ["archive/mods/7/main.zip", "resource/packs/a b.zip", "avatar/ü/x.zip"])
async def test_a_move_to_each_type_gives_a_receipt_and_ends_the_job(
    target: str, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = await packed(http, services)
    assert (services.main_dir / "temp" / ticket.job_id).is_dir()
    versions = set()
    for _ in range(3):
        answer = await move(http, services, ticket.job_id, target)
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "job_id": ticket.job_id,
                "final_path": target,
                "final_bytes": len(MOD),
                "unpacked_bytes": UNPACKED,
                "sha256": SHA256,
            },
        )
        versions.add((services.main_dir / target).stat().st_ino)
    assert len(versions) == 1, "saying it again replaces nothing"
    assert (services.main_dir / target).read_bytes() == MOD
    assert kept_facts(str(services.main_dir / target), version_of((services.main_dir / target).stat())) == Facts(
        UNPACKED, SHA256
    )
    assert not (services.main_dir / "temp" / ticket.job_id).exists()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        (message,) = await watcher.finish()
    assert (message["event"], message["status"], watcher.close_code) == ("complete", "moved", 1000)
    again = await upload(http, services.loader, ticket.token, MOD)
    assert (again.status_code, again.text) == (409, "Upload already finished")


async def test_of_moves_to_different_targets_at_once_one_wins(services: Services, http: httpx.AsyncClient) -> None:
    ticket = await packed(http, services)
    targets = [f"resource/rivals/{number}.zip" for number in range(6)]
    answers = await asyncio.gather(*(move(http, services, ticket.job_id, target) for target in targets))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404, 404, 404]
    assert {answer.text for answer in answers if answer.status_code == 404} == {"Packed file not found"}
    (won,) = (target for target, answer in zip(targets, answers, strict=True) if answer.status_code == 200)
    assert [target for target in targets if (services.main_dir / target).exists()] == [won]


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/x.zip", 400, "Invalid type"),
        ("temp/x.zip", 400, "Invalid type"),
        ("archive/mods/../../resource/x.zip", 423, "Access denied"),
        ("archive/..\\x.zip", 423, "Access denied"),
        ("archive/out/x.zip", 423, "Access denied"),
        ("archive/mods/", 400, None),
        ("archive/in-the-way.zip/x.zip", 400, None),
        ("archive/folder.zip", 400, None),
    ],
)
async def test_a_target_that_will_not_do_is_refused_and_the_job_stays_packed(
    target: str, status: int, text: str | None, services: Services, http: httpx.AsyncClient
) -> None:
    services.stored("archive/in-the-way.zip", b"file")
    services.stored("archive/folder.zip/inside", b"file")
    link = services.main_dir / "archive/out"
    if not link.is_symlink():
        link.symlink_to("/tmp")
    ticket = await packed(http, services)
    answer = await move(http, services, ticket.job_id, target)
    assert answer.status_code == status
    assert answer.text == text if text else answer.text and "{" not in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert (await move(http, services, ticket.job_id, "resource/after/refusal.zip")).status_code == 200
