"""Processes as Linux shows them under `/proc`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_ESTABLISHED = "01"
_KEEPALIVE = "02"


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes that a process has started, directly or not, zombies excepted."""
    started_by = _processes_by_parent()
    found = list(started_by.get(pid, ()))
    for child in found:
        found.extend(started_by.get(child, ()))
    return found


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started itself, zombies excepted."""
    return _processes_by_parent().get(pid, [])


def python_children(pid: int) -> list[int]:
    """Return the ids of the processes below one that call Python functions for it."""
    found = []
    for child in descendants(pid):
        with suppress(OSError):
            if b"python_child" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def _processes_by_parent() -> dict[int, list[int]]:
    started_by: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold blanks and parentheses itself.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            started_by.setdefault(int(parent), []).append(int(stat.parent.name))
    return started_by


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def age_seconds(pid: int) -> float:
    """Return how long ago a process was started; 0 if it has ended."""
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes; those that have ended by themselves are left out."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(pids: Iterable[int]) -> None:
    """Kill processes, and return when they are gone; those that have ended by themselves are left out."""
    killed = []
    for pid in filter(is_running, pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    while any(map(is_running, killed)):
        time.sleep(0.01)


def connections(pid: int, port: int) -> int:
    """Return how many established TCP connections to a local port one process holds."""
    inodes = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held += str(descriptor.readlink()) in inodes
        except OSError:
            continue
    return held


def keepalive_timers(port: int) -> list[bool]:
    """Tell of each established TCP connection that was accepted on a local port whether its client is to be probed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = [fields for fields in lines if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == _ESTABLISHED]
    return [fields[5].startswith(_KEEPALIVE) for fields in here]
