"""What the Manager hears of a transfer, and what it asks for in return."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import Any

import httpx
import pytest

from open_workshop_storage.client import Moved, StorageError
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of
from tests.support.client import upload, watching
from tests.support.manager import Answer
from tests.support.services import Services

pytestmark = pytest.mark.anyio

UNPACKED = sum(map(len, SMALL_MOD.values()))
CORRUPT = zip_of(SMALL_MOD)[:-50]


async def claims_of_end(
    http: httpx.AsyncClient, services: Services, sent: bytes, **claims: object
) -> tuple[dict[str, Any], str]:
    """Upload a file with a token of these claims; return what the first callback says, and the job's id."""
    ticket = services.ticket(**claims)
    await upload(http, services.loader, ticket.token, sent)
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    return callback.claims, ticket.job_id


async def test_a_success_is_reported_with_all_its_claims(services: Services, http: httpx.AsyncClient) -> None:
    sent = seven_zip_of(SMALL_MOD)
    ticket = services.ticket(
        pack_format="zip",
        pack_level=12,
        mode="replace",
        keep_condition=True,
        callback_action="mod_uploaded",
        callback_context={"user": 5, "nested": {"list": [1, None]}},
        added_later={"by": "the Manager"},
    )
    before = int(time.time())
    assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert callback.body == b""
    claims = callback.claims
    packed = (services.main_dir / ticket.path).read_bytes()
    assert before <= claims["iat"] + 60 <= time.time()
    assert claims["exp"] == claims["iat"] + 660
    assert claims["jti"]
    expected = {
        "iss": "storage",
        "aud": "manager",
        "job_id": ticket.job_id,
        "status": "success",
        "transfer_kind": "archive",
        "mod_id": ticket.mod_id,
        "pack_format": "zip",
        "pack_level": 9,
        "packed_format": "zip",
        "update_only": True,
        "mode": "replace",
        "bytes": len(sent),
        "total": len(sent),
        "packed_bytes": len(packed),
        "sha256": sha256(packed).hexdigest(),
        "unpacked_bytes": UNPACKED,
        "storage_type": None,
        "file_kind": None,
        "callback_action": "mod_uploaded",
        "callback_context": {"user": 5, "nested": {"list": [1, None]}},
        "target_path": None,
        "added_later": {"by": "the Manager"},
    }
    assert {name: claims.get(name, "absent") for name in expected} == expected


async def test_a_minimal_token_gets_the_defaults(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    expected = {"transfer_kind": "archive", "pack_format": "zip", "pack_level": 3, "unpacked_bytes": UNPACKED}
    assert expected.items() <= callback.claims.items()
    assert "reason" not in callback.claims


async def test_the_manager_moves_the_file_while_it_handles_the_callback(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    sent = zip_of(SMALL_MOD)
    assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert callback.moved == Moved(ticket.job_id, ticket.path, len(sent), UNPACKED, callback.claims["sha256"])
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_a_move_replaces_what_is_there(services: Services, http: httpx.AsyncClient) -> None:
    first = services.ticket()
    second = services.ticket(mod_id=first.mod_id)
    for ticket, sent in ((first, zip_of({"old.txt": b"old" * 99})), (second, zip_of(SMALL_MOD))):
        assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
    services.manager.wait_for_callbacks(second.job_id)
    assert (services.main_dir / first.path).read_bytes() == zip_of(SMALL_MOD)
    assert [path.name for path in (services.main_dir / first.path).parent.iterdir()] == ["main.zip"]


async def test_a_packed_job_waits_for_a_move_that_comes_later(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(move=False))
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        await watcher.finish()
    assert (watcher.messages[-1]["event"], watcher.messages[-1]["status"]) == ("complete", "packed")
    moved = await asyncio.to_thread(services.manager.move, ticket.job_id, "resource", "packs/a.zip")
    assert moved.final_path == "resource/packs/a.zip"


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        (Answer(200, delay=0.3), True),
        (Answer(409, delay=0.3), True),
        (Answer(500, delay=0.3), True),
        (Answer(409, delay=0.3, move=False), False),
        (Answer(400, delay=0.3, move=False), False),
        (Answer(403, delay=0.3, move=False), False),
    ],
)
async def test_the_answer_leaves_after_the_first_callback_attempt_and_tells_if_the_file_was_refused(
    answer: Answer, accepted: bool, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    services.manager.script(ticket.job_id, answer)
    told = await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))
    assert services.manager.callbacks(ticket.job_id)[0].answered
    if accepted:
        assert told.status_code == 200
    else:
        assert (told.status_code, told.text) == (409, "Upload not accepted")


