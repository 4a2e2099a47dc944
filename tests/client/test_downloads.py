"""Files and entries that the client saves, from a running distributor and from one that spoils them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import zipfile
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from open_workshop_storage.client import Downloads, StorageError
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.digests import field_of, give_digest
from tests.support.manager import AccessAnswer
from tests.support.origins import Request, reply, running_origin
from tests.support.services import Services

pytestmark = pytest.mark.anyio

NOISE = random.Random(5).randbytes(3_000_000)
MOD = zip_of({**SMALL_MOD, "noise": NOISE})


@pytest.fixture
def downloads(services: Services, http: httpx.AsyncClient) -> Downloads:
    return Downloads(http, services.distributor)


@pytest.fixture
def path(services: Services) -> str:
    """An archive of everybody's."""
    path = f"archive/{secrets.token_hex(8)} über.zip"
    services.stored(path, MOD)
    return path


async def test_a_file_is_saved_and_its_digest_checked(
    services: Services, downloads: Downloads, path: str, tmp_path: Path
) -> None:
    give_digest(services.main_dir / path)
    assert await downloads.save(path, tmp_path / "new" / "mod.zip") == hashlib.sha256(MOD).hexdigest()
    assert (tmp_path / "new" / "mod.zip").read_bytes() == MOD


async def test_a_file_of_unknown_digest_is_saved(downloads: Downloads, path: str, tmp_path: Path) -> None:
    assert await downloads.save(path, tmp_path / "mod.zip") is None
    assert (tmp_path / "mod.zip").read_bytes() == MOD


async def test_a_refusal_leaves_what_was_there(downloads: Downloads, tmp_path: Path) -> None:
    target = tmp_path / "mod.zip"
    target.write_bytes(b"old")
    with pytest.raises(StorageError) as refusal:
        await downloads.save("archive/none.zip", target)
    assert (refusal.value.status, refusal.value.message) == (404, "File not found")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


async def test_a_file_of_another_digest_is_not_saved(http: httpx.AsyncClient, tmp_path: Path) -> None:
    async with running_origin(reply(200, f"Repr-Digest: {field_of(b'another')}", body=b"content")) as origin:
        with pytest.raises(StorageError, match="another digest"):
            await Downloads(http, origin.url).save("archive/mod.zip", tmp_path / "mod.zip")
    assert origin.requests[0].headers["want-repr-digest"] == "sha-256=10"
    assert not list(tmp_path.iterdir())


async def test_a_download_that_breaks_off_is_not_saved(http: httpx.AsyncClient, tmp_path: Path) -> None:
    async with running_origin(reply(200, body=NOISE, length=len(NOISE) + 1)) as origin:
        with pytest.raises(StorageError, match="No answer"):
            await Downloads(http, origin.url).save("archive/mod.zip", tmp_path / "mod.zip")
    assert not list(tmp_path.iterdir())


async def test_the_digest_counts_where_the_store_itself_sends_the_file(http: httpx.AsyncClient, tmp_path: Path) -> None:
    async with running_origin(reply(200, body=b"content")) as store:
        for digest, is_saved in ((field_of(b"content"), True), (field_of(b"another"), False)):
            found = reply(302, f"Location: {store.url}/object", f"Repr-Digest: {digest}")
            async with running_origin(found) as distributor:
                saved = Downloads(http, distributor.url, {"accessToken": "a"}).save("archive/a", tmp_path / "a")
                (result,) = await asyncio.gather(saved, return_exceptions=True)
                assert isinstance(result, str) == is_saved
                assert distributor.requests[0].headers["cookie"] == "accessToken=a"
        assert not any("cookie" in request.headers for request in store.requests)
    assert (tmp_path / "a").read_bytes() == b"content"


async def test_a_protected_file_is_asked_for_with_the_users_cookies(
    services: Services, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    mod_id = str(secrets.randbelow(10**9))
    path = f"archive/mods/{mod_id}/main.zip"
    services.stored(path, MOD)
    cookies = {"accessToken": "a", "refreshToken": "b"}
    downloads = Downloads(http, services.distributor, cookies)
    await downloads.save(path, tmp_path / "mod.zip")
    await downloads.contents(path)
    asked = [request for request in services.manager.access_requests if request.mod_id == mod_id]
    assert {request.headers["cookie"] for request in asked} == {"accessToken=a; refreshToken=b"}
    refusal = {"download": {"value": False, "reason": "Buy it first", "reason_code": ""}}
    services.manager.access[mod_id] = AccessAnswer(body=refusal)
    with pytest.raises(StorageError, match="Buy it first"):
        await Downloads(http, services.distributor, {"accessToken": "c"}).contents(path)


async def test_the_contents_of_an_archive_are_listed(downloads: Downloads, path: str) -> None:
    contents = await downloads.contents(path)
    assert (contents.path, contents.bytes) == (path, len(MOD))
    assert contents.unpacked_bytes == len(NOISE) + sum(map(len, SMALL_MOD.values()))
    listed = {entry.name: (entry.bytes, entry.crc32) for entry in contents.entries}
    wanted = {**SMALL_MOD, "noise": NOISE}
    assert listed == {name: (len(content), zlib.crc32(content)) for name, content in wanted.items()}
    assert {entry.modified for entry in contents.entries} == {datetime(1980, 1, 1)}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
async def test_entries_are_saved_as_they_were_packed(
    method: int, services: Services, downloads: Downloads, tmp_path: Path
) -> None:
    path = f"resource/{secrets.token_hex(8)}.zip"
    services.stored(path, zip_of({**SMALL_MOD, "noise": NOISE}, method))
    for entry in (await downloads.contents(path)).entries:
        await downloads.save_entry(path, entry, tmp_path / entry.name)
    await downloads.save_entry(path, "noise", tmp_path / "by name")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    saved = {file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in files}
    assert saved == {**SMALL_MOD, "noise": NOISE, "by name": NOISE}


async def test_an_entry_of_a_replaced_archive_is_not_saved(
    services: Services, downloads: Downloads, path: str, tmp_path: Path
) -> None:
    entry = (await downloads.contents(path)).entries[0]
    services.stored(path, zip_of({entry.name: b"another"}))
    with pytest.raises(StorageError, match="not what was announced"):
        await downloads.save_entry(path, entry, tmp_path / "entry")
    assert not list(tmp_path.iterdir())


def gzipped(content: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=31)
    return deflate.compress(content) + deflate.flush()


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "is another": lambda packed: gzipped(b"another"),
    "breaks off": lambda packed: packed[:-20],
    "is no gzip": lambda packed: b"nonsense",
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_an_entry_that_is_damaged_under_way_is_not_saved(
    damage: str, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    content = b"some text, " * 2000

    async def answer(request: Request, writer: asyncio.StreamWriter) -> bytes:
        assert request.headers["accept-encoding"] == "gzip"
        crc = f"X-Entry-CRC32: {zlib.crc32(content):08x}"
        return reply(200, crc, "Content-Encoding: gzip", body=DAMAGED[damage](gzipped(content)))

    async with running_origin(answer) as origin:
        with pytest.raises(StorageError):
            await Downloads(http, origin.url).save_entry("archive/mod.zip", "text", tmp_path / "text")
    assert not list(tmp_path.iterdir())
