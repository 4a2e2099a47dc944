"""Puts permanent files in their places on a disk, and removes them. All functions block."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from open_workshop_storage.core.errors import BadRequest, FileMissing
from open_workshop_storage.services.storage.disk import full_disk_is_no_space, require_space
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.local_facts import keep_facts
from open_workshop_storage.utils.files.durable_files import copy_beside, make_folders, replace_durably
from open_workshop_storage.utils.files.paths import is_partial, partial_path

_PLACING_ATTEMPTS = 5


def place(
    source: Path, target: Path, facts: Facts | None, notes: Path, reserve_bytes: int, stop: threading.Event
) -> int:
    """Move a file to its place, durably and in one step for readers; return its size in bytes.

    If it is on another file system it is copied to a partial file beside the target first; `remove_leftovers` finds
    those that a dead process left there.

    Args:
        notes: A folder for links to partial files.
        reserve_bytes: Disk space that a copy leaves free.
        stop: Ends a copy when set.

    Raises:
        FileMissing: There is no source.
        BadRequest: The target is a folder, or leads through a file.
        NoSpace: The disk is full, or would be down to its reserve; nothing is left behind.
        Stopped: The event was set before a copy was complete.
    """
    try:
        size = source.stat().st_size
    except FileNotFoundError:
        raise FileMissing from None
    with _our_errors():
        attempts_left = _PLACING_ATTEMPTS
        while True:
            try:
                make_folders(target.parent)
                _rename_or_copy(source, target, facts, notes, reserve_bytes, stop)
                return size
            except FileNotFoundError:
                # `remove` takes folders that are empty, also one that was made here just now.
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


def remove_leftovers(notes: Path, before: float) -> None:
    """Remove partial files that `place` left, and their links, if they were last written before a Unix time."""
    try:
        links = [entry for entry in notes.iterdir() if is_partial(entry.name)]
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
def _our_errors() -> Iterator[None]:
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
