"""What scripts of pages of another origin may do and read (docs/API.md, "Answers")."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from tests.support.archives import SMALL_MOD, entries_of, zip_of
from tests.support.services import Services

pytestmark = pytest.mark.anyio

FETCH = """async ([url, method, headers, body, exposed]) => {
    if (Array.isArray(body)) body = new Uint8Array(body);
    const answer = await fetch(url, {method, headers, body});
    return [answer.status, exposed.filter(name => !answer.headers.get(name)), await answer.text()];
}"""
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
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


async def fetched(
    page: Page,
    url: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: object = None,
    exposed: list[str] | None = None,
) -> tuple[int, str]:
    """Fetch by a script of the page, which has to see the named headers; return status and text."""
    status, hidden, text = await page.evaluate(FETCH, [url, method, headers or {}, body, exposed or []])
    assert hidden == [], f"{method} {url} is answered {status} without {hidden}"
    return status, text


async def test_a_page_reads_stored_files(services: Services, page: Page) -> None:
    sent = zip_of(SMALL_MOD)
    mod = services.ticket()
    status, _ = await fetched(
        page,
        f"{services.loader}/transfer/upload",
        "POST",
        {"Authorization": f"Bearer {mod.token}", "X-File-Name": "a"},
        [*sent],
    )
    assert status == 200
    address = f"{services.distributor}/download/{mod.path}"
    assert (await fetched(page, address, exposed=["ETag", "Repr-Digest"]))[0] == 200
    assert (
        await fetched(page, f"{address}?filename=mod", "HEAD", exposed=["X-Unpacked-Bytes", "Content-Disposition"])
    )[0] == 200
    assert (await fetched(page, address, headers={"Range": "bytes=0-3"}, exposed=["Content-Range"]))[0] == 206
    assert await fetched(page, f"{services.distributor}/download/resource/none") == (404, "File not found")
    contents = f"{services.distributor}/contents/{mod.path}"
    assert (await fetched(page, contents, exposed=["ETag"]))[0] == 200
    assert (await fetched(page, f"{contents}?entry=mod/descriptor.mod", exposed=["X-Entry-CRC32"]))[0] == 200
    json = {"Content-Type": "application/json"}
    assert (
        await fetched(page, f"{services.distributor}/blurhashes", "POST", json, '{"paths": ["download/avatar/1"]}')
    )[0] == 200
    for service, url in (("distributor", services.distributor), ("loader", services.loader)):
        assert await fetched(page, f"{url}/{service}/healthz") == (200, '{"status":"ok"}')
        assert await fetched(page, f"{url}/{service}/readyz") == (200, '{"status":"ready"}')
        assert (await fetched(page, f"{url}/{service}/openapi.json"))[0] == 200


async def test_a_page_sends_files(services: Services, page: Page) -> None:
    loader = services.loader
    assert await fetched(page, f"{loader}/transfer/upload", "POST", body="abc") == (401, "Token not found")
    fetch = services.ticket(download_url="http://127.0.0.1:9/file.zip")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, text = await fetched(page, f"{loader}/transfer/start", "POST", form, f"token={fetch.token}")
    assert status == 200 and '"status":"started"' in text
    assert (await fetched(page, f"{loader}/transfer/start?token={fetch.token}"))[0] == 200
    sent = services.ticket()
    bearer = {"Authorization": f"Bearer {sent.token}"}
    begin = TUS | bearer | {"Upload-Length": "6", "Upload-Metadata": "filename bW9k"}
    created = ["Location", "Upload-Offset", "Upload-Expires", "Tus-Resumable"]
    assert (await fetched(page, f"{loader}/transfer/tus/", "POST", begin, exposed=created))[0] == 201
    upload = f"{loader}/transfer/tus/{sent.job_id}"
    first = TUS | BYTES | bearer | {"Upload-Offset": "0"}
    assert (await fetched(page, upload, "PATCH", first, "abc", ["Upload-Offset"]))[0] == 204
    assert await fetched(page, upload, "PATCH", first, "abc") == (409, "Upload offset differs")
    told = ["Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires"]
    assert (await fetched(page, upload, "HEAD", bearer, exposed=told))[0] == 200
    assert (await fetched(page, upload, "OPTIONS", exposed=["Tus-Version", "Tus-Extension", "Tus-Checksum-Algorithm"]))[
        0
    ] == 200
    assert (await fetched(page, upload, "DELETE", TUS | bearer))[0] == 204


async def test_a_page_follows_a_transfer(services: Services, page: Page) -> None:
    ticket = services.ticket()
    told: list[dict[str, Any]] = await page.evaluate(
        """async ([loader, job, token]) => {
            const socket = new WebSocket(`${loader.replace("http", "ws")}/transfer/ws/${job}?token=${token}`);
            const events = new EventSource(`${loader}/transfer/events/${job}?token=${token}`);
            const first = channel => new Promise(resolve => channel.onmessage = ({data}) => resolve(JSON.parse(data)));
            const told = await Promise.all([first(socket), first(events)]);
            socket.close();
            events.close();
            return told;
        }""",
        [services.loader, ticket.job_id, ticket.token],
    )
    assert [one["status"] for one in told] == ["pending", "pending"]


async def test_a_page_uploads_and_watches(services: Services, page: Page) -> None:
    ticket, body = services.ticket(), zip_of(SMALL_MOD)
    status, answer, events, code = await page.evaluate(
        UPLOAD, [services.loader, ticket.token, ticket.job_id, list(body)]
    )
    assert (status, code) == (200, 1000), (answer, events)
    assert events[-1] == "complete"
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == SMALL_MOD
