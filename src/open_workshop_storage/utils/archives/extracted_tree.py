"""Looks at what an archive turned into on the disk."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from open_workshop_storage.utils.archives.entry_names import decoded
from open_workshop_storage.utils.archives.faults import UnsafeEntry
from open_workshop_storage.utils.archives.special_files import refuse_special


def size_of_tree(folder: Path) -> int:
    """Return the bytes in all files below a folder, which may change while this runs. Blocks."""
    total = 0
    folders = [os.fspath(folder)]
    while folders:
        # What vanishes, or cannot be looked into yet, is counted when all is there.
        with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(folders.pop()) as children:
            for child in children:
                if child.is_dir(follow_symlinks=False):
                    folders.append(child.path)
                else:
                    total += child.stat(follow_symlinks=False).st_size
    return total


def settle_tree(folder: Path) -> int:
    """Judge what stands below a folder, and give it plain modes and names that are UTF-8. Blocks.

    Of modes, the owner's right to execute is kept.

    Returns:
        The bytes in all files.

    Raises:
        UnsafeEntry: There is a link, a special file, or a second file of one name.
        OSError: The tree cannot be read or changed.
    """
    total = 0
    folders = [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as children:
            found = list(children)
        for child in found:
            status = child.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            refuse_special(status.st_mode)
            if not is_folder and status.st_nlink > 1:
                raise UnsafeEntry("a hard link")
            mode = 0o755 if is_folder or status.st_mode & stat.S_IXUSR else 0o644
            if stat.S_IMODE(status.st_mode) != mode:
                os.chmod(child.path, mode)
            path = _with_plain_name(child)
            if is_folder:
                folders.append(path)
            else:
                total += status.st_size
    return total


def _with_plain_name(child: os.DirEntry[str]) -> str:
    raw = os.fsencode(child.name)
    name = decoded(raw)
    if os.fsencode(name) == raw:
        return child.path
    path = os.path.join(os.path.dirname(child.path), name)
    if os.path.lexists(path):
        raise UnsafeEntry("two files of one name")
    os.rename(child.path, path)
    return path
