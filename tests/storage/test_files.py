"""The one module that finds, places and removes permanent files."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import (
    BadRequest,
    FileMissing,
    InvalidType,
    PathOutsideStorage,
    ServiceUnavailable,
)
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.storage.files import Storage
from open_workshop_storage.utils.files.durable_files import Stopped, copy_beside
from open_workshop_storage.utils.files.paths import partial_path
from tests.support.servers import PROJECT

pytestmark = pytest.mark.anyio

CONTENT = b"content" * 1000


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A storage root with its usual folders, reached through a symbolic link."""
    real = tmp_path / "real"
    for folder in (*StorageType, "temp"):
        (real / folder).mkdir(parents=True)
    (tmp_path / "main").symlink_to(real)
    return Storage(tmp_path / "main")


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than temporary files."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == os.stat(tempfile.gettempdir()).st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def put(storage: Storage, path: str, content: bytes = CONTENT) -> Path:
    target = storage.main_dir / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def everything(storage: Storage) -> set[str]:
    return {str(path.relative_to(storage.main_dir)) for path in storage.main_dir.rglob("*")} - {*StorageType, "temp"}


def test_a_file_is_found_with_its_real_path_and_version(storage: Storage) -> None:
    target = put(storage, "resource/a/x.webp")
    found = storage.find("resource", "a/x.webp")
    status = target.stat()
    assert (found.path, found.name) == (str(target.resolve()), "resource/a/x.webp")
    assert (found.size, found.mtime_ns, found.inode) == (len(CONTENT), status.st_mtime_ns, status.st_ino)
    assert found.mod_id is None


@pytest.mark.parametrize(
    "path", ["nothing", "folder", "folder/", "", "folder/x/below", "a\0b", "x" * 300, "pipe", "loop"]
)
def test_what_is_no_file_is_missing(path: str, storage: Storage) -> None:
    put(storage, "resource/folder/x")
    os.mkfifo(storage.main_dir / "resource" / "pipe")
    (storage.main_dir / "resource" / "loop").symlink_to("loop")
    with pytest.raises(FileMissing):
        storage.find("resource", path)


def test_types_are_judged_before_paths(storage: Storage) -> None:
    for unknown in ("temp", "Archive", "", "..", "archive/mods"):
        with pytest.raises(InvalidType):
            storage.resolve(unknown, "../x")
    with pytest.raises(InvalidType):
        storage.resolve("archive", "x", {StorageType.RESOURCE, StorageType.AVATAR})
    with pytest.raises(PathOutsideStorage):
        storage.resolve("archive", "../x")
    with pytest.raises(BadRequest):
        storage.resolve("archive", "")


def test_a_link_from_one_type_into_another_leads_out(storage: Storage) -> None:
    put(storage, "archive/mods/7/main.zip")
    (storage.main_dir / "resource" / "link").symlink_to(storage.main_dir / "archive")
    with pytest.raises(PathOutsideStorage):
        storage.find("resource", "link/mods/7/main.zip")


@pytest.mark.parametrize(
    "path", ["mods/7/main.zip", "mods/7/deep/er.zip", "public/link/main.zip", "x/../mods/7/main.zip"]
)
def test_protection_is_judged_on_the_real_path(path: str, storage: Storage) -> None:
    put(storage, "archive/mods/7/main.zip")
    put(storage, "archive/mods/7/deep/er.zip")
    put(storage, "archive/public/free.zip")
    (storage.main_dir / "archive" / "public" / "link").symlink_to("../mods/7")
    assert storage.find("archive", path).mod_id == "7"
    assert storage.find("archive", "public/free.zip").mod_id is None


def test_protection_holds_when_the_folder_of_all_mods_is_a_link(storage: Storage) -> None:
    put(storage, "archive/disk2/7/main.zip")
    (storage.main_dir / "archive" / "mods").symlink_to("disk2")
    assert storage.find("archive", "mods/7/main.zip").mod_id == "7"
    assert storage.find("archive", "disk2/7/main.zip").mod_id == "7"


