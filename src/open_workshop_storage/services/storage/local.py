"""Permanent files on a disk, below the storage root."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import stat
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from itertools import islice
from pathlib import Path

from open_workshop_storage.core import errors
from open_workshop_storage.services.storage.disk import complaints_about, folders_can_sync
from open_workshop_storage.services.storage.files import (
    MODS,
    MOST_READ_BYTES,
    Address,
    Complaint,
    Facts,
    StorageType,
    StoredFile,
    known_type,
    protecting_mod,
)
from open_workshop_storage.services.storage.local_file import (
    OpenedLocalFile,
    keep_with_version,
    kept_facts,
    open_present,
    place,
    remove,
    remove_leftovers,
    version_of,
)
from open_workshop_storage.utils.files import paths
from open_workshop_storage.utils.files.reading import BlockReader, UnlinkedOpener
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG}
_LINKS_SECONDS = 1.0
_WALKED_AT_ONCE = 1000
# What is no regular file is opened too, before that is known, and must not be waited for.
_FOR_READING = UnlinkedOpener(os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, on_loop=True)
_FOR_LOOKING = UnlinkedOpener(os.O_PATH)


class LocalFiles:
    """The files below a storage root; an implementation of `Files`, which documents the methods.

    Args:
        main_dir: An absolute path. It need not exist yet, and may be reached through symbolic links.
        reserve_bytes: Disk space that files from another file system leave free.
    """

    # Larger blocks leave the core's cache between one copy and the next.
    block_bytes = MOST_READ_BYTES
    fetches_on_opening = False

    def __init__(self, main_dir: Path, reserve_bytes: int = 0) -> None:
        self._main_dir = main_dir
        self._root = str(main_dir)
        self._reserve_bytes = reserve_bytes
        self._reader = BlockReader(MOST_READ_BYTES)
        self._can_sync = False
        self._real_folders: dict[str, str] = {}
        self._mods = ""
        self._mods_expire = -math.inf

    async def resolve(self, storage_type: str, path: str) -> str:
        """Return the name of the real path that a type and a path lead to; raises as `Files.resolve`."""
        folder = self._real_folder(known_type(storage_type))
        try:
            real_path = await asyncio.to_thread(paths.resolve_inside, folder, path)
        except paths.PathEscapes:
            raise errors.PathOutsideStorage from None
        except paths.PathUnusable:
            raise errors.BadRequest("Invalid path") from None
        return storage_type + real_path[len(folder) :]

    async def find(self, storage_type: str, path: str) -> StoredFile:
        """Look a file up by its real path, found here once; raises as `Files.find`.

        That takes microseconds on the event loop; a thread would cost more than the rest of a small download.
        """
        return self._find(storage_type, path)

    async def find_all(self, addresses: Collection[Address]) -> dict[Address, StoredFile]:
        return await asyncio.to_thread(self._find_all, addresses)

    def open(self, file: StoredFile | Address, part: range | None = None) -> OpenedLocalFile:
        """Open a file, which is closed after the block; raises as `Files.open`."""
        if not isinstance(file, StoredFile):
            opened = self._open_plain(known_type(file[0]), file[1], _FOR_READING)
            if opened is not None:
                return OpenedLocalFile(opened[0], opened[1], self._reader)
            file = self._find(*file)
        # Looking the file up has just found its folder; to do so again would take longer than to open the file.
        folder = self._real_folders[file.storage_type]
        return open_present(file, folder + file.name[len(file.storage_type) :], self._reader)

    def reopen(self, file: StoredFile) -> OpenedLocalFile | None:
        """Open a file in one step, on the event loop as `find`; for the rest as `Files.reopen`."""
        path = f"{self._root}/{file.name}"
        descriptor = _FOR_READING.open(path)
        if descriptor is None:
            return None
        is_unchanged = False
        try:
            status = os.fstat(descriptor)
            is_same = version_of(status) == file.version and status.st_ctime_ns == file.changed_ns
            is_unchanged = is_same and self._is_as_protected(file, path)
        finally:
            if not is_unchanged:
                os.close(descriptor)
        return OpenedLocalFile(file, descriptor, self._reader) if is_unchanged else None

    def local_copy(self, file: StoredFile, *, ends_only: bool = False) -> AbstractAsyncContextManager[Path]:
        return nullcontext(Path(self._path(file.name)))

    async def facts(self, file: StoredFile, *, even_if_edited: bool = False) -> Facts | None:
        """Read an extended attribute, on the event loop as `find`; for the rest as `Files.facts`."""
        return kept_facts(self._path(file.name), None if even_if_edited else file.version)

    async def keep(self, file: StoredFile, facts: Facts) -> bool:
        """Write facts into an extended attribute; raises as `Files.keep`."""
        return await run_to_end(keep_with_version, self._path(file.name), file.version, facts)

    async def every_file(self) -> AsyncIterator[StoredFile]:
        """Walk through the folders of all types, by name; raises as `Files.every_file`."""
        for storage_type in StorageType:
            found = self._walk(storage_type)
            while some := await asyncio.to_thread(list, islice(found, _WALKED_AT_ONCE)):
                for file in some:
                    yield file

    async def size_and_facts(self, name: str) -> tuple[int, Facts | None]:
        path = self._path(name)
        try:
            status = await asyncio.to_thread(os.stat, path)
        except OSError:
            raise errors.FileMissing from None
        return status.st_size, kept_facts(path, version_of(status))

    async def put(self, source: Path, name: str, facts: Facts | None = None) -> int:
        """Rename a file to its place, or copy it there from another file system; raises as `Files.put`."""
        target = Path(self._path(name))
        return await run_until_stopped(partial(place, source, target, facts, self._main_dir, self._reserve_bytes))

    async def delete(self, name: str) -> None:
        root = Path(self._real_folder(name.partition("/")[0]))
        await run_to_end(remove, Path(self._path(name)), root)

    async def is_available(self, *, for_writing: bool) -> bool:
        """Return whether the storage root is a folder and, if asked for, can be written and its folders synced."""
        return await asyncio.to_thread(self._is_available, for_writing)

    async def complaints(self) -> list[Complaint]:
        return await asyncio.to_thread(complaints_about, self._main_dir)

    async def remove_leftovers(self, older_than_seconds: float) -> None:
        """Remove partial files that copies of `put` left beside their targets when their process died."""
        await run_to_end(remove_leftovers, self._main_dir, time.time() - older_than_seconds)

    def _find(self, storage_type: str, path: str) -> StoredFile:
        of_type = known_type(storage_type)
        opened = self._open_plain(of_type, path, _FOR_LOOKING)
        if opened is not None:
            os.close(opened[1])
            return opened[0]
        try:
            folder = self._real_folder(of_type)
            real_path, status = paths.find_inside(folder, path)
        except paths.PathEscapes:
            raise errors.PathOutsideStorage from None
        except paths.PathUnusable:
            raise errors.FileMissing from None
        except OSError as error:
            if error.errno in _NO_SUCH_FILE and self._main_dir.is_dir():
                raise errors.FileMissing from None
            raise errors.ServiceUnavailable from None
        return self._stored(real_path, of_type, folder, status)

    def _open_plain(
        self, storage_type: StorageType, path: str, opener: UnlinkedOpener
    ) -> tuple[StoredFile, int] | None:
        """Open a file in one step, which almost every download does, and return its descriptor, too.

        Returns:
            None if the path has to be judged part by part.

        Raises:
            FileMissing: As for `find`.
        """
        if not paths.is_plain(path):
            return None
        folder = self._real_folders.get(storage_type)
        if folder != f"{self._root}/{storage_type}":
            # Reached by a link, which may be another one by now.
            folder = self._real_folder(storage_type)
        real_path = f"{folder}/{path}"
        descriptor = opener.open(real_path)
        if descriptor is None:
            return None
        try:
            return self._stored(real_path, storage_type, folder, os.fstat(descriptor)), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    def _stored(self, real_path: str, storage_type: StorageType, folder: str, status: os.stat_result) -> StoredFile:
        if not stat.S_ISREG(status.st_mode):
            raise errors.FileMissing
        name = storage_type + real_path[len(folder) :]
        mod_id = self._protecting_mod(name, storage_type, real_path)
        version = version_of(status)
        return StoredFile(name, storage_type, status.st_size, status.st_mtime_ns, version, mod_id, status.st_ctime_ns)

    def _find_all(self, addresses: Collection[Address]) -> dict[Address, StoredFile]:
        found = {}
        for address in addresses:
            with suppress(errors.StorageError):
                found[address] = self._find(*address)
        if not self._main_dir.is_dir():
            raise errors.ServiceUnavailable
        return found

    def _protecting_mod(self, name: str, storage_type: StorageType, real_path: str) -> str | None:
        """Return what `protecting_mod` does, also for a file that is among the mods by a link; raises the same."""
        mod_id = protecting_mod(name)
        if mod_id is not None:
            return mod_id
        if storage_type is StorageType.ARCHIVE or self._mods_expire < time.monotonic():
            # Only by links of the operator's can files of another type be among the mods, so it is enough there to
            # notice a new one soon.
            self._mods = self._real_folder(MODS)
            self._mods_expire = time.monotonic() + _LINKS_SECONDS
        if not paths.is_inside(real_path, self._mods):
            return None
        return protecting_mod(f"{MODS}/{real_path[len(self._mods) + 1 :]}")

    def _is_as_protected(self, file: StoredFile, real_path: str) -> bool:
        try:
            return self._protecting_mod(file.name, file.storage_type, real_path) == file.mod_id
        except errors.FileMissing:
            return False

    def _path(self, name: str) -> str:
        storage_type, _, below = name.partition("/")
        return f"{self._real_folder(storage_type)}/{below}"

    def _real_folder(self, name: str) -> str:
        # One look-up, or two, tell whether the real path found last still is that folder's; to find it takes ten
        # times as long, too long for every download.
        folder = f"{self._root}/{name}"
        known = self._real_folders.get(name)
        if known == folder:
            try:
                if stat.S_ISDIR(os.lstat(folder).st_mode):
                    return known
            except FileNotFoundError:
                return known
        elif known is not None:
            with suppress(OSError):
                if os.path.samestat(os.stat(folder), os.lstat(known)):
                    return known
        self._real_folders[name] = os.path.realpath(folder)
        return self._real_folders[name]

    def _walk(self, storage_type: StorageType) -> Iterator[StoredFile]:
        if not self._main_dir.is_dir():
            raise errors.ServiceUnavailable
        root = self._real_folder(storage_type)
        for parent, folders, names in os.walk(root, onerror=_raise_unless_gone):
            folders.sort()
            for name in sorted(names):
                try:
                    file = self._find(storage_type, os.path.relpath(os.path.join(parent, name), root))
                except (errors.FileMissing, errors.PathOutsideStorage):
                    # Unfinished, or without a name that can be asked for.
                    continue
                yield file

    def _is_available(self, for_writing: bool) -> bool:
        if not self._main_dir.is_dir():
            return False
        if not for_writing:
            return True
        try:
            # To find out takes a wait for the disk, and what can be synced once always can.
            self._can_sync = self._can_sync or folders_can_sync(self._main_dir)
        except OSError:
            return False
        return self._can_sync and os.access(self._main_dir, os.W_OK | os.X_OK)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
