"""Uploads and URL transfers from their beginning to their end, in one process."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio import StreamWriter
from collections.abc import AsyncIterator
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import (
    BadRequest,
    ClientGone,
    CorruptArchive,
    DigestDiffers,
    FileTooLarge,
    ServiceUnavailable,
    StorageBusy,
    StorageError,
    UploadFailed,
    UploadFinished,
    UploadInProgress,
    UploadNotAccepted,
    UploadTimedOut,
)
from open_workshop_storage.core.job import Inner, Slot, Stage
from open_workshop_storage.services.intake import fetch
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, tar_of, zip_of
from tests.support.client import eventually
from tests.support.digests import field_of
from tests.support.images import saved
from tests.support.jobs import job_in, new_job
from tests.support.origins import Request, reply, running_origin
from tests.support.transfers import Bench, bench, pieces

pytestmark = pytest.mark.anyio

JOB_ID = "job-12345678"
IMAGE: dict[str, object] = {"transfer_kind": "img", "storage_type": "avatar"}
MOD = zip_of(SMALL_MOD)
LARGE = os.urandom(1_500_000)


async def waiting_body(go_on: asyncio.Event, error: Exception | None = None) -> AsyncIterator[bytes]:
    yield MOD[:100]
    await go_on.wait()
    if error is not None:
        raise error
    yield MOD[100:]


async def test_an_upload_is_packed_and_reported_before_it_is_answered(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.upload(MOD, job_id=JOB_ID)
        assert (job.stage, job.bytes, job.total, job.owner) == (Stage.PACKED, len(MOD), len(MOD), None)
        assert job.packed_file is not None
        assert entries_of((parts.workspaces.folder(JOB_ID) / job.packed_file).read_bytes()) == SMALL_MOD
        assert len(parts.manager.requests) == 1
        assert await parts.store.outbox.pending() == (0, 0)
        assert await parts.store.get(JOB_ID) == job


async def test_a_transfer_from_a_url_is_fetched_packed_and_reported(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=tar_of(SMALL_MOD))) as origin:
        claims = parse_claims({"job_id": JOB_ID, "download_url": f"{origin.url}/mod.tar"})
        assert await parts.transfers.start(claims) == "started"
        assert await parts.transfers.start(claims) == "pending"
        job = await parts.taken("me")
        resuming = asyncio.create_task(parts.transfers.resume(job))
        heard = await parts.stages_of(JOB_ID)
        await resuming
        assert heard == ["pending", "downloading", "downloaded", "extracting", "repacking", "packed"]
        ended = await parts.job(JOB_ID)
        assert (ended.file_name, ended.owner) == ("mod.tar", None)
        assert len(origin.requests) == len(parts.manager.requests) == 1


async def test_an_origin_that_asks_to_come_later_holds_no_slot_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_LEAST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(fetch, "_MAX_RETRIES", 1000)
    asked_again = asyncio.Event()

    async def busy(request: Request, writer: StreamWriter) -> bytes:
        if asked_again.is_set():
            return reply(200, body=MOD)
        return reply(429, "Retry-After: 0")

    async with (
        bench(tmp_path, transfer_download_concurrency=1) as parts,
        running_origin(busy) as throttled,
        running_origin(reply(200, body=MOD)) as origin,
    ):
        for job_id, url in ((JOB_ID, throttled.url), ("job-of-another", origin.url)):
            await parts.transfers.start(parse_claims({"job_id": job_id, "download_url": f"{url}/mod.zip"}))
        waiting = asyncio.create_task(parts.transfers.resume(await parts.taken("me")))
        await eventually(lambda: throttled.requests)
        other = await parts.taken("another")
        await parts.transfers.resume(other)
        assert (await parts.job(other.job_id)).stage is Stage.PACKED
        assert (await parts.job(JOB_ID)).stage is Stage.DOWNLOADING
        asked_again.set()
        await waiting
        assert (await parts.job(JOB_ID)).stage is Stage.PACKED


@pytest.mark.parametrize("first", [b"x", LARGE], ids=["slow", "fast enough"])
async def test_all_attempts_at_a_job_share_the_minute_for_slow_senders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr("open_workshop_storage.services.intake.receive._FIRST_SECONDS", 0.1)

    async def body(content: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
        yield content
        await asyncio.sleep(0.2)
        if error is not None:
            raise error

    async with bench(tmp_path) as parts:
        is_slow = first is not LARGE
        with pytest.raises(ClientGone):
            await parts.upload(body(first, ClientGone()), job_id=JOB_ID)
        with pytest.raises(UploadTimedOut) if is_slow else nullcontext():
            await parts.upload(MOD if is_slow else body(MOD), job_id=JOB_ID)
        assert (await parts.job(JOB_ID)).attempt == 2


@pytest.mark.parametrize("url", [None, "", "ftp://127.0.0.1/mod.zip"])
async def test_a_transfer_without_a_url_that_can_be_fetched_does_not_begin(tmp_path: Path, url: str | None) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(BadRequest):
            await parts.transfers.start(parse_claims({"job_id": JOB_ID, "download_url": url}))
        assert await parts.store.get(JOB_ID) is None


async def test_a_refused_upload_ends_its_attempt_and_may_be_sent_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(StorageError) as refusal:
            await parts.upload(MOD[:-30], job_id=JOB_ID)
        failed = await parts.job(JOB_ID)
        assert (failed.stage, failed.message) == (Stage.ERROR, refusal.value.message) == ("error", "Corrupt archive")
        assert not parts.workspaces.folder(JOB_ID).exists()
        again = await parts.upload(MOD, job_id=JOB_ID)
        assert (again.stage, again.attempt) == (Stage.PACKED, 2)
        await eventually(lambda: len(parts.manager.requests) == 2)


async def test_a_new_attempt_withdraws_the_undelivered_report_of_the_one_before(tmp_path: Path) -> None:
    async with bench(tmp_path, reply(503)) as parts:
        with pytest.raises(CorruptArchive):
            await parts.upload(MOD[:-30], job_id=JOB_ID)
        await eventually(lambda: parts.manager.requests)
        await parts.upload(MOD, job_id=JOB_ID)
        assert (await parts.store.outbox.pending())[0] == 1
        assert await parts.store.outbox.contains(callback_of(await parts.job(JOB_ID)).jti)


@pytest.mark.parametrize("status", [400, 403, 302, 409])
async def test_a_file_that_the_manager_does_not_want_is_not_answered_as_a_success(tmp_path: Path, status: int) -> None:
    async with bench(tmp_path, reply(status)) as parts:
        with pytest.raises(UploadNotAccepted):
            await parts.upload(MOD, job_id=JOB_ID)
        assert (await parts.job(JOB_ID)).stage is Stage.PACKED


@pytest.mark.parametrize("status", [200, 409])
async def test_a_file_that_the_manager_had_moved_is_answered_as_a_success(tmp_path: Path, status: int) -> None:
    async def move(request: Request, writer: asyncio.StreamWriter) -> bytes:
        await parts.moves.move(JOB_ID, "archive", "mods/7/main.zip")
        return reply(status)

    async with bench(tmp_path, move) as parts:
        assert (await parts.upload(MOD, job_id=JOB_ID)).job_id == JOB_ID


@pytest.mark.parametrize("status", [200, 503])
async def test_a_report_that_comes_again_does_not_keep_a_success_from_the_client(tmp_path: Path, status: int) -> None:
    async with bench(tmp_path, reply(status)) as parts:
        assert (await parts.upload(MOD, job_id=JOB_ID)).stage is Stage.PACKED


async def test_fewer_bytes_than_announced_are_an_interrupted_upload(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(ClientGone, match="Upload interrupted"):
            await parts.transfers.upload(parse_claims({"job_id": JOB_ID}), pieces(MOD), "mod.zip", len(MOD) + 1)
        assert (await parts.job(JOB_ID)).reason == "exception"


@pytest.mark.parametrize("content", [MOD, seven_zip_of(SMALL_MOD), b"text"], ids=["kept ZIP", "7z", "plain file"])
@pytest.mark.parametrize("named", [["repr"], ["content"], ["repr", "content"]], ids=str)
async def test_a_file_with_the_digest_that_was_said_is_packed(tmp_path: Path, content: bytes, named: list[str]) -> None:
    async with bench(tmp_path) as parts:
        digests = [field_of(content) for _ in named]
        job = await parts.transfers.upload(parse_claims({"job_id": JOB_ID}), pieces(content), "a", None, digests)
        assert job.stage is Stage.PACKED


@pytest.mark.parametrize("sent", [MOD, b"broken " + MOD, LARGE], ids=["sound", "broken", "of many blocks"])
async def test_a_file_with_another_digest_ends_the_attempt_before_anything_is_done_with_it(
    tmp_path: Path, sent: bytes
) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(DigestDiffers, match="Digest mismatch"):
            claims = parse_claims({"job_id": JOB_ID})
            await parts.transfers.upload(claims, pieces(sent), "a", len(sent), [field_of(sent + b".")])
        job = await parts.job(JOB_ID)
        assert (job.stage, job.reason, job.source_file) == (Stage.ERROR, "exception", None)
        await eventually(lambda: parts.manager.requests)
        assert await parts.counts(Slot.UPLOAD) == (0, 0)


@pytest.mark.parametrize("fields", [["sha-256=7"], ["nonsense=="], [field_of(MOD), field_of(b"")]])
async def test_digests_that_cannot_be_read_end_the_attempt(tmp_path: Path, fields: list[str]) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(BadRequest, match="Malformed digest"):
            await parts.transfers.upload(parse_claims({"job_id": JOB_ID}), pieces(MOD), "a", None, fields)
        assert (await parts.job(JOB_ID)).reason == "exception"
        await eventually(lambda: parts.manager.requests)


async def test_a_run_that_takes_a_received_zip_over_reads_its_digest(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.run_in(job_in(Stage.UPLOADED), MOD)
        assert (await parts.stages.prepare(run)).sha256 == sha256(MOD).hexdigest()


@pytest.mark.parametrize(
    ("claims", "is_too_large"),
    [
        ({}, False),
        (IMAGE, True),
        (IMAGE | {"max_bytes": 100_000}, False),
        (IMAGE | {"max_bytes": 0}, False),
        ({"max_bytes": 1000}, True),
    ],
)
async def test_an_image_has_a_limit_of_its_own(tmp_path: Path, claims: dict[str, object], is_too_large: bool) -> None:
    async with bench(tmp_path, transfer_max_image_bytes=1000, transfer_max_bytes=100_000) as parts:
        with pytest.raises(StorageError) if is_too_large or "storage_type" in claims else nullcontext() as refusal:
            await parts.upload(MOD, job_id=JOB_ID, **claims)
        assert isinstance(refusal and refusal.value, FileTooLarge) is is_too_large


async def test_a_client_that_leaves_ends_its_attempt_and_frees_its_slot(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_upload_concurrency=1) as parts:
        go_on = asyncio.Event()
        uploading = asyncio.create_task(parts.upload(waiting_body(go_on, ClientGone()), job_id=JOB_ID))
        await parts.until(Slot.UPLOAD, 1, 0)
        go_on.set()
        with pytest.raises(ClientGone):
            await uploading
        assert await parts.counts(Slot.UPLOAD) == (0, 0)
        assert (await parts.job(JOB_ID)).reason == "exception"


async def test_an_upload_goes_on_when_its_request_is_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        go_on = asyncio.Event()
        uploading = asyncio.create_task(parts.upload(waiting_body(go_on), job_id=JOB_ID))
        await parts.until(Slot.UPLOAD, 1, 0)
        uploading.cancel()
        await asyncio.wait([uploading])
        go_on.set()
        await eventually(lambda: parts.manager.requests)
        assert (await parts.job(JOB_ID)).stage is Stage.PACKED


async def test_a_second_upload_of_a_job_is_refused_while_the_first_runs_and_after_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        go_on = asyncio.Event()
        uploading = asyncio.create_task(parts.upload(waiting_body(go_on), job_id=JOB_ID))
        await parts.until(Slot.UPLOAD, 1, 0)
        with pytest.raises(UploadInProgress):
            await parts.upload(MOD, job_id=JOB_ID)
        go_on.set()
        await uploading
        with pytest.raises(UploadFinished):
            await parts.upload(MOD, job_id=JOB_ID)
        assert len(parts.manager.requests) == 1


async def test_of_two_uploads_that_begin_at_once_one_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        sending = [parts.upload(MOD, job_id=JOB_ID) for _ in range(2)]
        first, second = await asyncio.gather(*sending, return_exceptions=True)
        assert {type(first), type(second)} > {UploadInProgress}
        assert (await parts.job(JOB_ID)).attempt == 1


async def test_an_upload_for_which_no_slot_is_free_leaves_no_job(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_upload_concurrency=1) as parts:
        async with parts.runs.in_turn(Slot.UPLOAD, "another"):
            with pytest.raises(StorageBusy):
                await parts.upload(MOD, job_id=JOB_ID)
        assert await parts.store.get(JOB_ID) is None
        assert (await parts.upload(MOD, job_id=JOB_ID)).stage is Stage.PACKED


async def test_a_worker_that_is_about_to_go_takes_no_upload(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        parts.lifetime.stopping.set()
        with pytest.raises(ServiceUnavailable):
            await parts.upload(MOD, job_id=JOB_ID)
        assert await parts.store.get(JOB_ID) is None


async def left_in(parts: Bench, stage: Stage, **values: object) -> str:
    """Store a job as a worker leaves it that dies, and return its id."""
    job = new_job(stage=stage, **values)
    folder = parts.workspaces.folder(job.job_id) / "dead"
    folder.mkdir(parents=True)
    (folder / "source").write_bytes(seven_zip_of(SMALL_MOD))
    await parts.store.save(job.model_copy(update={"owner": "dead"}), None)
    return job.job_id


@pytest.mark.parametrize("stage", [Stage.UPLOADED, Stage.EXTRACTING, Stage.REPACKING])
async def test_a_received_file_is_packed_by_the_worker_that_takes_its_job_over(tmp_path: Path, stage: Stage) -> None:
    async with bench(tmp_path) as parts:
        job_id = await left_in(parts, stage, source_file="dead/source")
        job = (await parts.job(job_id)).model_copy(update={"owner": "me"})
        await parts.transfers.resume(await parts.store.save(job, None))
        ended = await parts.job(job_id)
        assert (ended.stage, ended.packed_file) == (Stage.PACKED, "me/packed.zip")
        await eventually(lambda: parts.manager.requests)


async def test_a_received_file_that_another_host_had_is_fetched_again_or_its_upload_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=MOD)) as origin:
        for values, ended_at in (
            ({"origin": "upload"}, Stage.ERROR),
            ({"origin": "url", "partial_file": "dead/source", "validator": '"v1"'}, Stage.PACKED),
        ):
            job = new_job({"download_url": f"{origin.url}/mod"}, stage=Stage.EXTRACTING, owner="me", **values)
            job = job.model_copy(update={"source_file": "dead/source"})
            await parts.transfers.resume(await parts.store.save(job, None))
            assert (await parts.job(job.job_id)).stage is ended_at
        assert len(origin.requests) == 1


async def test_an_image_is_normalised_again_by_the_worker_that_takes_its_job_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = new_job({"transfer_kind": "img", "storage_type": "avatar"}, stage=Stage.PROCESSING)
        folder = parts.workspaces.folder(job.job_id) / "dead"
        folder.mkdir(parents=True)
        (folder / "source").write_bytes(saved(Image.new("RGB", (8, 8)), "PNG"))
        job = job.model_copy(update={"owner": "me", "source_file": "dead/source"})
        await parts.transfers.resume(await parts.store.save(job, None))
        assert (await parts.job(job.job_id)).packed_file == "me/packed.webp"


@pytest.mark.parametrize("stage", [Stage.UPLOADING, Stage.UPLOADED])
async def test_an_upload_whose_worker_died_before_the_file_was_on_the_disk_ends(tmp_path: Path, stage: Stage) -> None:
    async with bench(tmp_path) as parts:
        job_id = await left_in(parts, stage)
        await parts.transfers.resume(await parts.job(job_id))
        ended = await parts.job(job_id)
        assert (ended.stage, ended.message, ended.reason) == (Stage.ERROR, UploadFailed.message, "exception")


@pytest.mark.parametrize("stage", [Stage.PENDING, Stage.DOWNLOADING, Stage.DOWNLOADED, Stage.EXTRACTING])
async def test_a_file_that_may_not_be_on_the_disk_is_fetched_again(tmp_path: Path, stage: Stage) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=MOD)) as origin:
        job_id = await left_in(parts, stage, origin="url")
        claims = parse_claims({"job_id": job_id, "download_url": f"{origin.url}/mod.zip"})
        job = (await parts.job(job_id)).model_copy(update={"claims": claims, "owner": "me"})
        await parts.transfers.resume(await parts.store.save(job, None))
        assert (await parts.job(job_id)).stage is Stage.PACKED
        assert len(origin.requests) == 1


async def test_a_fetch_is_continued_from_a_copy_of_what_the_dead_worker_left(tmp_path: Path) -> None:
    partial = reply(206, 'ETag: "1"', f"Content-Range: bytes 100-{len(MOD) - 1}/{len(MOD)}", body=MOD[100:])
    async with bench(tmp_path) as parts, running_origin(partial) as origin:
        url = f"{origin.url}/mod.zip"
        job = new_job({"download_url": url}, origin="url", stage=Stage.DOWNLOADING, owner="me", total=len(MOD))
        job = job.model_copy(update={"partial_file": "dead/source", "validator": '"1"', "bytes": 100})
        folder = parts.workspaces.folder(job.job_id) / "dead"
        folder.mkdir(parents=True)
        (folder / "source").write_bytes(MOD[:100])
        await parts.transfers.resume(await parts.store.save(job, None))
        ended = await parts.job(job.job_id)
        assert (ended.stage, ended.bytes) == (Stage.PACKED, len(MOD))
        assert origin.requests[0].headers["range"] == "bytes=100-"
        assert (parts.workspaces.folder(job.job_id) / str(ended.packed_file)).read_bytes() == MOD


async def test_a_job_that_lost_too_many_owners_is_not_tried_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=MOD)) as origin:
        job = new_job({"download_url": f"{origin.url}/mod.zip"}, origin="url", owner="me", lost_owners=11)
        await parts.transfers.resume(await parts.store.save(job, None))
        assert (await parts.job(job.job_id)).stage is Stage.ERROR
        assert origin.requests == []


@pytest.mark.parametrize("origin", ["upload", "url"])
@pytest.mark.parametrize("stage", [Stage.DOWNLOADED, Stage.EXTRACTING, Stage.REPACKING])
async def test_a_file_that_ends_two_workers_ends_its_job(tmp_path: Path, origin: str, stage: Stage) -> None:
    async with bench(tmp_path) as parts:
        received = {"origin": origin, "source_file": "dead/source", "lost_receivers": 3}
        once = await left_in(parts, stage, **received, lost_owners=4)
        twice = await left_in(parts, stage, **received, lost_owners=5)
        for job_id in (once, twice):
            await parts.transfers.resume(await parts.job(job_id))
        assert (await parts.job(once)).stage is Stage.PACKED
        ended = await parts.job(twice)
        assert (ended.stage, ended.reason) == (Stage.ERROR, "exception")
        await eventually(lambda: len(parts.manager.requests) == 2)


async def test_workers_lost_over_the_whole_file_count_from_its_first_arrival(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=MOD)) as origin:
        job = new_job({"download_url": f"{origin.url}/mod.zip"}, origin="url", owner="me", lost_owners=3)
        await parts.transfers.resume(await parts.store.save(job, None))
        assert (await parts.job(job.job_id)).lost_receivers == 3
        again = job.model_copy(update={"lost_owners": 4, "lost_receivers": 3, "job_id": "job-fetched-again"})
        await parts.transfers.resume(await parts.store.save(again, None))
        assert (await parts.job(again.job_id)).lost_receivers == 3


async def test_a_token_for_a_url_transfer_uploads_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(BadRequest, match="Token is for a URL transfer"):
            await parts.upload(MOD, job_id=JOB_ID, download_url="http://127.0.0.1/mod.zip")
        assert await parts.store.get(JOB_ID) is None
        assert await parts.store.outbox.pending() == (0, 0)


async def test_a_forgotten_job_answers_its_token_as_it_ended(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        expiry = time.time() + 60
        url = parse_claims({"job_id": JOB_ID, "download_url": "http://127.0.0.1:9/mod.zip"}, expiry)
        sent = parse_claims({"job_id": "job-uploaded"}, expiry)
        await parts.transfers.start(url)
        job = await parts.taken("me")
        await parts.transfers.resume(job)
        await parts.store.remove(await parts.job(JOB_ID))
        assert await parts.transfers.start(url) == "error"
        await parts.store.remove(await parts.transfers.upload(sent, pieces(MOD), "mod.zip", None))
        with pytest.raises(UploadFinished):
            await parts.transfers.upload(sent, pieces(MOD), "mod.zip", None)


async def test_a_paused_upload_is_in_progress_to_other_uploads(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        paused = await parts.store.save(job_in(Inner.PAUSED), None)
        with pytest.raises(UploadInProgress):
            await parts.transfers.upload(paused.claims, pieces(MOD), "mod.zip", None)
        assert await parts.store.get(paused.job_id) == paused
