"""The console's view of a transfer (docs/API.md, "Console")."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from playwright.async_api import BrowserContext, Page, Request, expect

from tests.browser.conftest import OpenPage
from tests.browser.pages import PATIENCE_MS, console_of, findings_of_axe, slow_down, text_of, under_way
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.processes import descendants
from tests.support.proxy import running_proxy
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

ENTRIES = SMALL_MOD | {"noise": Random(3).randbytes(3_000_000)}
SLOW = 1_500_000


@pytest.fixture(scope="session")
def mod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes some seconds to send, once the page is slowed down."""
    path = tmp_path_factory.mktemp("mod") / "mod.7z"
    path.write_bytes(seven_zip_of(ENTRIES, "-mx=1"))
    return path


@pytest.fixture
def ticket(one_address: Services) -> Ticket:
    return one_address.ticket()


async def sending(page: Page, file: Path) -> None:
    """Choose a file, and return in the middle of its upload."""
    await slow_down(page, SLOW)
    await page.set_input_files("#file", file)
    await under_way(page)


def offsets_of(page: Page) -> list[int]:
    """Return a list that takes the offset of each request of tus that brings bytes."""
    offsets: list[int] = []

    def note(request: Request) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    page.on("request", note)
    return offsets


def assert_arrived(services: Services, ticket: Ticket) -> None:
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == ENTRIES


async def shown_digest(page: Page) -> str:
    await text_of(page, "#facts", "SHA-256")
    return await page.locator("dt:text-is('SHA-256') + dd").inner_text()


async def test_a_link_is_opened_a_file_sent_and_its_result_shown(
    one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path
) -> None:
    page = await open_page(console_of(one_address.loader, ticket.token))
    assert page.url == console_of(one_address.loader), "the token is still in the address"
    await sending(page, mod)
    assert "/s · " in await text_of(page, "#bar-upload", "left")
    digest = await shown_digest(page)
    stored = (one_address.main_dir / ticket.path).read_bytes()
    assert digest == hashlib.sha256(stored).hexdigest()
    assert_arrived(one_address, ticket)
    for bar in ("upload", "extraction", "repack"):
        assert await page.locator(f"#{bar}-progress").get_attribute("value") == "1"
    assert "über uns.txt" in await text_of(page, "#entries", "mod/descriptor.mod")
    events = await page.locator("#log").inner_text()
    assert [word for word in ("uploading", "extracting", "repacking", "packed") if word not in events] == []
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download").click()
    assert Path(await (await downloading.value).path()).read_bytes() == stored


async def test_a_picture_appears_from_its_blurhash(one_address: Services, open_page: OpenPage, tmp_path: Path) -> None:
    claims = {"transfer_kind": "img", "storage_type": "avatar", "target_path": "1/face.webp"}
    page = await open_page(console_of(one_address.loader, one_address.ticket(**claims).token))
    picture = tmp_path / "face.png"
    await page.locator("header").screenshot(path=picture)
    await page.set_input_files("#file", picture)
    await page.locator("#image.loaded").wait_for(timeout=PATIENCE_MS)
    assert await page.evaluate("document.getElementById('image').naturalWidth") > 100
    colours = await page.evaluate(
        "new Set(document.getElementById('blurhash').getContext('2d').getImageData(0, 0, 32, 32).data).size"
    )
    assert colours > 10, "nothing was drawn"


async def test_an_upload_goes_on_after_a_cut(
    one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path
) -> None:
    async with running_proxy(one_address.servers["loader"].port) as network:
        page = await open_page(console_of(f"http://127.0.0.1:{network.port}", ticket.token))
        offsets = offsets_of(page)
        await sending(page, mod)
        network.reset_all()
        await text_of(page, "#said", "Trying again")
        await shown_digest(page)
    assert_arrived(one_address, ticket)
    assert len(set(offsets)) > 1


async def test_an_upload_goes_on_after_a_reload_and_a_pause(
    one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path
) -> None:
    page = await open_page(console_of(one_address.loader, ticket.token))
    await sending(page, mod)
    await page.reload()
    await text_of(page, "#drop-hint", "goes on where it was")
    offsets = offsets_of(page)
    await sending(page, mod)
    assert offsets[0] > 0, "it began afresh"
    await page.get_by_role("button", name="Pause").click()
    await text_of(page, "#said", "Paused")
    await page.get_by_role("button", name="Resume").click()
    await shown_digest(page)
    assert_arrived(one_address, ticket)


async def test_another_file_is_not_mixed_into_an_upload(
    one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path, tmp_path: Path
) -> None:
    page = await open_page(console_of(one_address.loader, ticket.token))
    await sending(page, mod)
    await page.reload()
    other = tmp_path / "other.7z"
    other.write_bytes(bytes(mod.stat().st_size))
    await page.set_input_files("#file", other)
    assert await text_of(page, "#failure", "other") == "The upload began with another file: mod.7z"


async def test_a_refusal_is_shown_in_the_services_words_and_another_file_may_follow(
    one_address: Services, ticket: Ticket, open_page: OpenPage, node_modules: Path, mod: Path, tmp_path: Path
) -> None:
    one_address.manager.is_final = False
    page = await open_page(console_of(one_address.loader, ticket.token))
    encrypted = tmp_path / "secret.zip"
    encrypted.write_bytes(seven_zip_of(SMALL_MOD, "-tzip", "-psecret"))
    await page.set_input_files("#file", encrypted)
    assert await text_of(page, "#failure", "zip") == "Encrypted zip not allowed"
    assert await findings_of_axe(page, node_modules) == []
    await page.set_input_files("#file", mod)
    await shown_digest(page)
    assert await page.locator("#failure").inner_text() == ""
    one_address.manager.is_final = True


