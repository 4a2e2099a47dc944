"""The demo as a newcomer runs it, with a small file of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of
from tests.support.processes import descendants, is_running
from tests.support.servers import PROJECT, clean_environment

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
DEMO = [sys.executable, "-m", "tests.demo"]
ENVIRONMENT = clean_environment() | {"PYTHONPATH": "src"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small `.7z`."""
    path = tmp_path / "a mod.7z"
    path.write_bytes(seven_zip_of(SMALL_MOD))
    return path


@asynccontextmanager
async def running_demo(folder: Path, file: Path, *options: str) -> AsyncIterator[Process]:
    """Run the demo with a configuration and a storage root of its own."""
    demo = await asyncio.create_subprocess_exec(
        *DEMO,
        str(file),
        *options,
        cwd=PROJECT,
        env=ENVIRONMENT | {"OW_CONFIG": str(folder / "ow_config.py"), "MAIN_DIR": str(folder / "storage")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield demo
    finally:
        if demo.returncode is None:
            demo.send_signal(signal.SIGTERM)
            await demo.wait()


async def read_until(demo: Process, wanted: str) -> str:
    """Return what the demo prints, up to a line with this text."""
    assert demo.stdout is not None
    printed = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for line in demo.stdout:
            printed += line.decode()
            if wanted in line.decode():
                return printed
    raise AssertionError(f"the demo ended early:\n{printed}")


async def test_the_demo_sends_a_file_through_and_serves_it_until_ctrl_c(
    tmp_path: Path, source: Path, http: httpx.AsyncClient
) -> None:
    async with running_demo(tmp_path, source) as demo:
        printed = await read_until(demo, "Serving until Ctrl-C.")
        for shown in ("fresh secrets", "Upload", "Extraction", "Repacking", "Entries compared: 4"):
            assert shown in printed
        addresses = [word for word in printed.split() if word.startswith("http://")]
        (download,) = [address for address in addresses if address.endswith("/main.zip")]
        assert entries_of((await http.get(download)).content) == SMALL_MOD
        (stored,) = [word for word in printed.split() if word.startswith(str(tmp_path / "storage"))]
        assert entries_of(Path(stored).read_bytes()) == SMALL_MOD
        (console,) = [address for address in addresses if address.endswith("/loader/console")]
        assert "<title>Open Workshop Storage</title>" in (await http.get(console)).text
        token = printed.partition(console)[2].split()[0]
        status = await http.get(console.replace("console", "status"), headers={"Authorization": f"Bearer {token}"})
        assert [job["state"] for job in status.json()["jobs"]] == ["moved"]
        link = await http.post(addresses[-1], data={"kind": "img"})
        assert link.status_code == 303 and link.headers["location"].startswith(f"{console}#token=")
        for docs in ("/distributor/", "/loader/"):
            (address,) = [address for address in addresses if address.endswith(docs)]
            assert (await http.get(address)).status_code == 200

        started = descendants(demo.pid)
        assert len(started) >= 4, "both services with a worker each"
        demo.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await demo.wait() == 0
        assert not [pid for pid in started if is_running(pid)]


async def test_the_demo_over_an_object_store_has_hosts_that_share_no_folder(
    tmp_path: Path, source: Path, http: httpx.AsyncClient
) -> None:
    async with running_demo(tmp_path, source, "--storage", "s3") as demo:
        printed = await read_until(demo, "Serving until Ctrl-C.")
        assert printed.count("   loader      http") == 2
        (download,) = [word for word in printed.split() if word.startswith("http://") and word.endswith("/main.zip")]
        assert entries_of((await http.get(download)).content) == SMALL_MOD
        assert not (tmp_path / "storage" / "archive").exists()


async def test_the_demo_may_be_ended_at_any_time(tmp_path: Path, source: Path) -> None:
    async with running_demo(tmp_path, source) as demo:
        await read_until(demo, "loader      http")
        started = descendants(demo.pid)
        demo.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await demo.wait() == 0
        assert not [pid for pid in started if is_running(pid)]


def test_the_demo_says_so_when_there_is_no_such_file(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*DEMO, str(tmp_path / "missing.zip")], cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "There is no file" in ended.stderr and "make demo FILE=" in ended.stderr
