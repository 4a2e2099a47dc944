"""Permanent files on a disk."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import BadRequest, FileMissing, PathOutsideStorage, ServiceUnavailable
from open_workshop_storage.services.storage import local
from open_workshop_storage.services.storage.files import Facts, StorageType
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.utils.files.paths import partial_path
from open_workshop_storage.utils.files.reading import UnlinkedOpener
from tests.support.servers import PROJECT

pytestmark = pytest.mark.anyio

CONTENT = b"content" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A storage root with its usual folders, reached through a symbolic link."""
    real = tmp_path / "real"
    for folder in (*StorageType, "temp"):
        (real / folder).mkdir(parents=True)
    (tmp_path / "main").symlink_to(real)
    return tmp_path / "main"


@pytest.fixture
def storage(root: Path) -> LocalFiles:
    return LocalFiles(root)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than temporary files."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == os.stat(tempfile.gettempdir()).st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def write(root: Path, path: str, content: bytes = CONTENT) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")} - {*StorageType, "temp"}


@pytest.mark.parametrize("path", ["folder", "pipe", "socket", "loop", "folder-link"])
async def test_what_is_no_regular_file_is_missing_and_left_closed(path: str, root: Path, storage: LocalFiles) -> None:
    write(root, "resource/folder/x")
    os.mkfifo(root / "resource" / "pipe")
    os.mknod(root / "resource" / "socket", stat.S_IFSOCK | 0o600)
    (root / "resource" / "loop").symlink_to("loop")
    (root / "resource" / "folder-link").symlink_to("folder")
    before = open_files()
    with pytest.raises(FileMissing):
        await storage.find("resource", path)
    with pytest.raises(FileMissing):
        async with storage.open(("resource", path)):
            pass
    assert open_files() == before


async def test_what_was_looked_up_or_read_is_left_closed(root: Path, storage: LocalFiles) -> None:
    write(root, "resource/x")
    before = open_files()
    async with storage.open(("resource", "x")) as opened:
        assert opened.file == await storage.find("resource", "x")
    assert open_files() == before


async def test_a_file_is_the_same_to_systems_that_cannot_open_it_in_one_call(
    root: Path, storage: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "archive/mods/7/main.zip")
    found = await storage.find("archive", "mods/7/main.zip")
    monkeypatch.setattr(UnlinkedOpener, "open", lambda self, path: None)
    assert await storage.find("archive", "mods/7/main.zip") == found
    async with storage.open(("archive", "mods/7/main.zip")) as opened:
        assert opened.file == found and await opened.read(0, len(CONTENT)) == CONTENT


async def test_a_folder_that_becomes_a_link_is_judged_anew(root: Path, tmp_path: Path) -> None:
    storage = LocalFiles(root.resolve())
    write(root, "resource/folder/x")
    write(root, "resource/other/x", b"another")
    secret = write(tmp_path, "outside/x", b"secret").parent
    async with storage.open(("resource", "folder/x")):
        pass
    shutil.rmtree(root / "resource" / "folder")
    (root / "resource" / "folder").symlink_to("other")
    async with storage.open(("resource", "folder/x")) as opened:
        assert opened.file.name == "resource/other/x"
    (root / "resource" / "folder").unlink()
    (root / "resource" / "folder").symlink_to(secret)
    for refused in (storage.find("resource", "folder/x"), storage.resolve("resource", "folder/x")):
        with pytest.raises(PathOutsideStorage):
            await refused
    with pytest.raises(PathOutsideStorage):
        storage.open(("resource", "folder/x"))


async def test_a_link_from_one_type_into_another_leads_out(root: Path, storage: LocalFiles) -> None:
    write(root, "archive/mods/7/main.zip")
    (root / "resource" / "link").symlink_to(root / "archive")
    with pytest.raises(PathOutsideStorage):
        await storage.find("resource", "link/mods/7/main.zip")
    with pytest.raises(PathOutsideStorage):
        await storage.resolve("resource", "link/mods/7/main.zip")


