"""Copies of large objects, and what is left of uploads in parts."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest

from open_workshop_storage.core.errors import FileMissing, ServiceUnavailable
from open_workshop_storage.services.storage import bucket_requests
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials, Replaced, StoredObject
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.utils.auth.s3_signatures import signed_url
from tests.support.origins import Request, reply, running_origin

pytestmark = pytest.mark.anyio

CONTENT = random.Random(1).randbytes(12 * 1024 * 1024)
FACTS = Facts(7, "5e" * 32)


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(8)


@pytest.fixture
async def opened(bucket: Credentials) -> AsyncIterator[Bucket]:
    async with aclosing(Bucket(bucket)) as made:
        yield made


@pytest.fixture
async def source(opened: Bucket, prefix: str, tmp_path: Path) -> StoredObject:
    (tmp_path / "source").write_bytes(CONTENT)
    await opened.put(tmp_path / "source", f"{prefix}/source", None)
    return await opened.find(f"{prefix}/source")


def uploads_of(bucket: Credentials, prefix: str) -> int:
    url = signed_url(bucket.key, "GET", bucket.url(), 60, {"uploads": "", "prefix": prefix})
    return httpx.get(url).text.count("<UploadId>")


@pytest.mark.parametrize("part_bytes", [5 * 1024 * 1024, 1024**3])
async def test_a_copy_has_the_bytes_and_facts_of_its_own(
    part_bytes: int, opened: Bucket, source: StoredObject, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_requests, "_COPIED_AT_ONCE", part_bytes)
    await opened.copy(source, f"{prefix}/ö b.zip", FACTS)
    copy = await opened.find(f"{prefix}/ö b.zip")
    assert (copy.size, copy.facts, copy.etag.endswith('-3"')) == (len(CONTENT), FACTS, part_bytes < len(CONTENT))
    async with opened.fetched(copy.name) as path:
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("part_bytes", [5 * 1024 * 1024, 1024**3])
async def test_only_the_version_that_was_found_is_copied(
    part_bytes: int,
    bucket: Credentials,
    opened: Bucket,
    source: StoredObject,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket_requests, "_COPIED_AT_ONCE", part_bytes)
    with pytest.raises(Replaced):
        await opened.copy(source._replace(etag='"other"'), f"{prefix}/copy", FACTS)
    await opened.delete(source.name)
    with pytest.raises(FileMissing):
        await opened.copy(source, f"{prefix}/copy", FACTS)
    with pytest.raises(FileMissing):
        await opened.find(f"{prefix}/copy")
    assert uploads_of(bucket, prefix) == 0


async def test_uploads_that_were_not_completed_are_ended_after_their_time(
    bucket: Credentials, opened: Bucket, prefix: str
) -> None:
    httpx.post(signed_url(bucket.key, "POST", bucket.url(f"{prefix}/x"), 60, {"uploads": ""})).raise_for_status()
    now = datetime.now(timezone.utc)
    await opened.abort_uploads(prefix, now - timedelta(hours=1))
    assert uploads_of(bucket, prefix) == 1
    await opened.abort_uploads(f"other-{prefix}", now + timedelta(hours=1))
    assert uploads_of(bucket, prefix) == 1
    await opened.abort_uploads(prefix, now + timedelta(hours=1))
    assert uploads_of(bucket, prefix) == 0


async def test_a_listing_is_read_to_its_last_page(bucket: Credentials) -> None:
    begun = "<Initiated>2026-01-02T03:04:05.678Z</Initiated>"
    pages = [
        f"<Upload><Key>a</Key><UploadId>1</UploadId>{begun}</Upload><IsTruncated>true</IsTruncated>"
        "<NextKeyMarker>a&amp;b</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>",
        f"<Upload><Key>b</Key><UploadId>2</UploadId>{begun}</Upload><IsTruncated>false</IsTruncated>",
    ]

    async def serve(request: Request, writer: asyncio.StreamWriter) -> bytes:
        if "prefix=" not in request.target:
            return reply(204)
        page = pages["key-marker=a%26b" in request.target and "upload-id-marker=1" in request.target]
        return reply(200, body=f"<ListMultipartUploadsResult>{page}</ListMultipartUploadsResult>".encode())

    async with running_origin(serve) as store, aclosing(Bucket(bucket._replace(endpoint=store.url))) as paged:
        await paged.abort_uploads("", datetime.now(timezone.utc))
    ended = [request.target for request in store.requests if "prefix=" not in request.target]
    assert ["uploadId=1" in target or "uploadId=2" in target for target in ended] == [True, True]


async def test_a_listing_whose_pages_lead_nowhere_ends(bucket: Credentials) -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    async with (
        running_origin(reply(200, body=page)) as store,
        aclosing(Bucket(bucket._replace(endpoint=store.url))) as endless,
    ):
        assert [found async for found in endless.list("archive")] == []


@pytest.mark.parametrize(
    "answer", [b"", b"<CopyObjectResult><ETag>&quot;5", b"<Error><Code>InternalError</Code></Error>"]
)
async def test_a_store_that_dies_after_its_status_has_done_nothing(
    answer: bytes, bucket: Credentials, source: StoredObject
) -> None:
    async def serve(request: Request, writer: asyncio.StreamWriter) -> bytes:
        return reply(200, body=answer)

    async with running_origin(serve) as store, aclosing(Bucket(bucket._replace(endpoint=store.url))) as dying:
        with pytest.raises(ServiceUnavailable):
            await dying.copy(source, "copy", FACTS)
