"""One permanent file on a disk: what is read of it and kept with it, how it takes another's place, and how it goes.

All functions block.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from open_workshop_storage.core.errors import BadRequest, FileMissing, ServiceUnavailable
from open_workshop_storage.services.storage.disk import full_disk_is_no_space, require_space
from open_workshop_storage.services.storage.files import TEMP, Facts, StoredFile
from open_workshop_storage.utils.files.digests import is_sha256
from open_workshop_storage.utils.files.durable_files import copy_beside, make_folders, replace_durably
from open_workshop_storage.utils.files.paths import is_partial, partial_path
from open_workshop_storage.utils.files.reading import BlockReader

_ATTRIBUTE = "user.open_workshop_storage"
_PLACING_ATTEMPTS = 5

Version = tuple[int | str, ...]


class OpenedLocalFile:
    """A file that is open until it is closed, as it is after the block; an implementation of `ReopenedFile`."""

    def __init__(self, file: StoredFile, descriptor: int, reader: BlockReader) -> None:
        self.file = file
        self._descriptor = descriptor
        self._reader = reader

    async def __aenter__(self) -> OpenedLocalFile:
        return self

    async def __aexit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> Coroutine[Any, Any, bytes | bytearray]:
        """Read from the page cache at once, else in a thread; raises as `OpenedFile.read`."""
        return self._reader.read(self._descriptor, offset, length)


def open_present(file: StoredFile, path: str, reader: BlockReader) -> OpenedLocalFile:
    """Open a file that was looked up, or what has replaced it.

    Raises:
        FileMissing: It has gone.
        OSError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise FileMissing from None
    status = os.fstat(descriptor)
    version = version_of(status)
    if version != file.version:
        file = file._replace(
            size=status.st_size, modified_ns=status.st_mtime_ns, version=version, changed_ns=status.st_ctime_ns
        )
    return OpenedLocalFile(file, descriptor, reader)


def version_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs between two versions of a file: time of the last change, size and inode."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def keep_facts(descriptor: int, facts: Facts | None) -> bool:
    """Keep facts with an open file that is complete; return False if there are none, or the disk does not keep them."""
    if facts is None:
        return False
    version = version_of(os.fstat(descriptor))
    try:
        os.setxattr(descriptor, _ATTRIBUTE, json.dumps({"version": version, **facts._asdict()}).encode())
    except OSError:
        return False
    return True


def keep_with_version(path: str, version: Version, facts: Facts) -> bool:
    """Keep facts with a file if it still is this version; return whether they are kept.

    Raises:
        FileMissing: It has gone.
    """
    try:
        with open(path, "rb") as opened:
            return version_of(os.fstat(opened.fileno())) == version and keep_facts(opened.fileno(), facts)
    except FileNotFoundError:
        raise FileMissing from None


def kept_facts(path: str, version: Version | None) -> Facts | None:
    """Return the facts that were kept with this version of a file, or with any; None if there are none."""
    try:
        kept = json.loads(os.getxattr(path, _ATTRIBUTE))
        if version is not None and tuple(kept["version"]) != version:
            return None
        unpacked_bytes = kept["unpacked_bytes"]
        # What was written before digests were kept has none.
        sha256 = kept.get("sha256") or ""
        return Facts(None if unpacked_bytes is None else int(unpacked_bytes), sha256 if is_sha256(sha256) else None)
    except (OSError, ValueError, TypeError, KeyError):
        # There is no attribute, or another program has written something else there.
        return None


def place(
    source: Path, target: Path, facts: Facts | None, main_dir: Path, reserve_bytes: int, stop: threading.Event
) -> int:
    """Move a file to its place, durably and in one step for readers; return its size in bytes.

    If it is on another file system it is copied to a partial file beside the target first; `remove_leftovers` finds
    those that a dead process left there.

    Args:
        main_dir: The storage root; its folder `TEMP` gets links to partial files.
        reserve_bytes: Disk space that a copy leaves free.
        stop: Ends a copy when set.

    Raises:
        FileMissing: There is no source.
        BadRequest: The target is a folder, or leads through a file.
        NoSpace: The disk is full, or would be down to its reserve; nothing is left behind.
        ServiceUnavailable: The storage root is away.
        Stopped: The event was set before a copy was complete.
    """
    if not main_dir.is_dir():
        raise ServiceUnavailable
    with _os_errors_as_ours():
        attempts_left = _PLACING_ATTEMPTS
        while True:
            try:
                size = source.stat().st_size
                make_folders(target.parent)
                _rename_or_copy(source, target, facts, main_dir / TEMP, reserve_bytes, stop)
                return size
            except FileNotFoundError:
                # `remove` removes empty folders, such as one that was made here just now.
                if not source.exists():
                    raise FileMissing from None
                attempts_left -= 1
                if not attempts_left:
                    raise


def remove(target: Path, root: Path) -> None:
    """Remove a file, and then the folders that are empty without it, up to a root that stays.

    Raises:
        FileMissing: There is no such file, or it is a folder.
    """
    try:
        target.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileMissing from None
    for folder in target.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def remove_leftovers(main_dir: Path, before: float) -> None:
    """Remove partial files that `place` left, and their links, if they were last written before a Unix time."""
    try:
        links = [entry for entry in (main_dir / TEMP).iterdir() if is_partial(entry.name)]
    except FileNotFoundError:
        return
    for link in links:
        try:
            unfinished = link.readlink()
            # A copy that still grows is as young as its last write, however long it takes.
            newest = unfinished if unfinished.exists() else link
            if newest.lstat().st_mtime < before:
                unfinished.unlink(missing_ok=True)
                link.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


def _rename_or_copy(
    source: Path, target: Path, facts: Facts | None, notes: Path, reserve_bytes: int, stop: threading.Event
) -> None:
    finish = partial(_finish, target, facts)
    try:
        replace_durably(source, target, finish)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    require_space(target.parent, source.stat().st_size, reserve_bytes)
    unfinished = partial_path(target)
    link = notes / unfinished.name
    make_folders(notes)
    # A link is written in one step, and tells the cleanup where to look without a walk over all files.
    os.symlink(unfinished, link)
    try:
        copy_beside(source, target, unfinished, stop, finish)
    finally:
        link.unlink(missing_ok=True)
    source.unlink(missing_ok=True)


def _finish(target: Path, facts: Facts | None, descriptor: int) -> None:
    """Give a complete file its last attributes before it takes the place of another one."""
    # The entity tag consists of the second of the last change and the size: two versions must not share a second.
    with suppress(FileNotFoundError):
        earliest_ns = (target.stat().st_mtime_ns // 10**9 + 1) * 10**9
        if os.fstat(descriptor).st_mtime_ns < earliest_ns:
            os.utime(descriptor, ns=(earliest_ns, earliest_ns))
    keep_facts(descriptor, facts)


@contextmanager
def _os_errors_as_ours() -> Iterator[None]:
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
