"""What every implementation of the interface to permanent files does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import (
    BadRequest,
    FileMissing,
    InvalidType,
    PathOutsideStorage,
)
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.files import (
    MOST_READ_BYTES,
    Facts,
    Files,
    StorageType,
    StoredFile,
    known_type,
)
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.objects import ObjectFiles
from tests.support.jobs import SHA256

pytestmark = pytest.mark.anyio

CONTENT = b"content" * 1000


@pytest.fixture(params=["local", "objects"])
async def files(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Files]:
    """An empty store."""
    if request.param == "local":
        (tmp_path / "root").mkdir()
        yield LocalFiles(tmp_path / "root")
        return
    credentials = request.getfixturevalue("bucket")._replace(prefix=f"{secrets.token_hex(8)}/")
    async with aclosing(Bucket(credentials)) as bucket:
        yield ObjectFiles(bucket)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


async def put(files: Files, source: Path, storage_type: str, path: str, content: bytes = CONTENT) -> str:
    source.write_bytes(content)
    name = await files.resolve(storage_type, path)
    assert await files.put(source, name) == len(content)
    assert not source.exists()
    return name


async def content_of(files: Files, storage_type: str, path: str) -> bytes:
    file = await files.find(storage_type, path)
    async with files.open(file) as opened:
        content = bytearray()
        while len(content) < opened.file.size:
            content += await opened.read(len(content), MOST_READ_BYTES)
        return bytes(content)


async def test_a_file_is_found_under_its_name(files: Files, source: Path) -> None:
    name = await put(files, source, "resource", "a/x.webp")
    file = await files.find("resource", "a/x.webp")
    assert name == file.name == "resource/a/x.webp"
    assert (file.storage_type, file.size, file.mod_id) == (StorageType.RESOURCE, len(CONTENT), None)
    assert await files.size_and_facts(name) == (len(CONTENT), None)
    assert await content_of(files, "resource", "a/x.webp") == CONTENT


@pytest.mark.parametrize("path", ["nothing", "folder", "folder/", "", "folder/x/below", "a\0b", "x" * 300])
async def test_what_is_no_file_is_missing(path: str, files: Files, source: Path) -> None:
    await put(files, source, "resource", "folder/x")
    with pytest.raises(FileMissing):
        await files.find("resource", path)


@pytest.mark.parametrize("part", [range(0), range(3), range(5, 9), range(6990, 7000)], ids=str)
async def test_more_may_be_read_than_was_named_at_first(part: range, files: Files, source: Path) -> None:
    await put(files, source, "resource", "x")
    async with files.open(await files.find("resource", "x"), part) as opened:
        for at in (part.start, part.stop, 0, 3, 5000):
            block = bytes(await opened.read(at, 10))
            assert block == CONTENT[at : at + 10][: len(block)] and bool(block) == (at < len(CONTENT))


async def test_a_file_can_be_looked_up_and_opened_in_one_step(files: Files, source: Path) -> None:
    await put(files, source, "resource", "x")
    await put(files, source, "resource", "empty", b"")
    for path, content in (("x", CONTENT), ("empty", b"")):
        async with files.open(("resource", path)) as opened:
            assert opened.file == await files.find("resource", path)
            assert bytes(await opened.read(0, MOST_READ_BYTES)) == content
            assert bytes(await opened.read(3, 4)) == content[3:7]
    for storage_type, path, refusal in (
        ("resource", "nothing", FileMissing),
        ("resource", "a\0b", FileMissing),
        ("resource", "../x", PathOutsideStorage),
        ("nothing", "x", InvalidType),
    ):
        with pytest.raises(refusal):
            async with files.open((storage_type, path)):
                pass


async def test_types_are_judged_before_paths(files: Files) -> None:
    for unknown in ("temp", "Archive", "", "..", "archive/mods"):
        with pytest.raises(InvalidType):
            await files.resolve(unknown, "../x")
        with pytest.raises(InvalidType):
            await files.find(unknown, "../x")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "%2e%2e/x", "..%2fx", "%252e%252e/x", "..\\x"])
async def test_a_path_never_leaves_its_types_folder(path: str, files: Files) -> None:
    with pytest.raises(PathOutsideStorage):
        await files.resolve("archive", path)
    with pytest.raises(PathOutsideStorage):
        await files.find("archive", path)


@pytest.mark.parametrize("path", ["", "folder/", "a/..", "a\0b", "x" * 300])
async def test_what_cannot_name_a_file_is_refused(path: str, files: Files) -> None:
    with pytest.raises(BadRequest):
        await files.resolve("archive", path)


async def test_files_of_a_mod_are_protected_by_its_id(files: Files, source: Path) -> None:
    for path in ("mods/7/main.zip", "mods/7/deep/er.zip", "public/free.zip"):
        await put(files, source, "archive", path)
    assert (await files.find("archive", "mods/7/main.zip")).mod_id == "7"
    assert (await files.find("archive", "mods/7/deep/er.zip")).mod_id == "7"
    assert (await files.find("archive", "x/../mods/7/main.zip")).mod_id == "7"
    assert (await files.find("archive", "public/free.zip")).mod_id is None


@pytest.mark.parametrize("path", ["mods/main.zip", "mods/seven/main.zip", "mods/٧/main.zip", "mods/-1/main.zip"])
async def test_below_the_mods_only_numbered_folders_have_files(path: str, files: Files, source: Path) -> None:
    await put(files, source, "archive", path)
    with pytest.raises(FileMissing):
        await files.find("archive", path)


async def test_many_files_are_looked_up_at_once(files: Files, source: Path) -> None:
    await put(files, source, "avatar", "1.webp")
    there = ("avatar", "1.webp")
    found = await files.find_all([there, ("avatar", "2.webp"), ("avatar", "../x"), ("nothing", "x"), ("avatar", "")])
    assert found == {there: await files.find(*there)}


async def test_a_replaced_file_has_another_version_and_readers_keep_the_old_one(files: Files, source: Path) -> None:
    name = await put(files, source, "avatar", "1.webp", b"old")
    old = await files.find("avatar", "1.webp")
    async with files.open(old) as opened:
        assert opened.file == old
        assert await put(files, source, "avatar", "1.webp", b"new!") == name
        assert bytes(await opened.read(0, 100)) == b"old"
        assert bytes(await opened.read(3, 100)) == b""
    new = await files.find("avatar", "1.webp")
    assert new.version != old.version and new.size == 4
    async with files.open(old) as opened:
        assert opened.file == new


async def test_facts_are_kept_with_one_version_of_a_file(files: Files, source: Path) -> None:
    name = await put(files, source, "archive", "x.zip")
    assert await files.facts(await files.find("archive", "x.zip")) is None
    for facts in (Facts(7), Facts(8, SHA256), Facts(None, SHA256)):
        source.write_bytes(CONTENT)
        await files.put(source, name, facts)
        assert await files.facts(await files.find("archive", "x.zip")) == facts
        assert await files.size_and_facts(name) == (len(CONTENT), facts)
    old = await files.find("archive", "x.zip")
    await put(files, source, "archive", "x.zip", b"other")
    # What is told of the old version is of that one.
    assert await files.facts(old) in (None, Facts(None, SHA256))
    assert await files.facts(await files.find("archive", "x.zip")) is None


async def test_facts_are_kept_with_a_file_that_has_been_there(files: Files, source: Path) -> None:
    name = await put(files, source, "archive", "x.zip")
    file = await files.find("archive", "x.zip")
    for facts in (Facts(7), Facts(8, SHA256)):
        assert await files.keep(file, facts)
        file = await files.find("archive", "x.zip")
        assert await files.facts(file) == facts
        assert await content_of(files, "archive", "x.zip") == CONTENT
    await put(files, source, "archive", "x.zip", b"other")
    assert not await files.keep(file, Facts(9))
    assert await files.facts(await files.find("archive", "x.zip")) is None
    await files.delete(name)
    with pytest.raises(FileMissing):
        await files.keep(file, Facts(9))


async def test_every_file_is_found(files: Files, source: Path) -> None:
    assert [file async for file in files.every_file()] == []
    names = {"archive/mods/7/main.zip", "archive/mods/7/deep/er.zip", "avatar/1.webp", "resource/%41 b/ö", "resource/x"}
    for name in names:
        storage_type, path = name.split("/", 1)
        await put(files, source, storage_type, path)
    found = [file async for file in files.every_file()]
    assert {file.name for file in found} == names and len(found) == len(names)
    for file in found:
        assert file == await files.find(*file.name.split("/", 1))


async def test_a_read_begins_where_it_is_told(files: Files, source: Path) -> None:
    content = bytes(range(256)) * 2048
    await put(files, source, "resource", "x", content)
    async with files.open(await files.find("resource", "x")) as opened:
        for offset, length in ((0, 1), (255, 2), (1000, MOST_READ_BYTES), (len(content) - 3, 10)):
            block = bytes(await opened.read(offset, length))
            assert block and content[offset : offset + length].startswith(block)


async def test_what_went_away_cannot_be_opened(files: Files, source: Path) -> None:
    name = await put(files, source, "resource", "x")
    file = await files.find("resource", "x")
    await files.delete(name)
    with pytest.raises(FileMissing):
        async with files.open(file):
            pass
    with pytest.raises(FileMissing):
        await files.size_and_facts(name)


async def test_other_programs_can_read_a_file(files: Files, source: Path) -> None:
    await put(files, source, "resource", "x")
    async with files.local_copy(await files.find("resource", "x")) as path:
        assert path.read_bytes() == CONTENT


async def test_what_is_not_there_cannot_be_put(files: Files, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        await files.put(tmp_path / "nothing", await files.resolve("resource", "x"))


@pytest.mark.parametrize("path", ["nothing", "folder", "folder/x/below"])
async def test_deleting_what_is_no_file_changes_nothing(path: str, files: Files, source: Path) -> None:
    await put(files, source, "resource", "folder/x")
    with pytest.raises(FileMissing):
        await files.delete(await files.resolve("resource", path))
    assert await content_of(files, "resource", "folder/x") == CONTENT


async def test_putting_and_deleting_side_by_side_never_fails(files: Files, tmp_path: Path) -> None:
    async def churn(number: int) -> None:
        for _ in range(30):
            await files.delete(await put(files, tmp_path / str(number), "resource", f"shared/folder/{number}"))

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(churn(number))


async def test_a_store_that_is_there_is_available(files: Files) -> None:
    assert await files.is_available(for_writing=False) and await files.is_available(for_writing=True)
    assert await files.complaints() == []


def test_a_short_key_tells_each_version_of_each_file_from_all_others() -> None:
    names, versions = ("resource/a", f"resource/{'x' * 4000}", "resource/\udcff"), ((1, 2), (12,), ("1-2x",))
    files = [StoredFile(name, StorageType.RESOURCE, 1, 1, version, None) for name in names for version in versions]
    assert {len(file.key) for file in files} == {16}
    assert len({file.key for file in files}) == len(files)


@pytest.mark.parametrize("storage_type", StorageType)
def test_a_type_is_known_by_its_name(storage_type: StorageType) -> None:
    assert known_type(str(storage_type)) is storage_type


@pytest.mark.parametrize("name", ["", "temp", "Archive", "archive/"])
def test_a_name_that_is_no_type_is_refused(name: str) -> None:
    with pytest.raises(InvalidType):
        known_type(name)
