"""A browser, and a page of another origin than the services."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright

HTTP_PAGE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!doctype html>"
)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HTTP_PAGE)
    await writer.drain()
    writer.close()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """An empty page in Chromium, served from an origin of its own."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "make test-browser installs it"
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server, async_playwright() as playwright:
        # Root has no sandbox.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        yield page
        await browser.close()
