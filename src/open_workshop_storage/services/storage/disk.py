"""The disk space that stays free whatever is stored, and what a full disk becomes (docs/API.md, "Reasons")."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from open_workshop_storage.core.errors import NoSpace

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


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
