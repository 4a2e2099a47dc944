"""Permanent files in a bucket, in what differs from those on a disk."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from open_workshop_storage.core.errors import BadRequest, FileMissing, ServiceUnavailable, StoreRefuses
from open_workshop_storage.services.downloads.stored_archives import UnpackedSizes
from open_workshop_storage.services.storage import bucket as bucket_module
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.objects import ObjectFiles
from open_workshop_storage.services.storage.staging import ObjectStaging
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.utils.auth.s3_signatures import signed_url
from tests.support.client import PATIENCE_SECONDS
from tests.support.origins import Request, reply, running_origin
from tests.support.servers import free_port

pytestmark = pytest.mark.anyio

CONTENT = b"content" * 1000


@pytest.fixture
def prefix() -> str:
    return f"{secrets.token_hex(8)}/deep/"


@pytest.fixture
async def opened(bucket: Credentials) -> AsyncIterator[Bucket]:
    """The whole bucket."""
    async with aclosing(Bucket(bucket)) as made:
        yield made


@pytest.fixture
async def ours(bucket: Credentials, prefix: str) -> AsyncIterator[Bucket]:
    """What is below our prefix."""
    async with aclosing(Bucket(bucket._replace(prefix=prefix))) as made:
        yield made


@pytest.fixture
def files(ours: Bucket) -> ObjectFiles:
    return ObjectFiles(ours)


async def put(files: ObjectFiles, folder: Path, name: str, facts: Facts | None = None) -> None:
    (folder / "source").write_bytes(CONTENT)
    await files.put(folder / "source", name, facts)


@pytest.mark.parametrize("path", ["a\\b", "a//b", "a/./b", "./a", "/".join(["a" * 250] * 5), "a\x01b", "a\udc80b"])
async def test_what_stores_take_for_another_name_names_no_file(path: str, files: ObjectFiles, tmp_path: Path) -> None:
    await put(files, tmp_path, "resource/a/b")
    with pytest.raises(FileMissing):
        await files.find("resource", path)
    with pytest.raises(BadRequest):
        await files.resolve("resource", path)


async def test_keys_begin_with_the_prefix_and_are_told_apart_by_it(
    files: ObjectFiles, opened: Bucket, prefix: str, tmp_path: Path
) -> None:
    await put(files, tmp_path, "resource/a")
    assert [found.name async for found in opened.list(prefix[:-1])] == [f"{prefix}resource/a"]
    assert [file async for file in ObjectFiles(opened).every_file()] == []


async def test_a_file_is_labelled_for_those_that_get_it_from_the_store(
    files: ObjectFiles, ours: Bucket, tmp_path: Path
) -> None:
    await put(files, tmp_path, "resource/a.webp", Facts(7, "5e" * 32))
    result = await ours.get("resource/a.webp", "*", range(10))
    assert result.attributes == {"Content-Type": "image/webp", "unpacked-bytes": "7", "sha256": "5e" * 32}


async def test_a_part_is_read_alone(files: ObjectFiles, tmp_path: Path) -> None:
    await put(files, tmp_path, "resource/a")
    file = await files.find("resource", "a")
    async with files.open(file, range(10, 20)) as opened:
        assert await opened.read(10, 4) == CONTENT[10:14]
        assert await opened.read(14, 100) == CONTENT[14:20]
        assert await opened.read(3, 5) == CONTENT[3:8]


async def test_a_large_object_is_read_in_large_pieces(files: ObjectFiles, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(4 * files.block_bytes)
    (tmp_path / "source").write_bytes(content)
    await files.put(tmp_path / "source", "resource/a")
    blocks: list[bytes] = []
    async with files.open(("resource", "a")) as opened:
        while block := await opened.read(sum(map(len, blocks)), files.block_bytes):
            blocks.append(block)
    assert b"".join(blocks) == content and min(map(len, blocks[:-1])) > files.block_bytes // 2


async def test_the_store_is_asked_once_for_a_file_of_which_nothing_is_known(bucket: Credentials) -> None:
    headers = ['ETag: "5e"', "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", f"x-amz-meta-sha256: {'5e' * 32}"]
    async with (
        running_origin(reply(200, *headers, body=CONTENT)) as store,
        aclosing(Bucket(bucket._replace(endpoint=store.url))) as told,
    ):
        files = ObjectFiles(told)
        async with files.open(("resource", "a")) as opened:
            assert await opened.read(0, files.block_bytes) == CONTENT
            assert await files.facts(opened.file) == Facts(None, "5e" * 32)
        assert len(store.requests) == 1


async def test_a_version_that_is_gone_cannot_be_read_on(files: ObjectFiles, tmp_path: Path) -> None:
    await put(files, tmp_path, "resource/a")
    async with files.open(await files.find("resource", "a"), range(10)) as opened:
        await opened.read(0, 10)
        await files.delete("resource/a")
        with pytest.raises(OSError):
            await opened.read(100, 10)


async def test_the_size_of_a_large_archive_is_told_from_its_ends(files: ObjectFiles, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "source", "w") as archive:
        archive.writestr("large.bin", random.Random(1).randbytes(17 * 1024 * 1024))
    size = (tmp_path / "source").stat().st_size
    await files.put(tmp_path / "source", "archive/mods/7/main.zip")
    file = await files.find("archive", "mods/7/main.zip")
    async with files.local_copy(file, ends_only=True) as path:
        content = path.read_bytes()
    assert len(content) == size and not any(content[64 * 1024 : size - 16 * 1024 * 1024])
    async with aclosing(UnpackedSizes(files)) as sizes:
        assert await sizes.get(file) == 17 * 1024 * 1024


async def test_what_takes_the_place_of_an_object_while_it_is_copied_is_copied_instead(bucket: Credentials) -> None:
    old, new = (['ETag: "%s"' % name, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"] for name in ("old", "new"))

    async def serve(request: Request, writer: asyncio.StreamWriter) -> bytes:
        match request.headers.get("if-match"):
            case None:
                return reply(200, *(old if len(store.requests) == 1 else new), length=len(CONTENT))
            case '"new"':
                whole = f"Content-Range: bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
                return reply(206, *new, whole, body=CONTENT)
            case _:
                return reply(412)

    async with (
        running_origin(serve) as store,
        aclosing(Bucket(bucket._replace(endpoint=store.url))) as told,
        told.fetched("resource/a") as path,
    ):
        assert path.read_bytes() == CONTENT


async def test_a_store_that_is_away_or_has_no_such_bucket_is_told_from_a_file_that_is_missing(
    bucket: Credentials, tmp_path: Path
) -> None:
    for broken in (
        bucket._replace(endpoint=f"http://127.0.0.1:{free_port()}"),
        bucket._replace(bucket="no-such-bucket"),
        bucket._replace(key=bucket.key._replace(secret_access_key="wrong")),
    ):
        async with aclosing(Bucket(broken)) as away:
            files = ObjectFiles(away)
            with pytest.raises(ServiceUnavailable):
                await files.find("resource", "x")
            with pytest.raises(ServiceUnavailable):
                await files.find_all([("resource", "x")])
            with pytest.raises(ServiceUnavailable):
                [file async for file in files.every_file()]
            with pytest.raises(ServiceUnavailable):
                await files.remove_leftovers(0)
            assert not await files.is_available(for_writing=False)
            (complaint,) = await files.complaints()
            assert complaint.is_fault
    assert list(tmp_path.iterdir()) == []


async def test_a_store_that_goes_away_while_files_are_looked_up_or_is_silent_is_away(
    bucket: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(request: Request, writer: asyncio.StreamWriter) -> bytes:
        if "silent" in request.target:
            await asyncio.Event().wait()
        return reply(503 if "resource" in request.target else 200)

    monkeypatch.setattr(bucket_module, "_ANSWER_SECONDS", 0.5)
    async with (
        running_origin(serve) as store,
        aclosing(Bucket(bucket._replace(endpoint=store.url))) as leaving,
        asyncio.timeout(PATIENCE_SECONDS / 2),
    ):
        files = ObjectFiles(leaving)
        for path in ("x", "silent"):
            with pytest.raises(ServiceUnavailable):
                await files.find_all([("resource", path)])


async def test_a_store_that_refuses_a_file_is_told_from_one_that_is_away(bucket: Credentials, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)

    async def put_to(credentials: Credentials) -> None:
        async with aclosing(Bucket(credentials)) as opened:
            await opened.put(tmp_path / "source", "resource/x", None)

    async with running_origin(reply(404, body=b"<Error><Code>NoSuchBucket</Code></Error>")) as other_store:
        for refusing in (
            bucket._replace(key=bucket.key._replace(secret_access_key="wrong")),
            bucket._replace(endpoint=other_store.url),
        ):
            with pytest.raises(StoreRefuses):
                await put_to(refusing)
    with pytest.raises(ServiceUnavailable) as away:
        await put_to(bucket._replace(endpoint=f"http://127.0.0.1:{free_port()}"))
    assert not isinstance(away.value, StoreRefuses)


async def test_keys_that_no_request_can_name_are_passed_over(bucket: Credentials) -> None:
    keys = ["archive//x", "archive/mods/7//main.zip", "archive/a/../b", "archive/mods/7/main.zip", "archive/"]
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><Size>5</Size>"
        "<ETag>&quot;5e&quot;</ETag></Contents>"
        for key in keys
    )
    answer = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"

    async def serve(request: Request, writer: asyncio.StreamWriter) -> bytes:
        return reply(200, body=answer.encode() if "archive" in request.target else b"<ListBucketResult/>")

    async with (
        running_origin(serve) as store,
        aclosing(Bucket(bucket._replace(endpoint=store.url))) as told,
    ):
        (file,) = [file async for file in ObjectFiles(told).every_file()]
    assert (file.name, file.size, file.version) == ("archive/mods/7/main.zip", 5, ("5e",))


async def test_only_uploads_to_keys_of_ours_are_ended(opened: Bucket, bucket: Credentials) -> None:
    theirs, ours = f"other/{secrets.token_hex(8)}", f"archive/{secrets.token_hex(8)}"
    for key in (theirs, ours):
        httpx.post(signed_url(bucket.key, "POST", bucket.url(key), 60, {"uploads": ""})).raise_for_status()
    await ObjectFiles(opened).remove_leftovers(-3600)
    url = signed_url(bucket.key, "GET", bucket.url(), 60, {"uploads": ""})
    assert theirs in httpx.get(url).text and ours not in httpx.get(url).text


async def test_what_a_doctor_that_was_broken_off_leaves_is_cleaned_up(
    files: ObjectFiles, opened: Bucket, ours: Bucket, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def delete(*keys: str) -> None:
        raise ServiceUnavailable

    with monkeypatch.context() as context:
        context.setattr(ours, "delete", delete)
        (complaint,) = await files.complaints()
    assert complaint.is_fault and "deleted" in complaint.text
    staging = ObjectStaging(ours, Workspaces(tmp_path), "home")
    (left,) = await staging.idle(-60)
    await staging.discard(left)
    assert [found.name async for found in opened.list(prefix[:-1])] == []


async def test_the_doctor_leaves_nothing(files: ObjectFiles, opened: Bucket, prefix: str) -> None:
    assert await files.complaints() == []
    assert [found.name async for found in opened.list(prefix[:-1])] == []
