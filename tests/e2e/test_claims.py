"""What a callback says of each end, and how long it is repeated."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
import pytest

from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload
from tests.support.manager import CALLBACK_PATH, Answer, stand_in
from tests.support.origins import Request, reply, running_origin
from tests.support.servers import free_port
from tests.support.services import Services

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)
CORRUPT = MOD[:-50]


async def claims_of_end(
    http: httpx.AsyncClient, services: Services, sent: bytes, **claims: object
) -> tuple[dict[str, Any], str]:
    """Upload a file with a token of these claims; return what the first callback says, and the job's id."""
    ticket = services.ticket(**claims)
    await upload(http, services.loader, ticket.token, sent)
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    return callback.claims, ticket.job_id


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


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        ({}, 3),
        ({"pack_level": None}, 3),
        ({"pack_level": 0}, 0),
        ({"pack_level": 9}, 9),
        ({"pack_level": 10}, 9),
        ({"pack_level": -1}, 0),
        ({"pack_level": 10**30}, 9),
        ({"pack_level": "7"}, 7),
        ({"pack_level": 4.0}, 4),
    ],
)
async def test_the_pack_level_is_held_to_0_to_9(
    asked: dict[str, object], level: int, services: Services, http: httpx.AsyncClient
) -> None:
    said, _ = await claims_of_end(http, services, CORRUPT, **asked)
    assert said["pack_level"] == level


@pytest.mark.parametrize(
    ("asked", "update_only"),
    [
        ({"update_only": True}, True),
        ({"keep_condition": True}, True),
        ({"keep_condition": False}, False),
        ({"update_only": False, "keep_condition": True}, True),
        ({"update_only": True, "keep_condition": False}, True),
        ({"update_only": None, "keep_condition": None}, False),
        ({"update_only": "no", "keep_condition": []}, False),
        ({"transfer_kind": "img", "storage_type": "avatar"}, False),
        ({}, False),
    ],
)
async def test_update_only_is_true_if_either_claim_is(
    asked: dict[str, object], update_only: bool, services: Services, http: httpx.AsyncClient
) -> None:
    said, _ = await claims_of_end(http, services, CORRUPT, **asked)
    assert said["update_only"] is update_only


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

    said, _ = await claims_of_end(http, services, MOD, reason="exception")
    assert (said["status"], said.get("reason")) == ("success", None)


async def test_a_callback_comes_again_after_each_answer_that_may_change_and_after_no_other(
    services: Services, http: httpx.AsyncClient
) -> None:
    async def after(status: int, headers: dict[str, str]) -> str:
        ticket = services.ticket()
        services.manager.script(ticket.job_id, Answer(status, headers))
        await upload(http, services.loader, ticket.token, CORRUPT)
        await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id, 1)
        return ticket.job_id

    final = (200, 201, 202, 301, 302, 307, 308, 400, 401, 403, 404, 405, 409, 410, 422, 451)
    settled = [await after(status, {"Location": CALLBACK_PATH} if 300 < status < 400 else {}) for status in final]
    again = [await after(status, {}) for status in (408, 425, 429, 500, 502, 503, 504, 599)]
    for job_id in again:
        first, second = await asyncio.to_thread(services.manager.wait_for_callbacks, job_id, 2)
        assert first.claims["jti"] == second.claims["jti"]
    assert [len(services.manager.callbacks(job_id)) for job_id in settled] == [1] * len(final)


async def test_a_callback_waits_for_a_manager_that_cannot_be_reached(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    port = free_port()
    services = start_services(apps=["loader"], MANAGER_TRANSFER_CALLBACK_URL=f"http://127.0.0.1:{port}{CALLBACK_PATH}")
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200
    with stand_in(services.secrets, port) as late:
        late.loader_url = services.loader
        (callback,) = await asyncio.to_thread(late.wait_for_callbacks, ticket.job_id)
        assert callback.moved
    assert (services.main_dir / ticket.path).read_bytes() == MOD


async def test_the_settings_say_where_callbacks_go_how_long_they_hold_and_how_long_an_answer_may_take(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    async def silence(request: Request, writer: asyncio.StreamWriter) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with running_origin(silence) as manager:
        services = start_services(
            apps=["loader"],
            MANAGER_URL="http://127.0.0.1:1",
            MANAGER_TRANSFER_CALLBACK_URL=f"{manager.url}/elsewhere?by=storage",
            TRANSFER_CALLBACK_TTL_SECONDS=77,
            TRANSFER_CALLBACK_TIMEOUT_SECONDS=0.3,
        )
        ticket = services.ticket()
        answer = await upload(http, services.loader, ticket.token, MOD)
        assert answer.status_code == 200
        assert len(manager.requests) == 1
        await manager.left[0].wait()
        manager.answer = reply(200)
        while len(manager.requests) < 2:
            await asyncio.sleep(0.05)
    said = [
        jwt.decode(
            request.headers["authorization"].removeprefix("Bearer "),
            services.secrets.jwt_secret,
            algorithms=["HS256"],
            audience="manager",
        )
        for request in manager.requests
    ]
    assert {request.target for request in manager.requests} == {"/elsewhere?by=storage"}
    # It is signed a minute back.
    assert [claims["exp"] - claims["iat"] for claims in said] == [137, 137]
    assert len({claims["jti"] for claims in said}) == 1
