"""What becomes of received files, with a real `7z`."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from open_workshop_storage.core.changes import Packed
from open_workshop_storage.core.errors import (
    CorruptArchive,
    EncryptedArchive,
    ImageExpected,
    ServiceUnavailable,
    StoreRefuses,
)
from open_workshop_storage.core.job import Slot, Stage
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.staging import ObjectStaging, WorkspaceStaging
from open_workshop_storage.services.transfers import stages
from open_workshop_storage.utils.archives.zip_inspection import MOST_TESTED_BYTES
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, tar_of, zip_of
from tests.support.client import eventually
from tests.support.images import saved
from tests.support.jobs import job_in, new_job
from tests.support.transfers import PATIENCE_SECONDS, bench

pytestmark = pytest.mark.anyio

UPLOADED = job_in(Stage.UPLOADED)
UNPACKED_BYTES = sum(map(len, SMALL_MOD.values()))
IMAGE = {"transfer_kind": "img", "storage_type": "avatar"}


@pytest.mark.parametrize(
    ("content", "expected_stages"),
    [
        (zip_of(SMALL_MOD), ["uploaded", "packed"]),
        (zip_of(SMALL_MOD, 0), ["uploaded", "extracting", "repacking", "packed"]),
        (seven_zip_of(SMALL_MOD), ["uploaded", "extracting", "repacking", "packed"]),
        (tar_of(SMALL_MOD), ["uploaded", "extracting", "repacking", "packed"]),
        (b"a plain text", ["uploaded", "repacking", "packed"]),
    ],
    ids=["kept ZIP", "stored ZIP", "7z", "tar", "plain file"],
)
async def test_each_kind_of_file_goes_through_its_stages(
    tmp_path: Path, content: bytes, expected_stages: list[str]
) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.run_in(UPLOADED, content)
        listening = asyncio.create_task(parts.stages_of(UPLOADED.job_id))
        await asyncio.sleep(0)
        job = await parts.attempts.carry_out(run, parts.stages.prepare(run))
        assert await listening == expected_stages
        packed = parts.workspaces.folder(job.job_id) / str(job.packed_file)
        assert job.packed_bytes == packed.stat().st_size
        assert job.sha256 == sha256(packed.read_bytes()).hexdigest()
        expected = {"mod.zip": content} if content == b"a plain text" else SMALL_MOD
        assert entries_of(packed.read_bytes()) == expected
        assert job.unpacked_bytes == sum(map(len, expected.values()))
        await eventually(lambda: not (run.folder / "extracted").exists())


async def test_an_image_becomes_a_webp(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.run_in(new_job(IMAGE, stage=Stage.UPLOADED), saved(Image.new("RGB", (8, 8)), "PNG"))
        packed = await parts.stages.prepare(run)
        content = (run.folder / "packed.webp").read_bytes()
        assert packed == Packed("me/packed.webp", len(content), len(content), sha256(content).hexdigest())
        assert run.job.stage is Stage.PROCESSING


async def test_what_is_no_image_or_a_broken_archive_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(ImageExpected):
            await parts.stages.prepare(await parts.run_in(new_job(IMAGE, stage=Stage.UPLOADED), b"text"))
        with pytest.raises(CorruptArchive):
            await parts.stages.prepare(await parts.run_in(new_job(stage=Stage.UPLOADED), zip_of(SMALL_MOD)[:-30]))


async def test_a_received_file_is_named_by_the_record_once_the_disk_has_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.store.save(job_in(Stage.UPLOADING), None)
        run = parts.runs.begin_run(job)
        run.folder.mkdir(parents=True)
        source = run.folder / "source"
        source.write_bytes(zip_of(SMALL_MOD))
        await run.received(source, source.stat().st_size, is_on_disk=False)
        assert run.job.source_file is None
        await parts.stages.prepare(run)
        assert (await parts.job(job.job_id)).source_file == "me/source"


# More than is tested without `7z`, packed in less.
HALF_PACKABLE = random.Random(0).randbytes(MOST_TESTED_BYTES // 2 + 1).hex()


@pytest.mark.parametrize(
    "content", [zip_of({"main.txt": HALF_PACKABLE.encode()}), seven_zip_of(SMALL_MOD)], ids=["kept ZIP", "7z"]
)
async def test_all_that_7z_does_waits_for_a_slot_and_gives_it_back(tmp_path: Path, content: bytes) -> None:
    async with bench(tmp_path, transfer_repack_concurrency=1) as parts:
        run = await parts.run_in(UPLOADED, content)
        async with parts.runs.in_turn(Slot.REPACK, "another"):
            preparing = asyncio.create_task(parts.stages.prepare(run))
            await parts.until(Slot.REPACK, 1, 1)
            assert (await parts.job(UPLOADED.job_id)).stage is Stage.UPLOADED
        await preparing
        assert await parts.counts(Slot.REPACK) == (0, 0)


async def test_a_small_sound_zip_waits_for_no_slot(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_repack_concurrency=1) as parts:
        run = await parts.run_in(UPLOADED, zip_of(SMALL_MOD))
        async with parts.runs.in_turn(Slot.REPACK, "another"), asyncio.timeout(PATIENCE_SECONDS):
            assert (await parts.stages.prepare(run)).packed_file == run.within(run.source)
            assert await parts.counts(Slot.REPACK) == (1, 0)


async def test_images_wait_for_a_slot_of_their_own_and_give_it_back(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_repack_concurrency=1) as parts:
        run = await parts.run_in(new_job(IMAGE, stage=Stage.UPLOADED), saved(Image.new("RGB", (8, 8)), "PNG"))
        async with parts.runs.in_turn(Slot.REPACK, "an archive"), parts.runs.in_turn(Slot.IMAGE, "another"):
            preparing = asyncio.create_task(parts.stages.prepare(run))
            await parts.until(Slot.IMAGE, 1, 1)
            assert run.job.stage is Stage.UPLOADED
        await preparing
        assert await parts.counts(Slot.IMAGE) == (0, 0)


async def test_a_refused_file_gives_its_slot_back(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_repack_concurrency=1) as parts:
        with pytest.raises(CorruptArchive):
            await parts.stages.prepare(await parts.run_in(UPLOADED, zip_of(SMALL_MOD)[:-30]))
        assert await parts.counts(Slot.REPACK) == (0, 0)


async def test_an_encrypted_start_is_refused_of_archives_only(tmp_path: Path) -> None:
    encrypted = b"PK\x03\x04\x14\x00\x01\x00" + bytes(22)
    async with bench(tmp_path) as parts:
        with pytest.raises(EncryptedArchive):
            parts.stages.judge_start(await parts.run_in(UPLOADED, b""), encrypted)
        parts.stages.judge_start(await parts.run_in(new_job(IMAGE, stage=Stage.UPLOADED), b""), encrypted)


class AwayTwice(WorkspaceStaging):
    """Hands packed files on to a store that is away at first."""

    staged: tuple[str, str, Facts] | None = None
    times = 2

    async def stage(self, job_id: str, file: str, facts: Facts) -> None:
        if self.times:
            self.times -= 1
            raise ServiceUnavailable
        self.staged = job_id, file, facts


async def test_what_is_packed_waits_for_the_store_that_it_goes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_STORE_SECONDS", 0.01)
    async with bench(tmp_path) as parts:
        run = await parts.run_in(UPLOADED, zip_of(SMALL_MOD))
        parts.stages._staging = staging = AwayTwice(parts.files, parts.workspaces)
        job = await parts.attempts.carry_out(run, parts.stages.prepare(run))
        assert (job.stage, staging.times) == (Stage.PACKED, 0)
        assert staging.staged == (job.job_id, job.packed_file, Facts(UNPACKED_BYTES, job.sha256))


async def test_an_attempt_ends_if_the_store_refuses_what_is_packed(tmp_path: Path, bucket: Credentials) -> None:
    wrong = bucket._replace(key=bucket.key._replace(secret_access_key="wrong"))
    async with bench(tmp_path) as parts, aclosing(Bucket(wrong)) as refusing:
        run = await parts.run_in(UPLOADED, zip_of(SMALL_MOD))
        parts.stages._staging = ObjectStaging(refusing, parts.workspaces, "home")
        with pytest.raises(StoreRefuses):
            await parts.attempts.carry_out(run, parts.stages.prepare(run))
        job = await parts.job(run.job.job_id)
        assert (job.stage, job.reason) == (Stage.ERROR, "exception")
