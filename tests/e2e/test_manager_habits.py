"""What the real Manager does that a stand-in could easily leave out."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from open_workshop_storage.client import StorageError
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload
from tests.support.manager import Answer
from tests.support.services import Services

pytestmark = pytest.mark.anyio


async def test_a_form_may_have_its_file_before_its_token(services: Services) -> None:
    content = bytes(range(256)) * 20_000
    stored = await asyncio.to_thread(services.manager.upload, "resource", "packs/first.bin", content)
    assert (stored.status_code, stored.text) == (201, "packs/first.bin")
    assert (services.main_dir / "resource/packs/first.bin").read_bytes() == content


async def test_an_upload_after_the_manager_has_settled_an_error_is_not_accepted(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD)[:-50])).status_code == 400
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


async def test_no_callback_is_of_the_future_for_a_clock_that_is_behind(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    assert services.manager.wait_for_callbacks(ticket.job_id)
    assert not services.manager.refused
