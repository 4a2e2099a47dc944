"""Disk space that a file takes before it is written."""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE = 1
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


def reserve(descriptor: int, offset: int, size: int) -> None:
    """Set disk blocks aside for a part of an open file, whose size stays as it is (fallocate(2)).

    Where the file system cannot do so, nothing happens. `os.posix_fallocate` would write zeros there instead, and
    makes the file look complete before it is.

    Args:
        offset: Where the part begins, in bytes.
        size: Bytes, at least 1.

    Raises:
        OSError: The blocks cannot be had.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = ctypes.c_int(descriptor), ctypes.c_int(_KEEP_SIZE), ctypes.c_int64(offset), ctypes.c_int64(size)
    if libc.fallocate(*arguments) != 0 and (number := ctypes.get_errno()) not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number))
