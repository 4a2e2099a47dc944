"""Takes from a thread, and from the processes that it starts, all that a parser of hostile files does not need.

Landlock (landlock(7), Linux 5.13) leaves them only the files that they are given; it also keeps them out of the memory
of other processes. A seccomp filter (seccomp(2), by libseccomp) takes sockets, signals and what Landlock does not see.
Neither needs privileges or namespaces, so that both work for ordinary users, in containers and under systemd.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import IntFlag
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_OF_THIS_THREAD = (ctypes.c_uint32 * 2)(0x20080522, 0)
"""The version of the structure, and whose it is (capset(2))."""

# The same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WITH_VERSION = 1
_PATH_BENEATH = 1
_VERSION_WITH_TRUNCATE = 3


class _Access(IntFlag):
    """What a child may do, of all that Landlock controls, by the names of linux/landlock.h."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    TRUNCATE = 1 << 14


_FIRST_VERSION = _Access(0x1FFF)
_READ = _Access.EXECUTE | _Access.READ_FILE | _Access.READ_DIR
_WRITE = (
    _Access.READ_FILE
    | _Access.READ_DIR
    | _Access.WRITE_FILE
    | _Access.TRUNCATE
    | _Access.REMOVE_DIR
    | _Access.REMOVE_FILE
    | _Access.MAKE_DIR
    | _Access.MAKE_REG
)
_FOR_FILES = _Access.EXECUTE | _Access.READ_FILE | _Access.WRITE_FILE | _Access.TRUNCATE

# What programs need to start: themselves, libraries, the time zone.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")

_FORBIDDEN = (
    # The network. Sockets that were inherited stay.
    "socket",
    "socketpair",
    # Signals to the service.
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "pidfd_send_signal",
    # Other processes' memory and files.
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    # Files by their paths, which Landlock knows since Linux 6.2.
    "truncate",
    # What this filter does not see, and parts of the kernel with a history.
    "io_uring_setup",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "unshare",
    "setns",
    "add_key",
    "request_key",
    "keyctl",
)
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NOT_EQUAL = 1
_UNKNOWN_CALL = -1
"""A call that is newer than the library, which then has no number for it."""


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def confine_thread(readable: Iterable[Path], writable: Iterable[Path]) -> list[str]:
    """Confine the calling thread for good, as far as this system can.

    Args:
        readable: Files, and folders with all that is below them, that may be read and run, besides the system's
            programs and libraries. Those that do not exist are left out.
        writable: Folders below which files may be read, written, made and removed.

    Returns:
        What is not confined, in words; nothing if all is well.
    """
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    problems = []
    try:
        _restrict_files(readable, writable)
    except OSError as error:
        problems.append(f"files (Landlock: {error})")
    try:
        _restrict_calls()
    except OSError as error:
        problems.append(f"network and signals (seccomp: {error})")
    # Root's. With no new privileges, programs do not give them back.
    _LIBC.capset(_CAPABILITIES_OF_THIS_THREAD, (ctypes.c_uint32 * 6)())
    return problems


def unconfined() -> list[str]:
    """Return what this system cannot confine, in words; nothing if all is well."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(confine_thread, [], []).result()


def _restrict_files(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    version = _call(_CREATE_RULESET, None, 0, _WITH_VERSION)
    known = _FIRST_VERSION if version < _VERSION_WITH_TRUNCATE else _FIRST_VERSION | _Access.TRUNCATE
    attributes = ctypes.c_uint64(known)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        for path in (*map(Path, (*_SYSTEM, *os.get_exec_path())), *readable):
            _allow(ruleset, path, _READ & known)
        for path in writable:
            _allow(ruleset, path, _WRITE & known)
        _allow(ruleset, Path(os.devnull), (_Access.READ_FILE | _Access.WRITE_FILE) & known)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: _Access) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                access &= _FOR_FILES
            rule = _PathBeneath(access, descriptor)
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _restrict_calls() -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    try:
        for name in _FORBIDDEN:
            _refuse(library, context, name)
        # Limits of other processes; the process itself is 0.
        _refuse(library, context, "prlimit64", _Comparison(0, _NOT_EQUAL, 0, 0))
        if code := library.seccomp_load(context):
            raise OSError(-code, os.strerror(-code))
    finally:
        library.seccomp_release(context)


def _refuse(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, *comparisons: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    rules = (_Comparison * len(comparisons))(*comparisons)
    code = library.seccomp_rule_add_array(context, ctypes.c_uint32(_REFUSE), number, len(comparisons), rules)
    if code and number != _UNKNOWN_CALL:
        raise OSError(-code, os.strerror(-code))
