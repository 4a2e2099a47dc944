"""What tests do with pages."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page

from tests.support.services import Services

PATIENCE_MS = 30_000


def console_of(loader_url: str, token: str = "") -> str:
    """Return the console's address, or that of a link to a transfer."""
    return f"{loader_url}/loader/console" + (f"#token={token}" if token else "")


async def slow_down(page: Page, bytes_per_second: int) -> None:
    """Let a page send no faster."""
    session = await page.context.new_cdp_session(page)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    await session.send("Network.emulateNetworkConditions", conditions)


async def under_way(page: Page, bar: str = "upload") -> None:
    """Return when a bar is neither empty nor full."""
    await page.wait_for_function(
        "bar => { const {value} = document.getElementById(`${bar}-progress`); return value > 0 && value < 1; }",
        arg=bar,
        timeout=PATIENCE_MS,
    )


async def text_of(page: Page, selector: str, wanted: str) -> str:
    """Return an element's text once it has something in it."""
    found = page.locator(selector).filter(has_text=wanted)
    await found.wait_for(timeout=PATIENCE_MS)
    return await found.inner_text()


async def findings_of_axe(page: Page, node_modules: Path) -> list[str]:
    """Return what axe-core finds wrong with a page as it is shown."""
    await page.evaluate((node_modules / "axe-core" / "axe.min.js").read_text())
    found = await page.evaluate("axe.run()")
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found["violations"]]


async def show_operations(page: Page, services: Services) -> None:
    """Open the operators' view."""
    await page.get_by_role("link", name="Operations").click()
    await page.get_by_label("Manage token").fill(services.secrets.storage_manage_token)
    await page.get_by_role("button", name="Show").click()
    await page.locator("#overview").wait_for(timeout=PATIENCE_MS)
