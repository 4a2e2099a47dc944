"""Both services behind a real nginx with the site file of `deploy/`: all that browsers and the Manager do."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from open_workshop_storage.api.headers import COMMON_HEADERS
from tests.e2e.test_hostile_http import DOUBTFUL_FRAMINGS
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, eventually, statuses, upload, watching
from tests.support.event_streams import streaming
from tests.support.images import saved
from tests.support.nginx import PREFIX, nginx_site, site_for
from tests.support.origins import reply, running_origin
from tests.support.servers import HOST, free_port
from tests.support.services import Services, running_services
from tests.support.tus import TusUpload

pytestmark = pytest.mark.anyio

OF_ALL_ANSWERS = {name.lower(): value for name, value in COMMON_HEADERS.items()}
REFERER = "https://pages.example/upload?token=of-another-page"


@dataclass(frozen=True)
class Site:
    """Both services behind nginx.

    Attributes:
        url: nginx's base URL.
        redirect_url: That of the block which leads to HTTPS.
        tls_url: That of the block which it leads to.
        logs: The folder of nginx's `access.log` and `error.log`.
    """

    url: str
    redirect_url: str
    tls_url: str
    services: Services
    logs: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with running_services(folder, ACCEL_REDIRECT_PREFIX=PREFIX, METRICS_ENABLED=True) as services:
        redirect, tls = free_port(), free_port()
        distributor, loader = ([f"{HOST}:{services.servers[app].port}"] for app in ("distributor", "loader"))
        with nginx_site(folder, site_for(services.main_dir), distributor, loader, redirect, tls) as server:
            services.manager.loader_url = server.url
            urls = f"http://127.0.0.1:{redirect}", f"https://127.0.0.1:{tls}"
            yield Site(server.url, *urls, services, folder)


async def download(http: httpx.AsyncClient, site: Site, path: str) -> bytes:
    answer = await http.get(f"{site.url}/download/{path}")
    assert answer.status_code == 200
    return answer.content


async def test_a_browser_uploads_and_watches_while_the_manager_moves(site: Site, http: httpx.AsyncClient) -> None:
    ticket = site.services.ticket()
    body = InterruptedBody(seven_zip_of(SMALL_MOD))
    async with watching(site.url, ticket.job_id, ticket.token) as watcher:
        sending = asyncio.create_task(upload(http, site.url, ticket.token, aiter(body)))
        # Not before the body is complete would a proxy that buffers requests let this happen.
        await watcher.until(stage="uploading")
        body.go_on.set()
        answer = await sending
        messages = await watcher.finish()
    assert (answer.status_code, answer.json()["job_id"]) == (200, ticket.job_id)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert messages[-1]["event"] == "complete" and watcher.close_code == 1000
    assert entries_of(await download(http, site, ticket.path)) == SMALL_MOD


async def test_browsers_upload_and_are_refused_over_http_2(site: Site) -> None:
    async def sent(token: str, content: bytes) -> list[str]:
        """Return version, status and text of the answer to an upload."""
        command = ["curl", "--http2", "--insecure", "--silent", "--data-binary", "@-", "--write-out"]
        command += ["\n%{http_version}\n%{http_code}", "--header", "Content-Type: application/octet-stream"]
        curl = await asyncio.create_subprocess_exec(
            *command,
            f"{site.tls_url}/transfer/upload?token={token}&filename=mod.zip",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await curl.communicate(content)
        text, version, status = printed.decode().rsplit("\n", 2)
        return [version, status, text]

    ticket, large = site.services.ticket(), site.services.ticket(max_bytes=10_000_000)
    content = {"mod/noise.bin": random.Random(8).randbytes(3_000_000)}
    version, status, _ = await sent(ticket.token, zip_of(content, 0))
    assert (version, status) == ("2", "200")
    assert entries_of((site.services.main_dir / ticket.path).read_bytes()) == content
    assert await sent(large.token, bytes(20_000_000)) == ["2", "413", "File too large"]


async def test_events_come_through_as_they_are_told(site: Site, http: httpx.AsyncClient) -> None:
    ticket, body = site.services.ticket(), InterruptedBody(zip_of(SMALL_MOD))
    async with asyncio.TaskGroup() as tasks, streaming(http, site.url, ticket.job_id, ticket.token) as stream:
        first = await stream.next()
        assert first is not None and first.message["stage"] == "pending"
        tasks.create_task(upload(http, site.url, ticket.token, aiter(body)))
        second = await stream.next()
        # The upload waits until this has come.
        assert second is not None and second.message["stage"] == "uploading"
        body.go_on.set()
        assert (await stream.rest())[-1].message["event"] == "complete"


async def test_a_resumable_upload_comes_through_as_it_is_sent(site: Site, http: httpx.AsyncClient) -> None:
    ticket = site.services.ticket()
    tus = TusUpload(http, site.url, ticket.token, ticket.job_id)
    content = seven_zip_of(SMALL_MOD)
    created = await tus.create(len(content), content[:20])
    assert (created.status_code, created.headers["upload-offset"]) == (201, "20")
    body = InterruptedBody(content[20:])
    stale = asyncio.create_task(tus.patch(20, aiter(body)))
    async with watching(site.url, ticket.job_id, ticket.token) as watcher:
        # Not before the body is complete would a proxy that buffers requests let this happen.
        await watcher.until(bytes=30)
        asked = await tus.head()
        assert (asked.status_code, asked.headers["upload-offset"]) == (200, "30")
        assert (await tus.patch(30, content[30:])).status_code == 204
        assert (await watcher.finish())[-1]["event"] == "complete"
    stale.cancel()
    options = await http.options(tus.url)
    assert options.headers["tus-version"] == "1.0.0" and "PATCH" in options.headers["access-control-allow-methods"]
    assert entries_of(await download(http, site, ticket.path)) == SMALL_MOD


async def test_a_transfer_from_a_url_is_started_and_ends(site: Site, http: httpx.AsyncClient) -> None:
    content = zip_of(SMALL_MOD)
    async with running_origin(reply(200, body=content)) as origin:
        ticket = site.services.ticket(download_url=f"{origin.url}/mod.zip")
        started = await http.post(f"{site.url}/transfer/start", data={"token": ticket.token})
        assert started.json()["ws_url"] == f"/transfer/ws/{ticket.job_id}"
        await asyncio.to_thread(site.services.manager.wait_for_callbacks, ticket.job_id)
    assert await download(http, site, ticket.path) == content


async def test_the_manager_uploads_repacks_moves_and_deletes(site: Site, http: httpx.AsyncClient) -> None:
    secrets = site.services.secrets
    picture = saved(Image.new("RGB", (40, 30), "red"), "PNG")
    fields = {"type": "avatar", "path": "players/7.webp", "file_kind": "img", "token": secrets.upload_file}
    stored = await http.post(f"{site.url}/upload", data=fields, files={"file": picture})
    assert (stored.status_code, stored.text) == (201, "players/7.webp")
    assert (await download(http, site, "avatar/players/7.webp"))[8:12] == b"WEBP"
    hashes = await http.post(f"{site.url}/blurhashes", json={"paths": ["/download/avatar/players/7.webp"]})
    assert hashes.json()["items"][0]["width"] == 40

    ticket = site.services.ticket()
    site.services.manager.script(ticket.job_id)
    assert (await upload(http, site.url, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    form = {"job_id": ticket.job_id, "format": "zip", "token": secrets.storage_manage_token}
    assert (await http.post(f"{site.url}/transfer/repack", data=form)).status_code == 404, "moved by then"
    again = await asyncio.to_thread(site.services.manager.move, ticket.job_id, "archive", ticket.path[8:])
    assert again.final_path == ticket.path

    form = {"type": "avatar", "path": "players/7.webp", "token": secrets.delete_file}
    assert (await http.request("DELETE", f"{site.url}/delete", data=form)).text == "File deleted"


async def test_early_refusals_of_large_bodies_reach_the_client(site: Site, http: httpx.AsyncClient) -> None:
    async def gigabyte() -> AsyncIterator[bytes]:
        for _ in range(1024):
            yield bytes(1024 * 1024)

    ticket = site.services.ticket(max_bytes=1000)
    refused = await upload(http, site.url, ticket.token, gigabyte())
    assert (refused.status_code, refused.text) == (413, "File too large")
    assert refused.headers["access-control-allow-origin"] == "*"
    refused = await http.post(f"{site.url}/blurhashes", content=gigabyte())
    assert (refused.status_code, refused.text) == (400, "Request body too large")
    assert refused.headers.items() >= OF_ALL_ANSWERS.items()


async def test_each_service_shows_documents_and_health_below_its_prefix_only(
    site: Site, http: httpx.AsyncClient
) -> None:
    for app in ("distributor", "loader"):
        assert (await http.get(f"{site.url}/{app}/healthz")).json() == {"status": "ok"}
        assert (await http.get(f"{site.url}/{app}/readyz")).json() == {"status": "ready"}
        assert f"/{app}/openapi.json" in (await http.get(f"{site.url}/{app}/")).text
    for path in ("/", "/healthz", "/openapi.json", "/transfer", "/uploads", f"{PREFIX}/avatar/players/7.webp"):
        answer = await http.get(f"{site.url}{path}")
        assert answer.status_code == 404 and answer.headers["content-type"].startswith("text/plain"), path
        assert answer.headers.items() >= OF_ALL_ANSWERS.items(), path


async def test_plain_http_leads_to_https(site: Site, http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{site.redirect_url}/transfer/start?token=x")
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://storage.example.org/transfer/start?token=x"
    assert (await http.get(f"{site.tls_url}/loader/readyz")).json() == {"status": "ready"}


async def test_preflights_are_answered(site: Site, http: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-file-name"}
    for path in ("/transfer/upload", "/transfer/start", "/blurhashes", "/download/avatar/players/7.webp"):
        answer = await http.options(f"{site.url}{path}", headers={"Origin": "https://pages.example", **asked})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"


async def test_a_request_whose_end_is_in_doubt_is_the_last_of_its_connection(site: Site) -> None:
    for framing in DOUBTFUL_FRAMINGS:
        sent = f"POST /transfer/start HTTP/1.1\r\nHost: storage\r\n{framing}GET /loader/healthz HTTP/1.1\r\n\r\n"
        (status,) = await statuses(site.url, sent.encode())
        assert status in (400, 401, 501), framing[:100]


async def test_one_address_gets_so_many_connections_to_the_loader(site: Site, http: httpx.AsyncClient) -> None:
    url = httpx.URL(site.url)
    head = b"POST /transfer/start HTTP/1.1\r\nHost: storage\r\nContent-Length: 9\r\n\r\n"
    async with AsyncExitStack() as stack:
        for _ in range(256):
            _, writer = await asyncio.open_connection(url.host, url.port)
            stack.callback(writer.close)
            writer.write(head)

        async def start() -> httpx.Response:
            return await http.get(f"{site.url}/transfer/start")

        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await start()).status_code != 429:
                assert answer.status_code == 401
        assert answer.text == "Storage busy" and answer.headers.items() >= OF_ALL_ANSWERS.items()
        assert (await http.get(f"{site.url}/loader/healthz")).status_code == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await start()).status_code != 401:
            await asyncio.sleep(0.05)


async def test_one_address_gets_so_many_downloads_at_once(site: Site, http: httpx.AsyncClient) -> None:
    large = site.services.stored("resource/large.bin", b"")
    os.truncate(large, 64 * 1024 * 1024)
    url, target = httpx.URL(site.url), "/download/resource/large.bin"
    async with AsyncExitStack() as stack:
        for _ in range(256):
            _, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
            stack.callback(writer.close)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: storage\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await http.head(f"{site.url}{target}")).status_code != 429:
                assert answer.status_code == 200
        answer = await http.get(f"{site.url}{target}")
        assert answer.text == "Storage busy" and answer.headers.items() >= OF_ALL_ANSWERS.items()
        assert (await http.get(f"{site.url}/transfer/start")).status_code == 401
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await http.head(f"{site.url}{target}")).status_code != 200:
            await asyncio.sleep(0.05)


async def test_metrics_are_not_for_the_outside(site: Site, http: httpx.AsyncClient) -> None:
    for service, own in (("loader", site.services.loader), ("distributor", site.services.distributor)):
        assert (await http.get(f"{own}/{service}/metrics")).status_code == 200
        answer = await http.get(f"{site.url}/{service}/metrics")
        assert (answer.status_code, answer.text) == (404, "Not Found")
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_no_token_comes_into_the_logs(site: Site, http: httpx.AsyncClient) -> None:
    ticket = site.services.ticket()
    for url in (site.url, site.redirect_url):
        await http.get(f"{url}/transfer/start", params={"token": ticket.token}, headers={"Referer": REFERER})
    # A client that leaves in the middle of its body is what nginx complains about.
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(site.url).port)
    writer.write(
        f"POST /transfer/upload?token={ticket.token} HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\nx".encode()
    )
    writer.close()

    def log() -> str:
        return (site.logs / "access.log").read_text() + (site.logs / "error.log").read_text()

    await eventually(lambda: '"POST /transfer/upload HTTP/1.1"' in log())
    for status in (400, 308):
        assert f'"GET /transfer/start HTTP/1.1" {status}' in log()
    assert "token" not in log() and ticket.token not in log()


async def test_a_service_that_is_away_is_answered_for(tmp_path: Path, site: Site, http: httpx.AsyncClient) -> None:
    """With the status and form of the service's own answers, which clients show to people."""
    nowhere = [f"{HOST}:{free_port()}"]
    with nginx_site(tmp_path, site_for(site.services.main_dir), nowhere, nowhere) as server:
        for path in (
            "/download/avatar/1.webp",
            "/contents/avatar/1.zip",
            "/transfer/start?token=x",
            "/blurhashes",
            "/loader/healthz",
        ):
            answer = (
                await http.post(f"{server.url}{path}") if path == "/blurhashes" else await http.get(server.url + path)
            )
            assert (answer.status_code, answer.text) == (503, "Service unavailable"), path
            assert answer.headers["content-type"] == "text/plain" and answer.headers["retry-after"] == "5"
            assert answer.headers.items() >= OF_ALL_ANSWERS.items()