@pytest.mark.parametrize("path", ["mods/main.zip", "mods/seven/main.zip", "mods/٧/main.zip", "mods/-1/main.zip"])
def test_below_the_mods_only_numbered_folders_have_files(path: str, storage: Storage) -> None:
    put(storage, f"archive/{path}")
    with pytest.raises(FileMissing):
        storage.find("archive", path)


def test_a_root_that_is_away_is_told_from_a_file_that_is_missing(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "unmounted")
    with pytest.raises(ServiceUnavailable):
        storage.find("resource", "x")
    (tmp_path / "unmounted").mkdir()
    with pytest.raises(FileMissing):
        storage.find("resource", "x")
    put(storage, "resource/x")
    assert storage.find("resource", "x").size == len(CONTENT)


def test_a_type_may_live_on_another_disk_and_move_there_at_any_time(storage: Storage, tmp_path: Path) -> None:
    put(storage, "avatar/1.webp")
    assert storage.find("avatar", "1.webp")
    (tmp_path / "disk").mkdir()
    (storage.main_dir / "avatar").rename(tmp_path / "disk" / "avatar")
    (storage.main_dir / "avatar").symlink_to(tmp_path / "disk" / "avatar")
    found = storage.find("avatar", "1.webp")
    real_path = (tmp_path / "disk" / "avatar" / "1.webp").resolve()
    assert (found.path, found.name) == (str(real_path), "avatar/1.webp")
    assert storage.relative(real_path) == "avatar/1.webp"
    assert storage.absolute("avatar/1.webp") == real_path


def test_paths_are_told_to_the_manager_relative_to_the_root(storage: Storage) -> None:
    target = storage.resolve("archive", "mods/7/main.zip")
    assert storage.relative(target) == "archive/mods/7/main.zip"
    assert storage.absolute("archive/mods/7/main.zip") == target
    assert storage.relative(storage.workspace("job-12345") / "packed.zip") == "temp/job-12345/packed.zip"
    for outside in ("secret", "archive/../secret", "elsewhere/x", ""):
        with pytest.raises(ValueError):
            storage.absolute(outside)
    with pytest.raises(ValueError):
        storage.relative(storage.main_dir / "secret")


@pytest.mark.parametrize("job_id", ["short", "../../../etc", "a" * 129, "with/slash", "dotted.id", "", "12345678\n"])
def test_a_workspace_has_the_name_of_a_job_and_no_other(job_id: str, storage: Storage) -> None:
    with pytest.raises(BadRequest, match="Invalid job id"):
        storage.workspace(job_id)


async def test_a_file_is_installed_in_new_folders_and_its_source_is_gone(storage: Storage) -> None:
    source = put(storage, "temp/job-12345/packed.zip")
    target = storage.resolve("archive", "mods/7/main.zip")
    assert await storage.install(source, target) == len(CONTENT)
    assert everything(storage) == {"temp/job-12345", "archive/mods", "archive/mods/7", "archive/mods/7/main.zip"}
    assert target.read_bytes() == CONTENT


async def test_replacing_leaves_readers_of_the_old_file_what_they_read(storage: Storage) -> None:
    target = put(storage, "avatar/1.webp", b"old")
    with target.open("rb") as reader:
        assert await storage.install(put(storage, "temp/new", b"new!"), storage.resolve("avatar", "1.webp")) == 4
        assert (reader.read(), target.read_bytes()) == (b"old", b"new!")


async def test_a_file_from_another_file_system_arrives_whole(storage: Storage, elsewhere: Path) -> None:
    source = elsewhere / "big"
    source.write_bytes(os.urandom(20 * 1024 * 1024))
    content = source.read_bytes()
    target = storage.resolve("archive", "mods/7/main.zip")
    assert await storage.install(source, target) == len(content)
    assert target.read_bytes() == content
    assert not source.exists()
    assert everything(storage) == {"archive/mods", "archive/mods/7", "archive/mods/7/main.zip"}