@pytest.mark.parametrize("path", ["mods/7/main.zip", "public/link/main.zip", "x/../mods/7/main.zip"])
async def test_names_and_protection_are_those_of_the_real_path(path: str, root: Path, storage: LocalFiles) -> None:
    write(root, "archive/mods/7/main.zip")
    write(root, "archive/public/free.zip")
    (root / "archive" / "public" / "link").symlink_to("../mods/7")
    found = await storage.find("archive", path)
    assert (found.name, found.mod_id) == ("archive/mods/7/main.zip", "7")
    assert await storage.resolve("archive", path) == found.name
    assert (await storage.find("archive", "public/free.zip")).mod_id is None


async def test_protection_holds_when_the_folder_of_all_mods_is_a_link(root: Path, storage: LocalFiles) -> None:
    write(root, "archive/disk2/7/main.zip")
    (root / "archive" / "mods").symlink_to("disk2")
    assert (await storage.find("archive", "mods/7/main.zip")).mod_id == "7"
    assert (await storage.find("archive", "disk2/7/main.zip")).mod_id == "7"
    # nginx does not know that.
    (told,) = await storage.complaints()
    assert told.is_fault and "leads to" in told.text


@pytest.mark.parametrize("target", ["archive", "archive/mods", "archive/mods/7"])
async def test_a_folder_of_public_files_must_not_lead_to_mods(target: str, root: Path, storage: LocalFiles) -> None:
    write(root, "archive/mods/7/main.zip")
    assert await storage.complaints() == []
    (root / "resource").rmdir()
    (root / "resource").symlink_to(target)
    (told,) = await storage.complaints()
    assert told.is_fault and "nginx takes files for public ones" in told.text


async def test_a_root_that_is_away_is_told_from_a_file_that_is_missing(tmp_path: Path) -> None:
    away, storage = tmp_path / "unmounted", LocalFiles(tmp_path / "unmounted")
    (tmp_path / "source").write_bytes(CONTENT)
    with pytest.raises(ServiceUnavailable):
        await storage.find("resource", "x")
    with pytest.raises(ServiceUnavailable):
        await storage.find_all([("resource", "x")])
    with pytest.raises(ServiceUnavailable):
        await storage.put(tmp_path / "source", "resource/x")
    assert not away.exists() and not await storage.is_available(for_writing=False)
    assert [complaint.is_fault for complaint in await storage.complaints()] == [True]
    away.mkdir()
    with pytest.raises(FileMissing):
        await storage.find("resource", "x")
    write(away, "resource/x")
    assert (await storage.find("resource", "x")).size == len(CONTENT)


@pytest.mark.parametrize("is_linked", [True, False])
async def test_a_type_may_live_on_another_disk_and_move_there_at_any_time(
    is_linked: bool, root: Path, tmp_path: Path
) -> None:
    storage = LocalFiles(root if is_linked else root.resolve())
    write(root, "avatar/1.webp")
    before = await storage.find("avatar", "1.webp")
    (tmp_path / "disk").mkdir()
    (root / "avatar").rename(tmp_path / "disk" / "avatar")
    (root / "avatar").symlink_to(tmp_path / "disk" / "avatar")
    assert await storage.find("avatar", "1.webp") == before
    assert await storage.size_and_facts("avatar/1.webp") == (len(CONTENT), None)
    async with storage.local_copy(before) as path:
        assert path == (tmp_path / "disk" / "avatar" / "1.webp").resolve()


async def test_an_operator_hears_of_folders_that_will_not_do(root: Path, storage: LocalFiles, elsewhere: Path) -> None:
    root.chmod(0o777)
    (root / "avatar").rmdir()
    (root / "avatar").symlink_to(elsewhere)
    told = await storage.complaints()
    assert [(is_fault, text.split(";")[0]) for is_fault, text in told] == [
        (False, f"every user may write to {root}"),
        (False, "its folders are on several file systems"),
    ]


