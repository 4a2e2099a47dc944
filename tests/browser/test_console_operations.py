"""The console's view of all that loaders do (docs/API.md, "Console")."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.pages import console_of, findings_of_axe, show_operations, text_of
from tests.conftest import ServiceStarter
from tests.e2e.under_way import LARGE, Transfers
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload, watching
from tests.support.manager import Answer
from tests.support.services import REDIS_WORKERS, Services
from tests.support.tus import TusUpload

pytestmark = pytest.mark.anyio

AWAY = Answer(status=503, move=False)


def row_of(page: Page, table: str, text: str) -> str:
    """Return the selector of a table's row that has a text in it."""
    return f"#{table} tr:has-text('{text}')"


async def test_operators_see_what_all_workers_do_and_step_in(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient, open_page: OpenPage, node_modules: Path
) -> None:
    services = start_services(redis_url, apps=["loader"])
    failed, packed, paused = (services.ticket() for _ in range(3))
    services.manager.script(packed.job_id, *[AWAY] * 9)
    await upload(http, services.loader, failed.token, zip_of(SMALL_MOD)[:-50])
    await upload(http, services.loader, packed.token, zip_of(SMALL_MOD))
    await TusUpload(http, services.loader, paused.token, paused.job_id).create(9)
    page = await open_page(console_of(services.loader))
    async with AsyncExitStack() as stack:
        running = await Transfers(services, http, stack).fetch(zip_of(LARGE), whole=False)
        stack.callback(running.file.go_on.set)
        await stack.enter_async_context(watching(services.loader, paused.job_id, paused.token))
        await show_operations(page, services)
        await expect(page.locator("#workers tr")).to_have_count(REDIS_WORKERS)
        await expect(page.locator("#total-sockets")).to_have_text("1")
        assert "Corrupt archive (corrupt_archive)" in await text_of(page, row_of(page, "jobs", failed.job_id), "failed")
        assert "downloading" in await text_of(page, row_of(page, "jobs", running.ticket.job_id), "runs")
        assert await text_of(page, row_of(page, "callbacks", packed.job_id), "success")
        assert "1 of 8" in await text_of(page, row_of(page, "slots", "download"), "download")
        assert "corrupt_archive" in await text_of(page, "#chart-failures", "corrupt_archive")
        assert "uploading" in await text_of(page, "#chart-stages", "uploading")
        await page.get_by_role("radio", name="failed").check()
        await expect(page.locator("#jobs tr")).to_have_count(1)
        await page.get_by_role("radio", name="all").check()
        assert await findings_of_axe(page, node_modules) == []
        await page.emulate_media(color_scheme="dark")
        assert await findings_of_axe(page, node_modules) == []
        await page.set_viewport_size({"width": 360, "height": 740})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        running.file.go_on.set()
        # The view is of what happens now.
        await text_of(page, row_of(page, "jobs", running.ticket.job_id), "moved")
        await step_in(page, services, packed.job_id, paused.job_id)


async def step_in(page: Page, services: Services, packed: str, paused: str) -> None:
    """Deliver a callback and cancel an upload, by the keyboard."""
    services.manager.script(packed)
    await page.get_by_role("button", name=f"Deliver now: callback of {packed}").press("Enter")
    await text_of(page, "#operations-said", "is delivered now")
    await text_of(page, row_of(page, "jobs", packed), "moved")
    await expect(page.locator("#callbacks tr")).to_have_count(0)
    await page.get_by_role("button", name=f"Cancel {paused}").press("Enter")
    await text_of(page, "#operations-said", "is cancelled")
    await text_of(page, row_of(page, "jobs", paused), "failed")


async def test_a_wrong_token_shows_nothing_and_the_right_one_is_nowhere_kept(
    one_address: Services, open_page: OpenPage, node_modules: Path
) -> None:
    page = await open_page(console_of(one_address.loader) + "#operations")
    assert await findings_of_axe(page, node_modules) == []
    await page.get_by_label("Manage token").fill("wrong")
    await page.keyboard.press("Enter")
    assert await text_of(page, "#operations-failure", "denied") == "Access denied"
    assert await page.locator("#overview").is_hidden()
    await show_operations(page, one_address)
    kept = await page.evaluate("[location.href, JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join()")
    assert one_address.secrets.storage_manage_token not in kept
    await page.reload()
    await page.get_by_label("Manage token").wait_for()


async def test_a_service_that_is_away_is_told_and_found_again(
    start_services: ServiceStarter, open_page: OpenPage
) -> None:
    services = start_services(apps=["loader"])
    page = await open_page(console_of(services.loader))
    await show_operations(page, services)
    await page.context.set_offline(True)
    await text_of(page, "#operations-failure", "The service cannot be reached")
    await page.context.set_offline(False)
    await expect(page.locator("#operations-failure")).to_be_empty()
