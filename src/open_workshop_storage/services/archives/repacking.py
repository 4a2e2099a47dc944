"""Extracts archives into folders, and packs folders into ZIPs (docs/API.md, "Archives")."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from open_workshop_storage.core.errors import ArchiveTooLarge, CorruptArchive
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.inspection import Inspection, limits_of
from open_workshop_storage.services.archives.parsers import as_storage_errors
from open_workshop_storage.services.archives.seven_zip import READ_SWITCHES, TYPE_SWITCHES, SevenZip
from open_workshop_storage.services.storage.disk import require_space
from open_workshop_storage.services.storage.workspaces import discard
from open_workshop_storage.utils.archives.entry_rules import decoded, refuse_special, split_name
from open_workshop_storage.utils.archives.faults import UnsafeEntry
from open_workshop_storage.utils.archives.kinds import COMPRESSED, Kind
from open_workshop_storage.utils.archives.rewriting import rewrite_rar4, rewrite_zip
from open_workshop_storage.utils.archives.tar import unpack_tar
from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.files.durable_files import Stopped, sync
from open_workshop_storage.utils.processes.python_children import PythonChildren
from open_workshop_storage.utils.processes.task_groups import run_beside, watched
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_COPY_BYTES = 1024 * 1024
_LOOK_SECONDS = 0.2
_WRITE_BACK_SECONDS = 0.5
_FOLDER_MODE = 0o755


class Repacker:
    """Extracts what has been inspected, and packs what has been extracted; each can be done again."""

    def __init__(self, settings: Settings, seven_zip: SevenZip, parsers: PythonChildren) -> None:
        self._settings = settings
        self._seven_zip = seven_zip
        self._parsers = parsers

    async def extract(
        self,
        source: Path,
        inspection: Inspection,
        target: Path,
        filename: str,
        max_unpacked_bytes: int,
        on_percent: Callable[[float], None],
    ) -> int:
        """Unpack an archive into a folder of its own; a plain file becomes the only file there.

        Args:
            inspection: What `inspect` told of the source.
            target: The folder; removed first if it is there, and removed again on failure.
            filename: The name that a plain file gets, safe to use.
            max_unpacked_bytes: The limit on all files together; 0 for none.
            on_percent: Told each rise of the progress, up to 100; must not block.

        Returns:
            The bytes in all files.

        Raises:
            UnsafeArchive: What came out, or a compressed tar, breaks a rule of docs/API.md, "Archives".
            CorruptArchive: The data are broken, cut off, or not what the headers say.
            ArchiveTooLarge: There is more than a limit.
            UnsupportedFormat: `7z` cannot unpack a method in it.
            NoSpace: The disk would be left with less than its reserve.
            RepackFailed: Unpacking failed for another reason.
        """
        if 0 < max_unpacked_bytes < inspection.unpacked_bytes:
            raise ArchiveTooLarge
        with as_storage_errors():
            await discard(target)
            await run_to_end(target.mkdir, parents=True)
            try:
                if inspection.kind is Kind.PLAIN:
                    await run_until_stopped(partial(self._place_plain, source, target / filename))
                    on_percent(100)
                    return inspection.unpacked_bytes
                await asyncio.to_thread(self._require_space, target, inspection.unpacked_bytes)
                if inspection.kind is Kind.TAR or inspection.kind in COMPRESSED:
                    return await self._extract_tar(source, inspection.kind, target, max_unpacked_bytes, on_percent)
                if inspection.kind is Kind.ZIP or inspection.code_page:
                    return await self._extract_rewritten(source, inspection, target, on_percent)
                return await self._extract_by_seven_zip(source, inspection, target, on_percent)
            except BaseException:
                await discard(target)
                raise

    async def pack(
        self, folder: Path, target: Path, level: int, on_percent: Callable[[float], None]
    ) -> tuple[int, str]:
        """Pack what a folder holds into a ZIP, which appears complete or not at all.

        Most of it is synced to the disk while `7z` works, so that the move to its permanent place waits for little.

        Args:
            level: 0 (fastest) to 9 (smallest).
            on_percent: Told each rise of the progress, up to 100; must not block.

        Returns:
            The size of the ZIP in bytes, and its SHA-256 as hex digits. `7z` goes back to headers of files that it has
            packed, so the ZIP is read for that once it is complete, from the page cache.

        Raises:
            NoSpace: The disk would be left with less than its reserve.
            RepackFailed: Packing failed for another reason.
        """
        part = target.absolute().with_name(target.name + ".part")
        arguments = "a", "-tzip", "-mm=Deflate", f"-mx={level}", "-mcu=on", part, "."
        require_reserve = partial(require_space, target.parent, 0, self._settings.storage_reserve_bytes)
        with as_storage_errors():
            # 7z would add to what is there.
            await run_to_end(_remove_part, part)
            try:
                async with watched(require_reserve), run_beside(_write_back(part)):
                    await self._seven_zip.run(*arguments, on_percent=on_percent, folder=folder, writable=part.parent)
                await asyncio.to_thread(require_reserve)
                sha256 = await run_until_stopped(partial(FileDigest().finish, part))
                return await run_to_end(_put_in_place, part, target), sha256
            except BaseException:
                await run_to_end(_remove_part, part)
                raise

    async def _extract_by_seven_zip(
        self, source: Path, inspection: Inspection, target: Path, on_percent: Callable[[float], None]
    ) -> int:
        announced = inspection.unpacked_bytes

        def check() -> None:
            self._require_space(target)
            if _size_of_tree(target) > announced:
                raise CorruptArchive

        arguments = "x", TYPE_SWITCHES[inspection.kind], *READ_SWITCHES, f"-o{target}", source
        async with watched(check):
            await self._seven_zip.run(*arguments, on_percent=on_percent, writable=target, max_file_bytes=announced)
        if await asyncio.to_thread(settle_tree, target) != announced:
            raise CorruptArchive
        return announced

    async def _extract_rewritten(
        self, source: Path, inspection: Inspection, target: Path, on_percent: Callable[[float], None]
    ) -> int:
        rewritten = target.with_name(target.name + ".rewritten")
        try:
            with (
                await asyncio.to_thread(source.open, "rb") as file,
                await asyncio.to_thread(rewritten.open, "wb") as new,
            ):
                copied = os.fstat(file.fileno()).st_size
                await asyncio.to_thread(self._require_space, target, copied + inspection.unpacked_bytes)
                seconds = self._settings.seven_zip_timeout_seconds
                rewrite = partial(self._parsers.call, rewrite_rar4, inspection.code_page)
                if inspection.kind is Kind.ZIP:
                    rewrite = partial(self._parsers.call, rewrite_zip, *limits_of(file, self._settings, 0))
                await rewrite(files=[file, new], seconds=seconds, cpu_seconds=seconds)
            return await self._extract_by_seven_zip(rewritten, inspection, target, on_percent)
        finally:
            await run_to_end(rewritten.unlink, missing_ok=True)

    async def _extract_tar(
        self, source: Path, kind: Kind, target: Path, max_unpacked_bytes: int, on_percent: Callable[[float], None]
    ) -> int:
        with await asyncio.to_thread(source.open, "rb") as file:
            limits = limits_of(file, self._settings, max_unpacked_bytes)
            seconds = self._settings.seven_zip_timeout_seconds
            async with watched(partial(self._require_space, target)), run_beside(_tell_progress(file, on_percent)):
                size = await self._parsers.call(
                    unpack_tar, kind.name, *limits, files=[file], folder=target, seconds=seconds, cpu_seconds=seconds
                )
        on_percent(100)
        return size if isinstance(size, int) else 0

    def _place_plain(self, source: Path, target: Path, stop: threading.Event) -> None:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
        self._require_space(target.parent, source.stat().st_size)
        with source.open("rb") as reader, target.open("xb") as writer:
            while chunk := reader.read(_COPY_BYTES):
                writer.write(chunk)
                if stop.is_set():
                    raise Stopped

    def _require_space(self, folder: Path, size: int = 0) -> None:
        require_space(folder, size, self._settings.storage_reserve_bytes)


async def _tell_progress(file: BinaryIO, on_percent: Callable[[float], None]) -> NoReturn:
    """Tell how far a file has been read by a child, whose position in it is the same."""
    size, told = os.fstat(file.fileno()).st_size, 0
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        percent = os.lseek(file.fileno(), 0, os.SEEK_CUR) * 100 // max(1, size)
        if told < percent < 100:
            told = percent
            on_percent(float(percent))


async def _write_back(part: Path) -> NoReturn:
    while True:
        await asyncio.sleep(_WRITE_BACK_SECONDS)
        # 7z may not have begun it yet.
        with contextlib.suppress(FileNotFoundError):
            await run_to_end(sync, part)


def _remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    # Where 7z writes before it renames.
    part.with_name(part.name + ".tmp").unlink(missing_ok=True)


def _put_in_place(part: Path, target: Path) -> int:
    size = part.stat().st_size
    part.rename(target)
    return size


def _size_of_tree(folder: Path) -> int:
    """Return the bytes in all files below a folder, which may change while this runs. Blocks."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # What vanishes, or cannot be looked into yet, is counted when all is there.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def settle_tree(folder: Path) -> int:
    """Judge what stands below a folder, and give it plain modes and names in UTF-8; backslashes become folders. Blocks.

    Of modes, the owner's right to execute is kept.

    Returns:
        The bytes in all files.

    Raises:
        UnsafeEntry: There is a link, a special file, a second file of one name, or a name that escapes.
        OSError: The tree cannot be read or changed.
    """
    total = 0
    folders = [os.fspath(folder)]
    while folders:
        parent = folders.pop()
        with os.scandir(parent) as children:
            found = list(children)
        # All of them, before one is moved into what could be a link.
        sizes = [_settled_size(child) for child in found]
        for child, size in zip(found, sizes, strict=True):
            name = decoded(os.fsencode(child.name))
            first, *rest = split_name(name) if "\\" in name else [name]
            path = os.path.join(parent, first)
            if rest:
                if not os.path.lexists(path):
                    os.mkdir(path)
                    os.chmod(path, _FOLDER_MODE)
                    folders.append(path)
                _move(child, os.path.join(path, "\\".join(rest)))
                continue
            if path != child.path and not _move(child, path):
                continue
            if child.is_dir(follow_symlinks=False):
                folders.append(path)
            total += size
    return total


def _settled_size(child: os.DirEntry[str]) -> int:
    """Judge a file or folder, give it a plain mode, and return a file's size."""
    status = child.stat(follow_symlinks=False)
    is_folder = stat.S_ISDIR(status.st_mode)
    refuse_special(status.st_mode, is_link=not is_folder and status.st_nlink > 1)
    mode = _FOLDER_MODE if is_folder or status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_IMODE(status.st_mode) != mode:
        os.chmod(child.path, mode)
    return 0 if is_folder else status.st_size


def _move(child: os.DirEntry[str], path: str) -> bool:
    """Move a file or folder; return False if that folder is there already."""
    if not os.path.lexists(path):
        os.rename(child.path, path)
        return True
    # A folder may be named twice.
    if not child.is_dir(follow_symlinks=False) or not os.path.isdir(path) or os.listdir(child.path):
        raise UnsafeEntry("two files of one name")
    os.rmdir(child.path)
    return False
