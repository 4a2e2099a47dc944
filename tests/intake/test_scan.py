"""What becomes of files that the scanner judges, and of those that it cannot judge."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import MalwareFound, ScannerUnavailable
from open_workshop_storage.services.intake import scan
from open_workshop_storage.services.intake.scan import Scanner
from tests.support.clamd import MARKER, MOST_BYTES, NAME, Clamd
from tests.support.client import eventually
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio

LOG = logging.getLogger("scan-tests")


@pytest.fixture(autouse=True)
def is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_AGAIN_SECONDS", 0.02)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"harmless")
    return path


def scanner(root: Path, address: str, **settings: object) -> Scanner:
    return Scanner(make_settings(root, Secrets(), clamd_address=address, **settings))


def nowhere(root: Path) -> str:
    return f"unix:{root}/no-such-socket"


@pytest.mark.parametrize("failure", ["refuse", "pass", "wait"])
async def test_malware_is_refused_by_its_name_and_what_is_clean_is_not(
    failure: str, clamd: Clamd, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge = scanner(tmp_path, clamd.local, scan_failure=failure)
    await judge.require_clean(file, LOG)
    file.write_bytes(b"x" * 1000 + MARKER)
    with pytest.raises(MalwareFound) as found:
        await judge.require_clean(file, LOG)
    assert found.value.name == NAME
    assert f"malware found: {NAME}" in caplog.text


async def test_without_a_scanner_nothing_is_asked(file: Path, tmp_path: Path) -> None:
    file.unlink()
    await scanner(tmp_path, "").require_clean(file, LOG)


async def test_what_cannot_be_judged_is_refused_unless_it_may_pass(
    clamd: Clamd, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(bytes(MOST_BYTES + 1))
    for failure, address in (("refuse", nowhere(tmp_path)), ("refuse", clamd.local), ("wait", clamd.local)):
        with pytest.raises(ScannerUnavailable):
            await scanner(tmp_path, address, scan_failure=failure).require_clean(file, LOG)
    caplog.clear()
    for address in (nowhere(tmp_path), clamd.local):
        await scanner(tmp_path, address, scan_failure="pass").require_clean(file, LOG)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "passed without a scan (away)",
        "passed without a scan (limit)",
    ]


@pytest.mark.parametrize(("content", "error"), [(b"harmless", None), (MARKER, MalwareFound)])
async def test_a_scanner_that_is_away_is_waited_for(
    content: bytes, error: type[Exception] | None, clamd: Clamd, file: Path, tmp_path: Path
) -> None:
    file.write_bytes(content)
    address = tmp_path / "s"
    waiting = asyncio.create_task(scanner(tmp_path, f"unix:{address}", scan_failure="wait").require_clean(file, LOG))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    address.symlink_to(clamd.local.removeprefix("unix:"))
    await asyncio.wait([waiting])
    assert type(waiting.exception()) is (error or type(None))


async def test_the_wait_ends_by_its_time_also_if_it_began_elsewhere(file: Path, tmp_path: Path) -> None:
    async def an_hour_ago() -> float:
        return time.time() - 3600

    with pytest.raises(ScannerUnavailable):
        await scanner(tmp_path, nowhere(tmp_path), scan_failure="wait", scan_wait_seconds=0.1).require_clean(file, LOG)
    with pytest.raises(ScannerUnavailable):
        await scanner(tmp_path, nowhere(tmp_path), scan_failure="wait").require_clean(file, LOG, an_hour_ago)


async def test_a_scanner_that_hangs_is_not_waited_for(clamd: Clamd, file: Path, tmp_path: Path) -> None:
    judge = scanner(tmp_path, clamd.local, scan_failure="wait", scan_timeout_seconds=0.2)
    with clamd.frozen(), pytest.raises(ScannerUnavailable):
        await judge.require_clean(file, LOG)


async def test_a_file_on_which_the_scanner_breaks_off_again_and_again_is_refused(file: Path, tmp_path: Path) -> None:
    asked = 0

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    async with await asyncio.start_unix_server(break_off, tmp_path / "s"):
        with pytest.raises(ScannerUnavailable):
            await scanner(tmp_path, f"unix:{tmp_path}/s", scan_failure="wait").require_clean(file, LOG)
    assert asked == 3


async def test_a_wait_can_be_cancelled(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    waiting = asyncio.create_task(scanner(tmp_path, nowhere(tmp_path), scan_failure="wait").require_clean(file, LOG))
    await eventually(lambda: "waiting for the scanner (away)" in caplog.text)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