async def test_a_file_comes_into_new_folders_and_its_source_is_gone(root: Path, storage: LocalFiles) -> None:
    source = write(root, "temp/job-12345/packed.zip")
    assert await storage.put(source, "archive/mods/7/main.zip") == len(CONTENT)
    assert everything(root) == {"temp/job-12345", "archive/mods", "archive/mods/7", "archive/mods/7/main.zip"}
    assert (root / "archive/mods/7/main.zip").read_bytes() == CONTENT


async def test_a_file_from_another_file_system_arrives_whole(root: Path, storage: LocalFiles, elsewhere: Path) -> None:
    source = elsewhere / "big"
    source.write_bytes(os.urandom(20 * 1024 * 1024))
    content = source.read_bytes()
    assert await storage.put(source, "archive/mods/7/main.zip") == len(content)
    assert (root / "archive/mods/7/main.zip").read_bytes() == content
    assert not source.exists()
    assert everything(root) == {"archive/mods", "archive/mods/7", "archive/mods/7/main.zip"}


@pytest.mark.parametrize("path", ["a-folder", "a-file/below", "a-file/far/below"])
async def test_a_file_cannot_take_the_place_of_a_folder_nor_lie_below_a_file(
    path: str, root: Path, storage: LocalFiles, elsewhere: Path
) -> None:
    write(root, "resource/a-folder/x")
    write(root, "resource/a-file")
    before = everything(root)
    (elsewhere / "far").write_bytes(CONTENT)
    for source in (write(root, "temp/near"), elsewhere / "far"):
        with pytest.raises(BadRequest, match="Path"):
            await storage.put(source, await storage.resolve("resource", path))
        assert source.exists()
    assert everything(root) == before | {"temp/near"}


async def test_deleting_takes_folders_left_empty_but_not_the_types_own(root: Path, storage: LocalFiles) -> None:
    write(root, "resource/a/b/c/x")
    write(root, "resource/a/y")
    await storage.delete("resource/a/b/c/x")
    assert everything(root) == {"resource/a", "resource/a/y"}
    await storage.delete("resource/a/y")
    assert everything(root) == set() and (root / "resource").is_dir()


async def test_what_a_killed_copy_left_is_never_found_and_goes_with_the_cleanup(
    root: Path, storage: LocalFiles, elsewhere: Path
) -> None:
    source = elsewhere / "almost endless"
    with source.open("wb") as file:
        file.truncate(shutil.disk_usage(root).free // 2)
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from open_workshop_storage.services.storage.local import LocalFiles\n"
        "asyncio.run(LocalFiles(Path(sys.argv[1])).put(Path(sys.argv[2]), 'resource/a/x'))"
    )
    command = [sys.executable, "-c", code, str(root), str(source)]
    copying = subprocess.Popen(command, cwd=PROJECT, env={"PYTHONPATH": "src"})
    try:
        async with asyncio.timeout(60):
            while not (leftovers := list((root / "resource/a").glob(".*"))):
                await asyncio.sleep(0.01)
    finally:
        copying.kill()
        copying.wait()
    with pytest.raises(FileMissing):
        await storage.find("resource", f"a/{leftovers[0].name}")
    with pytest.raises(BadRequest):
        await storage.resolve("resource", f"a/{leftovers[0].name}")
    await storage.remove_leftovers(3600)
    assert leftovers[0].exists()
    await storage.remove_leftovers(-1)
    assert everything(root) == {"resource/a"}


