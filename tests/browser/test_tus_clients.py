"""Clients of tus as people use them, over a network that cuts, resets and stalls (docs/API.md, "Resumable uploads")."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from playwright.async_api import Page
from tusclient.client import TusClient

from tests.support.archives import SMALL_MOD, entries_of, zip_of
from tests.support.proxy import Fault, Proxy, running_proxy
from tests.support.services import Services

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent
ENTRIES = SMALL_MOD | {"noise": random.Random(3).randbytes(6_000_000)}
MOD = zip_of(ENTRIES)
IN_CHROMIUM = """([endpoint, token, base64]) => new Promise((resolve, reject) => {
    const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
    new tus.Upload(new File([bytes], "mod.zip"), {
        endpoint: `${endpoint}?token=${token}`, chunkSize: 1 << 20, retryDelays: [50, 100, 200, 400],
        metadata: {filename: "mod.zip"}, onSuccess: () => resolve("done"), onError: error => reject(error),
    }).start();
})"""


@pytest.fixture(params=[Fault.CUT, Fault.RESET], ids=["cut", "reset"])
async def network(request: pytest.FixtureRequest, services: Services) -> AsyncIterator[Proxy]:
    """A proxy to the loader that treats three connections badly."""
    async with running_proxy(services.servers["loader"].port) as proxy:
        for after_bytes in (700_000, 1_500_000, 300_000):
            proxy.plan(request.param, after_bytes)
        yield proxy


def endpoint_of(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}/transfer/tus/"


def encoded(content: bytes) -> str:
    return b64encode(content).decode()


@pytest.fixture(scope="session")
def uppy(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One script of Uppy and its plugin, as a page loads it."""
    bundle = tmp_path_factory.mktemp("uppy") / "uppy.js"
    esbuild = node_modules / ".bin" / "esbuild"
    subprocess.run([esbuild, "uppy.js", "--bundle", "--log-level=error", f"--outfile={bundle}"], cwd=FOLDER, check=True)
    return bundle


def assert_arrived(services: Services, job_id: str, path: str) -> None:
    callbacks = services.manager.wait_for_callbacks(job_id)
    assert [callback.claims["status"] for callback in callbacks] == ["success"]
    assert entries_of((services.main_dir / path).read_bytes()) == ENTRIES


async def test_tus_js_client_in_a_page_of_another_origin(
    services: Services, network: Proxy, page: Page, node_modules: Path
) -> None:
    ticket = services.ticket()
    await page.add_script_tag(path=node_modules / "tus-js-client" / "dist" / "tus.min.js")
    assert await page.evaluate(IN_CHROMIUM, [endpoint_of(network), ticket.token, encoded(MOD)]) == "done"
    await asyncio.to_thread(assert_arrived, services, ticket.job_id, ticket.path)


async def test_uppy_in_a_page_of_another_origin(services: Services, network: Proxy, page: Page, uppy: Path) -> None:
    ticket = services.ticket()
    await page.add_script_tag(path=uppy)
    ended = await page.evaluate(
        """([endpoint, token, base64]) => uploadByUppy(
            endpoint, token, new Blob([Uint8Array.from(atob(base64), letter => letter.charCodeAt(0))]))""",
        [endpoint_of(network), ticket.token, encoded(MOD)],
    )
    assert ended == [1, 0]
    await asyncio.to_thread(assert_arrived, services, ticket.job_id, ticket.path)


async def test_tus_js_client_in_node(services: Services, network: Proxy, node_modules: Path, tmp_path: Path) -> None:
    ticket, file = services.ticket(), tmp_path / "mod.zip"
    file.write_bytes(MOD)
    node = shutil.which("node")
    assert node is not None, "make test-browser installs it"
    process = await asyncio.create_subprocess_exec(
        node, str(FOLDER / "upload.cjs"), str(file), endpoint_of(network), ticket.token, stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    await asyncio.to_thread(assert_arrived, services, ticket.job_id, ticket.path)


async def test_tuspy(services: Services, network: Proxy) -> None:
    ticket = services.ticket()

    def upload() -> None:
        client = TusClient(f"{endpoint_of(network)}?token={ticket.token}")
        stream = BytesIO(MOD)
        uploader = client.uploader(
            file_stream=stream, chunk_size=1 << 20, metadata={"filename": "mod.zip"}, retries=10, retry_delay=0.2
        )
        uploader.upload()

    await asyncio.to_thread(upload)
    await asyncio.to_thread(assert_arrived, services, ticket.job_id, ticket.path)
