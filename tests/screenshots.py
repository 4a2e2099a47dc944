"""The pictures of the console that README.md shows, made anew from running services: `make screenshots`."""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from pathlib import Path
from random import Random

import httpx
from PIL import Image
from playwright.async_api import Browser, async_playwright

from tests.browser.pages import console_of, show_operations, text_of
from tests.support.archives import Entries, seven_zip_of, zip_of
from tests.support.client import upload, watching
from tests.support.manager import Answer
from tests.support.nginx import nginx_site, site_for
from tests.support.servers import HOST, PROJECT, redis_server
from tests.support.services import Services, running_services
from tests.support.tus import TusUpload

TRANSFERS = 40
WIDTH = 1100
AWAY = Answer(status=503, move=False)


def main() -> None:
    """Make both pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redis_server(folder) as redis, running_services(folder, redis.url) as services:
            distributor, loader = (f"{HOST}:{services.servers[app].port}" for app in ("distributor", "loader"))
            with nginx_site(folder, site_for(services.main_dir), [distributor], [loader]) as nginx:
                asyncio.run(take(services, nginx.url, folder))


async def take(services: Services, address: str, folder: Path) -> None:
    """Have transfers run, and take a picture of each view."""
    async with (
        httpx.AsyncClient(verify=False, timeout=60) as http,
        async_playwright() as playwright,
        asyncio.TaskGroup() as tasks,
    ):
        traffic = tasks.create_task(transfers(services, http))
        chromium = shutil.which("chromium")
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        await show_transfer(browser, services, address, folder)
        await traffic
        paused = services.ticket()
        await TusUpload(http, services.loader, paused.token, paused.job_id).create(40_000_000)
        async with watching(services.loader, paused.job_id, paused.token):
            await show_all(browser, services, address)
        await browser.close()


async def transfers(services: Services, http: httpx.AsyncClient) -> None:
    """Send files for a while, some of which are refused, and some of whose ends the Manager does not hear of."""
    random = Random(1)
    sound = zip_of(mod(random, 4))
    refused = [sound[:-40], seven_zip_of(mod(random, 1), "-psecret"), zip_of({"../escapes": b"1"})]
    async with asyncio.TaskGroup() as tasks:
        for number in range(TRANSFERS):
            await asyncio.sleep(random.uniform(0.5, 2))
            ticket = services.ticket()
            if number % 12 == 5:
                services.manager.script(ticket.job_id, *[AWAY] * 9)
            body = random.choice(refused) if number % 4 == 3 else sound
            tasks.create_task(upload(http, services.loader, ticket.token, body))


async def show_transfer(browser: Browser, services: Services, address: str, folder: Path) -> None:
    """Send a file by the page, and show its result."""
    file = folder / "more_grass.7z"
    file.write_bytes(seven_zip_of(mod(Random(2), 9)))
    page = await browser.new_page(viewport={"width": WIDTH, "height": 900})
    await page.goto(console_of(address, services.ticket(mod_id=4711).token))
    await page.set_input_files("#file", file)
    await text_of(page, "#entries", "descriptor.mod")
    save(await page.screenshot(), "transfer")


async def show_all(browser: Browser, services: Services, address: str) -> None:
    """Show the operators' view."""
    page = await browser.new_page(viewport={"width": WIDTH, "height": 1100})
    await page.goto(console_of(address))
    await show_operations(page, services)
    await text_of(page, "#callbacks", "success")
    save(await page.screenshot(), "operations")


def save(picture: bytes, view: str) -> None:
    """Write a picture as a small file."""
    path = PROJECT / "docs" / f"console-{view}.webp"
    Image.open(io.BytesIO(picture)).convert("RGB").save(path, lossless=True, quality=100, method=6)
    print(f"{path.relative_to(PROJECT)}: {path.stat().st_size} bytes")


def mod(random: Random, textures: int) -> Entries:
    """Return what a mod is made of."""
    named = {f"mod/textures/ground_{number}.dds": random.randbytes(700_000) for number in range(textures)}
    return {
        "mod/descriptor.mod": b'name="More Grass"\nversion="1.4"\n',
        "mod/localisation/english.yml": b"l_english:",
        **named,
    }


if __name__ == "__main__":
    main()