async def test_a_full_disk_is_told_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    code = """
import asyncio, sys
from pathlib import Path
from open_workshop_storage.core.errors import NoSpace
from open_workshop_storage.services.storage.local import LocalFiles
main_dir, source = map(Path, sys.argv[1:])
files = LocalFiles(main_dir)
try:
    asyncio.run(files.put(source, "resource/x"))
except NoSpace:
    print("full", [path.name for path in main_dir.rglob("*") if not path.is_dir()], source.stat().st_size)
"""
    (tmp_path / "source").write_bytes(bytes(2 * 1024 * 1024))
    mounting = f'mount -t tmpfs -o size=1m none {tmp_path}/mount && PYTHONPATH=src exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounting, "sh"]
    ran = subprocess.run(
        [*command, sys.executable, "-c", code, str(tmp_path / "mount"), str(tmp_path / "source")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip("no file system of our own may be mounted here")
    assert ran.stdout == f"full [] {2 * 1024 * 1024}\n", ran.stderr


@pytest.fixture
def no_folder_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse to sync folders, as some file systems do."""
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)


@pytest.mark.usefixtures("no_folder_sync")
async def test_a_file_system_that_cannot_sync_folders_is_known_at_the_start(root: Path, storage: LocalFiles) -> None:
    assert await storage.is_available(for_writing=False)
    assert not await storage.is_available(for_writing=True)
    told = await storage.complaints()
    assert all(is_fault and "cannot be synced" in text for is_fault, text in told) and len(told) == 5


@pytest.mark.usefixtures("no_folder_sync")
async def test_a_file_that_is_in_place_counts_as_moved_even_if_its_folder_cannot_be_synced(
    root: Path, storage: LocalFiles, elsewhere: Path
) -> None:
    (elsewhere / "far").write_bytes(CONTENT)
    for source in (write(root, "temp/near"), elsewhere / "far"):
        assert await storage.put(source, "resource/new/x") == len(CONTENT)
        assert (root / "resource/new/x").read_bytes() == CONTENT and not source.exists()
        await storage.delete("resource/new/x")


async def test_only_files_that_can_be_asked_for_are_walked_through(root: Path, storage: LocalFiles) -> None:
    write(root, "archive/mods/7/main.zip")
    write(root, "archive/mods/seven/main.zip")
    write(root, "resource/" + partial_path(Path("x")).name)
    write(root, "resource/a\\..\\..\\b")
    write(root, "temp/job-12345/source")
    (root / "resource/link").symlink_to(write(root, "elsewhere/x"))
    (root / "resource/loop").symlink_to(root / "resource")
    (root / "resource/dead").symlink_to(root / "nothing")
    inside = ["resource/a", "resource/b/2", "resource/b/10", "resource/b/c/x"]
    for name in inside:
        write(root, name)
    assert [file.name async for file in storage.every_file()] == ["archive/mods/7/main.zip", *sorted(inside)]


async def test_a_walk_does_not_pass_by_what_it_cannot_read(root: Path, storage: LocalFiles) -> None:
    write(root, "resource/folder/x")
    (root / "avatar").rmdir()
    assert [file.name async for file in storage.every_file()] == ["resource/folder/x"]
    (root / "avatar").touch()
    with pytest.raises(NotADirectoryError):
        [file async for file in storage.every_file()]
    root.rename(root.with_name("away"))
    with pytest.raises(ServiceUnavailable):
        async for _ in storage.every_file():
            pass


async def test_versions_of_one_size_never_share_a_second(storage: LocalFiles, root: Path) -> None:
    """So each has an entity tag of its own, and it is nginx's: `ngx_http_set_etag`."""
    tags = []
    for number in range(4):
        await storage.put(write(root, f"temp/{number}", b"%d" % number), "resource/a.bin", Facts(sha256="0" * 64))
        file = await storage.find("resource", "a.bin")
        tags.append(file.tag)
        assert tags[-1] == f"{int((root / 'resource/a.bin').stat().st_mtime):x}-1"
        assert await storage.facts(file) == Facts(sha256="0" * 64)
    assert len(set(tags)) == 4


async def test_a_file_whose_protection_cannot_be_judged_any_more_is_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LINKS_SECONDS", -1.0)
    storage = LocalFiles(root.resolve())
    write(root, "resource/file.txt")
    (root / "archive/mods").mkdir()
    file = await storage.find("resource", "file.txt")
    shutil.rmtree(root / "archive")
    write(root, "archive")
    with pytest.raises(NotADirectoryError):
        storage.reopen(file)
    opened = {os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in os.listdir("/proc/self/fd")}
    assert os.fspath(root.resolve() / file.name) not in opened
