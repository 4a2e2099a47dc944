"""What a disk must be like: how much of it stays free, what a full one is refused with, and how a root lies on it.

Source: docs/API.md, "Reasons". All functions block.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from open_workshop_storage.core.errors import NoSpace
from open_workshop_storage.services.storage.files import MODS, TEMP, Complaint, StorageType
from open_workshop_storage.utils.files.durable_files import can_sync
from open_workshop_storage.utils.files.paths import is_inside

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_fault = partial(Complaint, True)


def is_full(error_number: int | None) -> bool:
    """Return whether an error number of the operating system says that a disk or a quota is full."""
    return error_number in _FULL


@contextmanager
def full_disk_is_no_space() -> Iterator[None]:
    """Turn the operating system's "disk full" inside the block into our refusal; other errors pass.

    Raises:
        NoSpace: The disk, or the user's quota on it, is full.
    """
    try:
        yield
    except OSError as error:
        if is_full(error.errno):
            raise NoSpace from error
        raise


def has_space(where: Path | int, wanted: int, reserve_bytes: int) -> bool:
    """Return whether a file system has room for more.

    Args:
        where: A path on it that exists, or an open file.
        wanted: Bytes to be written.
        reserve_bytes: Bytes that must be free after that.

    Raises:
        OSError: It cannot be asked.
    """
    return shutil.disk_usage(where).free - wanted >= reserve_bytes


def require_space(where: Path | int, wanted: int, reserve_bytes: int) -> None:
    """Make sure that a file system has room for more; the arguments are those of `has_space`.

    Raises:
        NoSpace: It has not.
        OSError: It cannot be asked.
    """
    if not has_space(where, wanted, reserve_bytes):
        raise NoSpace


def folders_can_sync(main_dir: Path) -> bool:
    """Return whether the file systems of all folders can sync them, so that a move cannot be lost."""
    return all(map(can_sync, _folders(main_dir)))


def complaints_about(main_dir: Path) -> list[Complaint]:
    """Return what is wrong with a storage root, for its operator."""
    if not os.path.isdir(main_dir):
        return [
            _fault(f"{main_dir} is no folder that this user can see; make or mount it, owned by the services' user")
        ]
    folders = _folders(main_dir)
    complaints = [
        _fault(f"{path} cannot be written by this user; chown -R it to the services' user, and run this as that user")
        for path in folders
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK)
    ]
    complaints += [
        _fault(f"{path} cannot be synced (fsync), so moves might be lost; use a file system that can, such as ext4")
        for path in folders
        if os.access(path, os.R_OK) and not can_sync(path)
    ]
    archive, *public = (os.path.realpath(main_dir / name) for name in StorageType)
    mods = os.path.realpath(main_dir / MODS)
    is_public = mods != f"{archive}/mods" and is_inside(mods, archive)
    if is_public or any(is_inside(mods, folder) or is_inside(folder, mods) for folder in public):
        text = (
            f"{MODS} leads to {mods}, where nginx takes files for public ones; let no link lead from one to the other"
        )
        complaints.append(_fault(text))
    if main_dir.stat().st_mode & stat.S_IWOTH:
        complaints.append(Complaint(False, f"every user may write to {main_dir}; chmod o-w"))
    if len({path.stat().st_dev for path in folders}) > 1:
        text = "its folders are on several file systems; a move copies each file, which takes time"
        complaints.append(Complaint(False, text))
    return complaints


def _folders(main_dir: Path) -> list[Path]:
    return [path for path in (main_dir, main_dir / TEMP, *map(main_dir.joinpath, StorageType)) if path.is_dir()]
