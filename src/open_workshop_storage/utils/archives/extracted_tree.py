"""Looks at what an archive turned into on the disk."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from open_workshop_storage.utils.archives.entry_names import decoded, split_name
from open_workshop_storage.utils.archives.entry_rules import refuse_special
from open_workshop_storage.utils.archives.faults import UnsafeEntry

_FOLDER_MODE = 0o755


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
