"""What the scanner's verdicts do to transfers, with a real `clamd` and a real `7z`."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import jwt
import pytest
from PIL import Image

from open_workshop_storage.core.claims import TransferClaims, parse_claims
from open_workshop_storage.core.errors import (
    MalwareFound,
    PackedMissing,
    ScannerUnavailable,
    ServiceUnavailable,
    SourceMissing,
    UploadGone,
)
from open_workshop_storage.core.job import Inner, Resumable, Slot, Stage
from open_workshop_storage.services.intake import scan
from open_workshop_storage.services.intake.upload_bodies import UploadRequest
from open_workshop_storage.services.transfers.lifetime import HasLeft, never_leaves
from tests.archives import rars
from tests.support.archives import (
    SMALL_MOD,
    Entries,
    compressed_tar_of,
    entries_of,
    seven_zip_of,
    tar_of,
    zip_of,
)
from tests.support.clamd import MARKER, NAME, Clamd
from tests.support.client import eventually
from tests.support.images import saved
from tests.support.jobs import job_in
from tests.support.origins import reply, running_origin
from tests.support.transfers import Bench, bench, pieces

pytestmark = pytest.mark.anyio

JOB_ID = "job-scanned"
INFECTED: Entries = {**SMALL_MOD, "mod/evil.dll": b"text " * 1000 + MARKER}
CLEAN, MOD = zip_of(SMALL_MOD), seven_zip_of(SMALL_MOD)


def rar_of(entries: Entries) -> bytes:
    return rars.rar5(*(rars.file5(name.encode(), content) for name, content in entries.items()))


MAKERS: dict[str, Callable[[Entries], bytes]] = {
    "kept ZIP": zip_of,
    "kept ZIP, BZip2": partial(zip_of, method=zipfile.ZIP_BZIP2),
    "kept ZIP, LZMA": partial(zip_of, method=zipfile.ZIP_LZMA),
    "kept ZIP, Deflate64": lambda entries: seven_zip_of(entries, "-tzip", "-mm=Deflate64"),
    "kept ZIP, PPMd": lambda entries: seven_zip_of(entries, "-tzip", "-mm=PPMd"),
    "stored ZIP": partial(zip_of, method=zipfile.ZIP_STORED),
    "7z": seven_zip_of,
    "7z, BZip2": lambda entries: seven_zip_of(entries, "-m0=BZip2"),
    "RAR": rar_of,
    "tar": tar_of,
    "tar.gz": partial(compressed_tar_of, compression="gz"),
    "tar.bz2": partial(compressed_tar_of, compression="bz2"),
    "tar.xz": partial(compressed_tar_of, compression="xz"),
    "tar.zst": partial(compressed_tar_of, compression="zst"),
    "plain file": lambda entries: b"".join(entries.values()),
}


@pytest.fixture(autouse=True)
def is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_AGAIN_SECONDS", 0.02)


@asynccontextmanager
async def scanned(folder: Path, address: str, failure: str = "refuse") -> AsyncIterator[Bench]:
    async with bench(folder, clamd_address=address, scan_failure=failure, transfer_repack_concurrency=1) as parts:
        yield parts


def nowhere(folder: Path) -> str:
    return f"unix:{folder}/no-such-socket"


def reports(parts: Bench) -> list[dict[str, object]]:
    """Return the claims of all reports to the Manager."""
    tokens = [request.headers["authorization"].removeprefix("Bearer ") for request in parts.manager.requests]
    return [jwt.decode(token, options={"verify_signature": False}) for token in tokens]


@pytest.mark.parametrize("name", MAKERS)
async def test_malware_is_found_in_every_kind_of_archive_and_what_is_clean_is_let_through(
    name: str, clamd: Clamd, tmp_path: Path
) -> None:
    nested = SMALL_MOD | {"mod/inner.zip": zip_of({"deep.zip": zip_of(INFECTED)})}
    async with scanned(tmp_path, clamd.local) as parts:
        assert (await parts.upload(MAKERS[name](SMALL_MOD), job_id="job-clean-file")).stage is Stage.PACKED
        for job_id, entries in ((JOB_ID, INFECTED), (f"{JOB_ID}-nested", nested)):
            with pytest.raises(MalwareFound):
                await parts.upload(MAKERS[name](entries), job_id=job_id)
            job = await parts.job(job_id)
            assert (job.stage, job.message, job.reason, job.malware) == (Stage.ERROR, "Malware found", "malware", NAME)
            assert not parts.workspaces.folder(job_id).exists()
        await eventually(lambda: len(parts.manager.requests) == 3)
        clean, *infected = reports(parts)
        assert "malware" not in clean
        assert [(report["reason"], report["malware"]) for report in infected] == [("malware", NAME)] * 2


async def test_what_is_kept_is_served_as_it_came_and_its_copy_for_the_scanner_goes(
    clamd: Clamd, tmp_path: Path
) -> None:
    content = MAKERS["kept ZIP, LZMA"](SMALL_MOD)
    async with scanned(tmp_path, clamd.local) as parts:
        job = await parts.upload(content, job_id=JOB_ID)
        packed = parts.workspaces.folder(JOB_ID) / str(job.packed_file)
        assert packed.read_bytes() == content
        await eventually(lambda: not packed.with_name("packed.zip").exists())


async def test_an_image_is_not_scanned(tmp_path: Path) -> None:
    async with scanned(tmp_path, nowhere(tmp_path)) as parts:
        claims = {"job_id": JOB_ID, "transfer_kind": "img", "storage_type": "avatar"}
        assert (await parts.upload(saved(Image.new("RGB", (8, 8)), "PNG"), **claims)).stage is Stage.PACKED


async def test_a_scan_takes_no_slot(tmp_path: Path) -> None:
    async with scanned(tmp_path, nowhere(tmp_path), "wait") as parts:
        waiting = [asyncio.create_task(parts.upload(MOD, job_id=f"{JOB_ID}-{number}")) for number in range(3)]

        async def all_wait() -> None:
            for number in range(3):
                job = await parts.store.get(f"{JOB_ID}-{number}")
                while job is None or job.scanner_away_since is None:
                    await asyncio.sleep(0.01)
                    job = await parts.store.get(f"{JOB_ID}-{number}")
                assert job.stage is Stage.REPACKING

        await asyncio.wait_for(all_wait(), 20)
        assert await parts.counts(Slot.REPACK) == (0, 0)
        for task in waiting:
            task.cancel()
        await parts.runs.stop(0)


@pytest.mark.parametrize("content", [CLEAN, MOD], ids=["kept ZIP", "7z"])
async def test_an_upload_that_cannot_be_judged_may_begin_again_and_is_not_reported(
    content: bytes, clamd: Clamd, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    async with scanned(tmp_path, f"unix:{socket}") as parts:
        with pytest.raises(ScannerUnavailable):
            await parts.upload(content, job_id=JOB_ID)
        job = await parts.job(JOB_ID)
        assert (job.message, job.may_begin_again) == ("Scanner unavailable", True)
        assert not parts.workspaces.folder(JOB_ID).exists()
        assert await parts.store.outbox.pending() == (0, 0)
        socket.symlink_to(clamd.local.removeprefix("unix:"))
        job = await parts.upload(content, job_id=JOB_ID)
        assert (job.stage, job.attempt) == (Stage.PACKED, 2)
        assert [report["status"] for report in reports(parts)] == ["success"]


async def test_a_fetch_that_cannot_be_judged_ends_and_is_reported(tmp_path: Path) -> None:
    async with running_origin(reply(200, body=CLEAN)) as origin, scanned(tmp_path, nowhere(tmp_path)) as parts:
        await parts.transfers.start(parse_claims({"job_id": JOB_ID, "download_url": f"{origin.url}/mod.zip"}))
        job = await parts.taken("me")
        await parts.transfers.resume(job)
        await eventually(lambda: parts.manager.requests)
        assert [report["reason"] for report in reports(parts)] == ["exception"]
        assert (await parts.job(JOB_ID)).message == "Scanner unavailable"


async def test_an_upload_that_a_worker_took_over_is_reported_since_no_client_hears_its_end(tmp_path: Path) -> None:
    async with scanned(tmp_path, nowhere(tmp_path)) as parts:
        run = await parts.run_in(job_in(Stage.UPLOADED), CLEAN)
        parts.runs.release(run)
        await parts.transfers.resume(run.job)
        await eventually(lambda: parts.manager.requests)
        assert [report["reason"] for report in reports(parts)] == ["exception"]


async def test_what_cannot_be_judged_may_pass(tmp_path: Path) -> None:
    async with scanned(tmp_path, nowhere(tmp_path), "pass") as parts:
        assert (await parts.upload(MOD, job_id=JOB_ID)).stage is Stage.PACKED


async def test_a_wait_goes_on_with_the_next_worker_and_ends_by_the_time_of_its_beginning(
    clamd: Clamd, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    async with scanned(tmp_path, f"unix:{socket}", "wait") as parts:
        uploading = asyncio.create_task(parts.upload(MOD, job_id=JOB_ID))
        while (held := await parts.store.get(JOB_ID)) is None or held.scanner_away_since is None:
            await asyncio.sleep(0.01)
        began = held.scanner_away_since
        await parts.runs.stop(0)
        with pytest.raises(ServiceUnavailable):
            await uploading
        job = await parts.taken("another")
        resuming = asyncio.create_task(parts.transfers.resume(job))
        await parts.until(Slot.REPACK, 0, 0)
        assert (await parts.job(JOB_ID)).scanner_away_since == began
        socket.symlink_to(clamd.local.removeprefix("unix:"))
        await resuming
        assert (await parts.job(JOB_ID)).stage is Stage.PACKED


async def begin(parts: Bench, length: int) -> None:
    claims = TransferClaims(job_id=JOB_ID)
    await parts.resumable.create(claims, "mod.zip", length, Resumable(), is_expired=False)


async def send(parts: Bench, offset: int, content: bytes, has_left: HasLeft = never_leaves) -> Stage:
    request = UploadRequest(offset, len(content))
    return (await parts.resumable.append(JOB_ID, request, pieces(content), has_left)).stage


@pytest.mark.parametrize(
    ("content", "cut"), [(CLEAN, 50), (MOD, 0), (b"x", 0), (b"", 0)], ids=["kept ZIP", "7z", "one byte", "empty"]
)
async def test_a_resumable_upload_that_cannot_be_judged_has_its_last_byte_sent_again(
    content: bytes, cut: int, clamd: Clamd, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    async with scanned(tmp_path, f"unix:{socket}") as parts:
        await begin(parts, len(content))
        if cut:
            await send(parts, 0, content[:cut])
        for _ in range(2):
            with pytest.raises(ScannerUnavailable):
                await send(parts, cut, content[cut:])
            job = await parts.resumable.find(JOB_ID)
            cut = max(len(content) - 1, 0)
            assert (job.state, job.bytes, job.total) == (Inner.PAUSED, cut, len(content))
            assert not list(parts.workspaces.folder(JOB_ID).glob("*/packed.zip"))
        assert parts.manager.requests == []
        socket.symlink_to(clamd.local.removeprefix("unix:"))
        assert await send(parts, cut, content[cut:]) is Stage.PACKED
        job = await parts.job(JOB_ID)
        packed = (parts.workspaces.folder(JOB_ID) / str(job.packed_file)).read_bytes()
        assert entries_of(packed) == (SMALL_MOD if len(content) > 1 else {"mod.zip": content})


@pytest.mark.parametrize("is_resumable", [False, True], ids=["in one request", "in several"])
async def test_an_upload_whose_client_has_left_is_reported(is_resumable: bool, tmp_path: Path) -> None:
    async def has_left() -> bool:
        return True

    async with scanned(tmp_path, nowhere(tmp_path)) as parts:
        with pytest.raises(ScannerUnavailable):
            if is_resumable:
                await begin(parts, len(CLEAN))
                await send(parts, 0, CLEAN, has_left)
            else:
                claims = TransferClaims(job_id=JOB_ID)
                await parts.transfers.upload(claims, pieces(CLEAN), "mod.zip", None, has_left=has_left)
        await eventually(lambda: parts.manager.requests)
        assert [report["reason"] for report in reports(parts)] == ["exception"]
        assert (await parts.job(JOB_ID)).stage is Stage.ERROR


async def test_a_resumable_upload_with_malware_is_gone(clamd: Clamd, tmp_path: Path) -> None:
    content = zip_of(INFECTED)
    async with scanned(tmp_path, clamd.local) as parts:
        await begin(parts, len(content))
        await send(parts, 0, content[:50])
        with pytest.raises(MalwareFound):
            await send(parts, 50, content[50:])
        with pytest.raises(UploadGone):
            await parts.resumable.find(JOB_ID)


async def test_a_repack_is_scanned_and_malware_that_is_known_since_leaves_nothing_to_move(
    clamd: Clamd, tmp_path: Path
) -> None:
    async with scanned(tmp_path, nowhere(tmp_path), "pass") as parts:
        await parts.upload(zip_of(INFECTED), job_id=JOB_ID)
    async with bench(tmp_path, store=parts.store, clamd_address=clamd.local) as parts:
        with pytest.raises(MalwareFound):
            await parts.repacks.repack(JOB_ID, 9)
        assert not parts.workspaces.folder(JOB_ID).exists()
        with pytest.raises(PackedMissing):
            await parts.moves.move(JOB_ID, "archive", "mods/7/main.zip")
        with pytest.raises(SourceMissing):
            await parts.repacks.repack(JOB_ID, 9)


async def test_a_repack_that_cannot_be_judged_changes_nothing(clamd: Clamd, tmp_path: Path) -> None:
    async with scanned(tmp_path, clamd.local) as parts:
        job = await parts.upload(CLEAN, job_id=JOB_ID)
    async with bench(tmp_path, store=parts.store, clamd_address=nowhere(tmp_path)) as parts:
        with pytest.raises(ScannerUnavailable):
            await parts.repacks.repack(JOB_ID, 9)
        assert await parts.job(JOB_ID) == job
        await parts.moves.move(JOB_ID, "archive", "mods/7/main.zip")