async def test_an_undelivered_callback_comes_again_as_the_same_end(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(503, move=False), Answer(429, {"Retry-After": "1"}))
    sent = zip_of(SMALL_MOD)
    assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
    attempts = services.manager.wait_for_callbacks(ticket.job_id, 3)
    assert len({attempt.claims["jti"] for attempt in attempts}) == 1
    # Times are whole seconds, and the first repetition may come within one.
    assert attempts[1].claims["iat"] < attempts[2].claims["iat"], "signed afresh"
    assert attempts[1].headers["authorization"] != attempts[2].headers["authorization"]
    first, second = (attempt.moved for attempt in attempts if attempt.move is not None)
    assert first == second
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_a_settled_or_refused_callback_does_not_come_again(services: Services, http: httpx.AsyncClient) -> None:
    settled = {services.ticket(): answer for answer in (Answer(409), Answer(400), Answer(307, {"Location": "/x"}))}
    retried = services.ticket()
    for ticket, answer in {**settled, retried: Answer(500)}.items():
        services.manager.script(ticket.job_id, answer)
        expected = 409 if answer.status in (400, 307) else 200
        assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == expected
    # By the time that the last job's second attempt has come, so would those of the others have.
    services.manager.wait_for_callbacks(retried.job_id, 2)
    assert [len(services.manager.callbacks(ticket.job_id)) for ticket in settled] == [1, 1, 1]


async def test_an_error_is_reported_with_all_its_claims(services: Services, http: httpx.AsyncClient) -> None:
    asked = {
        "mod_id": 77,
        "pack_format": "zip",
        "pack_level": 5,
        "update_only": False,
        "mode": "patch",
        "callback_action": "mod_uploaded",
        "callback_context": {"user": "ü", "list": [1, {"a": None}]},
        "target_path": "mods/77/main.zip",
        "added_later": ["by", "the", "Manager"],
        "max_bytes": 10_000_000,
    }
    said, job_id = await claims_of_end(http, services, CORRUPT, **asked)
    expected = {
        "iss": "storage",
        "aud": "manager",
        "job_id": job_id,
        "status": "error",
        "reason": "corrupt_archive",
        "transfer_kind": "archive",
        "packed_format": "zip",
        "bytes": len(CORRUPT),
        "total": len(CORRUPT),
        "packed_bytes": None,
        "sha256": None,
        "unpacked_bytes": None,
        "storage_type": None,
        "file_kind": None,
        **{name: asked[name] for name in asked if name != "max_bytes"},
    }
    assert {name: said.get(name, "absent") for name in expected} == expected


async def test_a_token_decides_nothing_of_what_the_storage_itself_reports(
    services: Services, http: httpx.AsyncClient
) -> None:
    forged = {
        "status": "success",
        "bytes": -1,
        "total": -1,
        "packed_bytes": -1,
        "sha256": "theirs",
        "unpacked_bytes": -1,
        "packed_format": "exe",
        "iss": "someone",
        "jti": "mine",
        "iat": 1,
    }
    said, _ = await claims_of_end(http, services, CORRUPT, **forged)
    assert said["status"] == "error"
    assert not {name for name, value in forged.items() if said[name] == value}

    said, _ = await claims_of_end(http, services, zip_of(SMALL_MOD), reason="exception")
    assert (said["status"], said.get("reason")) == ("success", None)


async def test_an_upload_after_the_manager_has_settled_an_error_is_not_accepted(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, CORRUPT)).status_code == 400
    services.manager.wait_for_callbacks(ticket.job_id)
    again = await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))
    assert (again.status_code, again.text) == (409, "Upload not accepted")
    failed, settled = services.manager.wait_for_callbacks(ticket.job_id, 2)
    assert (failed.claims["status"], settled.claims["status"], settled.move) == ("error", "success", None)


async def test_a_callback_whose_answer_was_lost_is_settled_by_409(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(500), Answer(409, move=False))
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    services.manager.wait_for_callbacks(ticket.job_id, 2)
    assert (services.main_dir / ticket.path).read_bytes() == zip_of(SMALL_MOD)


async def test_a_move_that_is_refused_fails_the_job_for_good(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket(target_path="../outside.zip")
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    first, second = services.manager.wait_for_callbacks(ticket.job_id, 2)
    assert isinstance(first.move, StorageError) and first.move.status == 423
    assert second.move is None, "it is not asked for a move again"