def test_a_copy_that_is_stopped_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    target.write_bytes(b"old")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        copy_beside(source, target, partial_path(target), stop)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("path", ["a-folder", "a-file/below", "a-file/far/below"])
async def test_a_file_cannot_take_the_place_of_a_folder_nor_lie_below_a_file(
    path: str, storage: Storage, elsewhere: Path
) -> None:
    put(storage, "resource/a-folder/x")
    put(storage, "resource/a-file")
    before = everything(storage)
    (elsewhere / "far").write_bytes(CONTENT)
    for source in (put(storage, "temp/near"), elsewhere / "far"):
        with pytest.raises(BadRequest, match="Path"):
            await storage.install(source, storage.resolve("resource", path))
        assert source.exists()
    assert everything(storage) == before | {"temp/near"}


async def test_what_is_not_there_cannot_be_installed(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        await storage.install(storage.temp / "nothing", storage.resolve("resource", "x"))
    (tmp_path / "source").write_bytes(CONTENT)
    away = Storage(tmp_path / "unmounted")
    with pytest.raises(ServiceUnavailable):
        await away.install(tmp_path / "source", away.resolve("resource", "x"))
    assert not (tmp_path / "unmounted").exists()


async def test_installing_and_deleting_side_by_side_never_fails(storage: Storage) -> None:
    async def churn(number: int) -> None:
        path = f"shared/folder/{number}"
        for _ in range(30):
            await storage.install(put(storage, f"temp/{number}"), storage.resolve("resource", path))
            await storage.delete(Path(storage.find("resource", path).path))

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(churn(number))
    assert everything(storage) == set()


async def test_deleting_takes_folders_left_empty_but_not_the_types_own(storage: Storage) -> None:
    put(storage, "resource/a/b/c/x")
    put(storage, "resource/a/y")
    await storage.delete(storage.resolve("resource", "a/b/c/x"))
    assert everything(storage) == {"resource/a", "resource/a/y"}
    await storage.delete(storage.resolve("resource", "a/y"))
    assert everything(storage) == set() and (storage.main_dir / "resource").is_dir()


@pytest.mark.parametrize("path", ["nothing", "folder", "folder/x/below"])
async def test_deleting_what_is_no_file_changes_nothing(path: str, storage: Storage) -> None:
    put(storage, "resource/folder/x")
    before = everything(storage)
    with pytest.raises(FileMissing):
        await storage.delete(storage.resolve("resource", path))
    assert everything(storage) == before


async def test_what_a_killed_copy_left_is_never_found_and_goes_with_the_cleanup(
    storage: Storage, elsewhere: Path
) -> None:
    source = elsewhere / "almost endless"
    with source.open("wb") as file:
        file.truncate(shutil.disk_usage(storage.main_dir).free // 2)
    target = storage.resolve("resource", "a/x")
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from open_workshop_storage.services.storage.files import Storage\n"
        "asyncio.run(Storage(Path(sys.argv[1])).install(Path(sys.argv[2]), Path(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, str(storage.main_dir), str(source), str(target)]
    copying = subprocess.Popen(command, cwd=PROJECT, env={"PYTHONPATH": "src"})
    try:
        async with asyncio.timeout(30):
            while not (leftovers := list(target.parent.glob(".*"))):
                await asyncio.sleep(0.01)
    finally:
        copying.kill()
        copying.wait()
    with pytest.raises(FileMissing):
        storage.find("resource", f"a/{leftovers[0].name}")
    with pytest.raises(BadRequest):
        storage.resolve("resource", f"a/{leftovers[0].name}")
    await storage.remove_leftovers(3600)
    assert leftovers[0].exists()
    await storage.remove_leftovers(-1)
    assert everything(storage) == {"resource/a"}


async def test_a_full_disk_is_told_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    code = """
import asyncio, sys
from pathlib import Path
from open_workshop_storage.core.errors import NoSpace
from open_workshop_storage.services.storage.files import Storage
main_dir, source = map(Path, sys.argv[1:])
storage = Storage(main_dir)
try:
    asyncio.run(storage.install(source, storage.resolve("resource", "x")))
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
