"""Packed files in a bucket, between the host that made them and their places."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import FileMissing
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.objects import ObjectFiles
from open_workshop_storage.services.storage.staging import ObjectStaging
from open_workshop_storage.services.storage.workspaces import Workspaces

pytestmark = pytest.mark.anyio

CONTENT = b"content" * 1000
FACTS = Facts(7, "5e" * 32)
JOB, FILE, NAME = "job-12345", "run/packed.zip", "archive/mods/7/main.zip"


@pytest.fixture
async def bucket_here(bucket: Credentials) -> AsyncIterator[Bucket]:
    async with aclosing(Bucket(bucket._replace(prefix=f"{secrets.token_hex(8)}/"))) as made:
        yield made


@pytest.fixture
async def staging(bucket_here: Bucket, tmp_path: Path) -> ObjectStaging:
    """One host's, which has staged a file."""
    workspaces = Workspaces(tmp_path / "one")
    packed = workspaces.folder(JOB) / FILE
    packed.parent.mkdir(parents=True)
    packed.write_bytes(CONTENT)
    staging = ObjectStaging(bucket_here, workspaces, "one")
    await staging.stage(JOB, FILE, FACTS)
    assert packed.exists()
    return staging


@pytest.fixture
def elsewhere(bucket_here: Bucket, tmp_path: Path, staging: ObjectStaging) -> ObjectStaging:
    """Another host's."""
    return ObjectStaging(bucket_here, Workspaces(tmp_path / "other"), "other")


@pytest.fixture
def files(bucket_here: Bucket) -> ObjectFiles:
    return ObjectFiles(bucket_here)


async def test_another_host_places_a_file_as_often_as_it_likes(elsewhere: ObjectStaging, files: ObjectFiles) -> None:
    for _ in range(2):
        assert await elsewhere.place(JOB, FILE, NAME, FACTS) == len(CONTENT)
        found = await files.find("archive", "mods/7/main.zip")
        assert await files.facts(found) == FACTS
        async with files.local_copy(found) as path:
            assert path.read_bytes() == CONTENT
    await elsewhere.discard(JOB)
    with pytest.raises(FileMissing):
        await elsewhere.place(JOB, FILE, NAME, FACTS)
    assert await files.find("archive", "mods/7/main.zip") == found


async def test_what_is_not_what_the_record_tells_of_is_not_placed(elsewhere: ObjectStaging, files: ObjectFiles) -> None:
    for job_id, file, facts in (
        ("job-54321", FILE, FACTS),
        (JOB, "other/packed.zip", FACTS),
        (JOB, FILE, FACTS._replace(sha256="6f" * 32)),
    ):
        with pytest.raises(FileMissing):
            await elsewhere.place(job_id, file, NAME, facts)
    with pytest.raises(FileMissing):
        await files.find("archive", "mods/7/main.zip")


async def test_another_host_reads_a_file(elsewhere: ObjectStaging, tmp_path: Path) -> None:
    async with elsewhere.copy(JOB, FILE) as path:
        assert path.read_bytes() == CONTENT and path.is_relative_to(tmp_path / "other" / "temp" / JOB)
    assert not path.exists()
    with pytest.raises(FileMissing):
        async with elsewhere.copy(JOB, "other/packed.zip"):
            pass


async def test_jobs_are_idle_when_nothing_of_them_is_new(elsewhere: ObjectStaging, files: ObjectFiles) -> None:
    await elsewhere.place(JOB, FILE, NAME, FACTS)
    assert await elsewhere.idle(60) == []
    assert await elsewhere.idle(-60) == [JOB]
    await elsewhere.discard("job-1234")
    assert await elsewhere.idle(-60) == [JOB]
    await elsewhere.discard(JOB)
    assert await elsewhere.idle(-60) == []
    await elsewhere.discard(JOB)
