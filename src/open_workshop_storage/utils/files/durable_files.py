"""Files that appear complete or not at all, and are still there after a power cut.

All functions block.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

_logger = logging.getLogger(__name__)

_COPY_BLOCK_BYTES = 8 * 1024 * 1024
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP)


class Stopped(Exception):
    """The caller stopped the work."""


def make_folders(folder: Path) -> None:
    """Make a folder and its missing parents, and write them to the disk.

    Raises:
        NotADirectoryError: A part of the path is a file.
        FileNotFoundError: Another process removed a folder as soon as it was there.
        OSError: A folder cannot be made.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        try:
            folder.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(folder.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        else:
            can_sync(folder.parent)


Label = Callable[[int], object]
"""Called with the descriptor of a complete file before it is synced, to set its attributes."""


def _no_label(descriptor: int) -> None:
    pass


def sync(path: Path, label: Label = _no_label) -> None:
    """Write a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        label(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def can_sync(folder: Path) -> bool:
    """Return whether a folder's file system can write its entries to the disk when told to (fsync(2)).

    Raises:
        OSError: The folder cannot be opened, or the disk fails.
    """
    try:
        sync(folder)
    except OSError as error:
        if error.errno in _NO_SYNC:
            return False
        raise
    return True


def replace_durably(source: Path, target: Path, label: Label = _no_label) -> None:
    """Rename a file on its own file system, in place of the target if there is one.

    Raises:
        OSError: With `errno.EXDEV` if the two are on different file systems.
    """
    sync(source, label)
    _rename_durably(source, target)


def copy_beside(source: Path, target: Path, partial: Path, stop: threading.Event, label: Label = _no_label) -> None:
    """Copy a file to a partial path in the target's folder, then rename it in place of the target.

    Args:
        partial: As `partial_path` gives it; nothing is left there if the copy fails.
        stop: Ends the copy when set.

    Raises:
        Stopped: The event was set before the copy was complete.
        FileNotFoundError: The source is gone, or was by the time that the copy was complete.
        OSError: The copy failed, or is shorter than the source.
    """
    try:
        with open(source, "rb") as reader, open(partial, "xb") as writer:
            size = os.fstat(reader.fileno()).st_size
            copied = 0
            while sent := os.sendfile(writer.fileno(), reader.fileno(), copied, _COPY_BLOCK_BYTES):
                copied += sent
                if stop.is_set():
                    raise Stopped
            if copied != size or os.fstat(writer.fileno()).st_size != size:
                raise OSError(errno.EIO, f"copied {copied} of {size} bytes", str(target))
            label(writer.fileno())
            os.fsync(writer.fileno())
        # While this process was asleep, another one may have moved the source, and put a newer file in its place.
        if not source.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        _rename_durably(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _rename_durably(source: Path, target: Path) -> None:
    os.rename(source, target)
    # The file is in place now; an error would tell the caller that it is not.
    try:
        sync(target.parent)
    except FileNotFoundError:
        # Another process may remove the file again at once, and its folder with it.
        pass
    except OSError as error:
        _logger.error("%s is in place, but may be gone after a power cut: %s", target, error.strerror)
