"""A browser, pages of another origin than the services, and the console."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser.pages import PATIENCE_MS
from tests.support.services import Services, running_services

HTTP_PAGE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!doctype html>"
)
OF_A_POLICY = "Content Security Policy"
"""What Chromium says in its console of each breach of one."""

OpenPage = Callable[..., Awaitable[Page]]


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HTTP_PAGE)
    await writer.drain()
    writer.close()


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, without a window."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "make test-browser installs it"
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        # Root has no sandbox.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page, served from an origin of its own."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server:
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        yield page
        await page.close()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """What `make test-browser` installs."""
    modules = Path(__file__).parent / "node_modules"
    assert modules.is_dir(), "make test-browser installs them"
    return modules


@pytest.fixture(scope="session")
def one_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services at one address, as behind nginx; its name among the servers is `loader`."""
    with running_services(tmp_path_factory.mktemp("one-address"), apps=["app"]) as services:
        yield services.through(services.servers["app"])


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser that has seen nothing yet, and shows pages as on a desk."""
    async with await browser.new_context(viewport={"width": 1000, "height": 900}) as context:
        yield context


@pytest.fixture
async def open_page(context: BrowserContext) -> AsyncIterator[OpenPage]:
    """Opens addresses, each in a page of its own; at the end none has broken its policy or raised an error."""
    said: list[str] = []

    async def open_page(address: str) -> Page:
        page = await context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if OF_A_POLICY in message.text else None)
        await page.goto(address)
        return page

    yield open_page
    assert said == []