async def test_two_tabs_show_one_job(one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path) -> None:
    one = await open_page(console_of(one_address.loader, ticket.token))
    other = await open_page(console_of(one_address.loader, ticket.token))
    await sending(one, mod)
    await under_way(other)
    assert await shown_digest(one) == await shown_digest(other)


async def test_two_tabs_that_send_one_file_bring_it_to_its_end(
    one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path
) -> None:
    tabs = [await open_page(console_of(one_address.loader, ticket.token)) for _ in range(2)]
    for tab in tabs:
        await slow_down(tab, SLOW)
        await tab.set_input_files("#file", mod)
    for tab in tabs:
        await shown_digest(tab)
    assert_arrived(one_address, ticket)
    assert len(one_address.manager.wait_for_callbacks(ticket.job_id)) == 1


def resident_bytes() -> dict[int, int]:
    """Return the memory of each of Chromium's processes that show pages."""
    held = {}
    for pid in descendants(os.getpid()):
        try:
            if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                held[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        except (OSError, IndexError):
            continue
    return held


@pytest.fixture
def huge(tmp_path: Path) -> Iterator[Path]:
    """A file of 1 GB, which takes no space."""
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(1_000_000_000)
    yield path
    path.unlink()


async def test_a_file_of_1_gb_does_not_grow_the_tab(
    one_address: Services, ticket: Ticket, open_page: OpenPage, huge: Path
) -> None:
    page = await open_page(console_of(one_address.loader, ticket.token))
    before = resident_bytes()
    await page.set_input_files("#file", huge)
    largest = dict(before)
    while await page.locator("#upload-progress").evaluate("({value}) => value") < 0.7:
        largest = {pid: max(size, largest.get(pid, 0)) for pid, size in resident_bytes().items()}
        await asyncio.sleep(0.2)
    await page.get_by_role("button", name="Give up").click()
    await text_of(page, "#failure", "cancelled")
    assert before and max(size - before.get(pid, 0) for pid, size in largest.items()) < 100_000_000


async def test_the_keyboard_does_all(one_address: Services, ticket: Ticket, open_page: OpenPage, mod: Path) -> None:
    page = await open_page(console_of(one_address.loader))
    await slow_down(page, SLOW)
    press = page.keyboard.press
    # From here on, since Chromium does not know at once that the test chooses.
    async with page.expect_file_chooser(timeout=PATIENCE_MS) as choosing:
        while not await page.locator("#link").evaluate("link => link === document.activeElement"):
            await press("Tab")
        await page.keyboard.type("https://workshop.example.org/console#token=" + ticket.token)
        await press("Enter")
        await expect(page.locator("#file")).to_be_focused()
        await press("Space")
    await (await choosing.value).set_files(mod)
    await under_way(page)
    await expect(page.get_by_role("button", name="Pause")).to_be_focused()
    await press("Enter")
    await expect(page.get_by_role("button", name="Resume")).to_be_focused()
    await press("Enter")
    await shown_digest(page)
    while not await page.get_by_role("link", name="Download").evaluate("link => link === document.activeElement"):
        await press("Tab")


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing(
    one_address: Services,
    ticket: Ticket,
    context: BrowserContext,
    open_page: OpenPage,
    node_modules: Path,
    mod: Path,
    colours: str,
) -> None:
    page = await open_page(console_of(one_address.loader))
    await page.emulate_media(color_scheme="dark" if colours == "dark" else "light")
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 28)") is (colours == "dark")
    assert await findings_of_axe(page, node_modules) == []
    await page.get_by_label("Transfer link or token").fill(ticket.token)
    await page.get_by_role("button", name="Open").click()
    await sending(page, mod)
    assert await findings_of_axe(page, node_modules) == []
    await shown_digest(page)
    await page.locator("#contents").wait_for()
    assert await findings_of_axe(page, node_modules) == []


async def test_a_phone_shows_all_without_scrolling_sideways(
    one_address: Services, ticket: Ticket, open_page: OpenPage, node_modules: Path, tmp_path: Path
) -> None:
    page = await open_page(console_of(one_address.loader, ticket.token))
    await page.set_viewport_size({"width": 360, "height": 740})
    named = tmp_path / "mod.zip"
    named.write_bytes(zip_of(SMALL_MOD | {f"mod/{'a_long_folder/' * 8}file.txt": b"1"}))
    await page.set_input_files("#file", named)
    await page.locator("#contents").wait_for(timeout=PATIENCE_MS)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert await findings_of_axe(page, node_modules) == []


async def test_a_wrong_link_and_an_expired_token_are_refused(one_address: Services, open_page: OpenPage) -> None:
    page = await open_page(console_of(one_address.loader))
    await page.get_by_label("Transfer link or token").fill("https://workshop.example.org/")
    await page.get_by_role("button", name="Open").click()
    assert await page.locator("#link").evaluate("link => link.validationMessage") == "This is no transfer link."
    await page.get_by_label("Transfer link or token").fill(one_address.ticket(exp=1).token)
    await page.get_by_role("button", name="Open").click()
    assert await text_of(page, "#failure", "denied") == "Access denied"
