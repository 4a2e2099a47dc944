"""Opens files by paths without symbolic links in one system call, which Python has no function for."""

from __future__ import annotations

import ctypes
import os
import struct

# The first lets other Python threads go on during a call.
_SYSCALL, _SHORT_SYSCALL = ctypes.CDLL(None).syscall, ctypes.PyDLL(None).syscall
_SYSCALL.restype = _SHORT_SYSCALL.restype = ctypes.c_long
# The number is the same on all architectures.
_OPENAT2 = 437
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 0x04


class UnlinkedOpener:
    """Opens files of which no part of the path is a symbolic link (openat2(2), `RESOLVE_NO_SYMLINKS`).

    Args:
        flags: Those of open(2).
        on_loop: Whether it is used on the event loop only, which stands still during the call in any case. The server's
            threads then do not take the interpreter away meanwhile, which would take longer than the call.
    """

    def __init__(self, flags: int, *, on_loop: bool = False) -> None:
        # `struct open_how`: flags, mode, resolve.
        self._how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
        self._syscall = _SHORT_SYSCALL if on_loop else _SYSCALL

    def open(self, path: str) -> int | None:
        """Return a descriptor that the caller closes.

        Returns:
            None if there is a link in the path, or nothing that can be opened, or if the system does not know or
            allow the call: Linux before 5.6, and some containers.
        """
        descriptor: int = self._syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), self._how, len(self._how))
        return None if descriptor < 0 else descriptor
