"""An upload by a page of another origin, which watches its progress."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.support.archives import SMALL_MOD, entries_of, zip_of
from tests.support.services import Services

pytestmark = pytest.mark.anyio

UPLOAD = """async ([loader, token, job, body]) => {
    const socket = new WebSocket(`${loader.replace("http", "ws")}/transfer/ws/${job}?token=${token}`);
    const events = [];
    const closed = new Promise(resolve => socket.onclose = event => resolve(event.code));
    socket.onmessage = message => events.push(JSON.parse(message.data).event);
    await new Promise(resolve => socket.onopen = resolve);
    const answer = await fetch(`${loader}/transfer/upload?token=${token}&filename=mod.zip`, {
        method: "POST", body: new Uint8Array(body),
    });
    return [answer.status, await answer.json(), events, await closed];
}"""


async def test_a_page_uploads_and_watches(services: Services, page: Page) -> None:
    ticket, body = services.ticket(), zip_of(SMALL_MOD)
    status, answer, events, code = await page.evaluate(
        UPLOAD, [services.loader, ticket.token, ticket.job_id, list(body)]
    )
    assert (status, code) == (200, 1000), (answer, events)
    assert events[-1] == "complete"
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == SMALL_MOD
