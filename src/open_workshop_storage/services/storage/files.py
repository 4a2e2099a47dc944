"""The permanent files: where they are, how they get there and how they go.

Everything that reads, places or removes a permanent file goes through `Storage`, so that another back end would
have to replace this module only.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from open_workshop_storage.core.claims import JOB_ID
from open_workshop_storage.core.errors import (
    BadRequest,
    FileMissing,
    InvalidType,
    PathOutsideStorage,
    ServiceUnavailable,
)
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.storage.disk import full_disk_is_no_space, require_space
from open_workshop_storage.utils.files.durable_files import copy_beside, make_folders, replace_durably
from open_workshop_storage.utils.files.paths import (
    PathEscapes,
    PathUnusable,
    find_inside,
    is_inside,
    is_partial,
    partial_path,
    resolve_inside,
)
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_ALL_TYPES = tuple(StorageType)
_TYPES_BY_NAME = {str(storage_type): storage_type for storage_type in StorageType}
_MODS = f"{StorageType.ARCHIVE}/mods"
_TEMP = "temp"
_MOD_ID = re.compile(r"[0-9]+")
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG}
_PLACING_ATTEMPTS = 5
_LINKS_SECONDS = 1.0


class StoredFile(NamedTuple):
    """A permanent file as it was when it was looked up.

    Attributes:
        path: Its real path.
        name: The same relative to the storage root, as `archive/mods/7/main.zip`.
        storage_type: The folder of the root that it is in.
        size: Bytes.
        mtime_ns: Time of the last change, nanoseconds since the epoch.
        inode: Changes whenever the file is replaced.
        mod_id: The mod that decides who may have it; None if anyone may (docs/API.md, "GET `/download/{type}/{path}`").
    """

    path: str
    name: str
    storage_type: StorageType
    size: int
    mtime_ns: int
    inode: int
    mod_id: str | None

    def now(self, status: os.stat_result) -> StoredFile:
        """Return what is known of the file that stands in this one's place, given its status: this, or a new one."""
        if (status.st_size, status.st_mtime_ns, status.st_ino) == (self.size, self.mtime_ns, self.inode):
            return self
        return self._replace(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


class Storage:
    """The storage root.

    Args:
        main_dir: An absolute path. It need not exist yet, and may be reached through symbolic links.
        reserve_bytes: Disk space that files from another file system leave free.
    """

    def __init__(self, main_dir: Path, reserve_bytes: int = 0) -> None:
        self.main_dir = main_dir
        self._root = str(main_dir)
        self._reserve_bytes = reserve_bytes
        self._real_folders: dict[str, str] = {}
        self._mods = ""
        self._mods_expire = -math.inf

    @property
    def temp(self) -> Path:
        """The folder of all workspaces; what else is in it belongs to this class."""
        return self.main_dir / _TEMP

    def workspace(self, job_id: str) -> Path:
        """Return the folder of a job's unfinished files, which need not exist.

        Raises:
            BadRequest: The id does not have the form that docs/API.md, "Transfer tokens" gives.
        """
        if not JOB_ID.fullmatch(job_id):
            raise BadRequest("Invalid job id")
        return self.temp / job_id

    def resolve(self, storage_type: str, path: str, allowed: Collection[StorageType] = _ALL_TYPES) -> Path:
        """Return the real path that a type and a path from outside stand for; nothing need exist there.

        Raises:
            InvalidType: No such type, or none of the allowed ones.
            PathOutsideStorage: The path leaves its type's folder.
            BadRequest: The path cannot name a file: it is empty, a folder's (`a/`), over-long, has a NUL.
        """
        if storage_type not in allowed:
            raise InvalidType
        try:
            return resolve_inside(self._real_folder(storage_type), path)
        except PathEscapes:
            raise PathOutsideStorage from None
        except PathUnusable:
            raise BadRequest("Invalid path") from None

    def find(self, storage_type: str, path: str) -> StoredFile:
        """Look up an existing file. Its real path, found here once, decides everything after.

        This reads a few directory entries, which takes microseconds and is meant to be done on the event loop,
        as nginx does it: a thread would cost more than the rest of a small download.

        Raises:
            InvalidType: No such type.
            PathOutsideStorage: The path leaves its type's folder.
            FileMissing: No such file, or it is a folder, or its name is not one a file can have.
            ServiceUnavailable: The storage root is missing or broken.
        """
        known_type = _TYPES_BY_NAME.get(storage_type)
        if known_type is None:
            raise InvalidType
        try:
            folder = self._real_folder(known_type)
            real_path, status = find_inside(folder, path)
        except PathEscapes:
            raise PathOutsideStorage from None
        except PathUnusable:
            raise FileMissing from None
        except OSError as error:
            if error.errno in _NO_SUCH_FILE and self.main_dir.is_dir():
                raise FileMissing from None
            raise ServiceUnavailable from None
        if not stat.S_ISREG(status.st_mode):
            raise FileMissing
        return StoredFile(
            real_path,
            known_type + real_path[len(folder) :],
            known_type,
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
            self._protected_mod(real_path, known_type, folder),
        )

    def _protected_mod(self, real_path: str, storage_type: StorageType, folder: str) -> str | None:
        """Return the id of the mod that a resolved path belongs to, or None if it is outside `archive/mods/`.

        Args:
            folder: The real path of the type's folder. What is really below its `mods` is so by no link.

        Raises:
            FileMissing: The path is inside, but not below a folder named by ASCII digits.
        """
        mods = f"{folder}/mods"
        if storage_type is not StorageType.ARCHIVE or not real_path.startswith(f"{mods}/"):
            mods = self._mods
            if storage_type is StorageType.ARCHIVE or self._mods_expire < time.monotonic():
                # Only by links of the operator's can files of another type be among the mods, so it is enough there to
                # notice a new one soon.
                mods = self._mods = self._real_folder(_MODS)
                self._mods_expire = time.monotonic() + _LINKS_SECONDS
        if not is_inside(real_path, mods):
            return None
        mod_id, _, below = real_path[len(mods) + 1 :].partition("/")
        if not below or not _MOD_ID.fullmatch(mod_id):
            raise FileMissing
        return mod_id

    def relative(self, path: Path) -> str:
        """Return a path below the storage root as the Manager knows it, such as `archive/mods/7/main.zip`.

        Raises:
            ValueError: The path is not in one of the root's folders.
        """
        real_path = os.path.realpath(path)
        folder, root = self._root_of(real_path)
        return f"{folder}/{os.path.relpath(real_path, root)}"

    def absolute(self, path: str) -> Path:
        """Return the real path of what `relative` returned.

        Raises:
            ValueError: It never did.
        """
        folder, _, name = path.partition("/")
        if folder not in (*_ALL_TYPES, _TEMP):
            raise ValueError(f"not in the storage root: {path}")
        return resolve_inside(self._real_folder(folder), name)

    async def install(self, source: Path, target: Path) -> int:
        """Move a finished file to its permanent place, durably and in one step for whoever reads it.

        The source is gone afterwards. If it is on another file system it is copied to a partial file beside the
        target first; `remove_leftovers` finds those that a dead process left there.

        Args:
            target: As `resolve` returns it. A file there is replaced.

        Returns:
            The file's size in bytes.

        Raises:
            FileMissing: There is no source.
            BadRequest: The target is a folder, or leads through a file.
            NoSpace: The disk is full, or would be down to its reserve; nothing is left behind.
            ServiceUnavailable: The storage root is missing.
        """
        return await run_until_stopped(partial(self._install, source, target))

    async def delete(self, target: Path) -> None:
        """Remove a file, and then the folders that are empty without it, up to its type's folder.

        Args:
            target: As `resolve` returns it.

        Raises:
            FileMissing: There is no such file, or it is a folder.
        """
        await run_to_end(self._delete, target)

    async def remove_leftovers(self, older_than_seconds: float) -> None:
        """Remove what copies of `install` left beside their targets when their process died."""
        await run_to_end(self._remove_leftovers, time.time() - older_than_seconds)

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

    def _root_of(self, real_path: str) -> tuple[str, str]:
        for folder in (*_ALL_TYPES, _TEMP):
            root = self._real_folder(folder)
            if is_inside(real_path, root):
                return folder, root
        raise ValueError(f"not in the storage root: {real_path}")

    def _install(self, source: Path, target: Path, stop: threading.Event) -> int:
        if not self.main_dir.is_dir():
            raise ServiceUnavailable
        try:
            size = source.stat().st_size
        except FileNotFoundError:
            raise FileMissing from None
        with _translated_errors():
            for attempt in range(1, _PLACING_ATTEMPTS + 1):
                try:
                    make_folders(target.parent)
                    self._place(source, target, stop)
                    return size
                except FileNotFoundError:
                    # `delete` removes folders that are empty, also one that was made here just now.
                    if not source.exists():
                        raise FileMissing from None
                    if attempt == _PLACING_ATTEMPTS:
                        raise
        raise AssertionError("unreachable")

    def _place(self, source: Path, target: Path, stop: threading.Event) -> None:
        try:
            replace_durably(source, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        require_space(target.parent, source.stat().st_size, self._reserve_bytes)
        partial = partial_path(target)
        note = self.temp / partial.name
        make_folders(note.parent)
        # A link is written in one step, and tells the cleanup where to look without a walk over all files.
        os.symlink(partial, note)
        try:
            copy_beside(source, target, partial, stop)
        finally:
            note.unlink(missing_ok=True)
        source.unlink(missing_ok=True)

    def _delete(self, target: Path) -> None:
        _, root = self._root_of(str(target))
        try:
            target.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise FileMissing from None
        for folder in target.parents:
            if str(folder) == root:
                return
            try:
                folder.rmdir()
            except OSError:
                return

    def _remove_leftovers(self, before: float) -> None:
        try:
            notes = [entry for entry in self.temp.iterdir() if is_partial(entry.name)]
        except FileNotFoundError:
            return
        for note in notes:
            try:
                partial = note.readlink()
                # A copy that still grows is as young as its last write, however long it takes.
                newest = partial if partial.exists() else note
                if newest.lstat().st_mtime < before:
                    partial.unlink(missing_ok=True)
                    note.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        with full_disk_is_no_space():
            yield
    except IsADirectoryError:
        raise BadRequest("Path names a folder") from None
    except NotADirectoryError:
        raise BadRequest("Path leads through a file") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise BadRequest("Invalid path") from None
        raise
