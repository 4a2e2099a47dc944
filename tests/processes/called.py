"""Functions that tests call in child processes."""

from __future__ import annotations

import os
import signal
import time
from typing import BinaryIO


class Refused(Exception):
    """An error that callers expect."""


def add(first: int, second: int) -> int:
    """Return a sum."""
    return first + second


def process_id() -> int:
    """Return the id of the process that runs this."""
    return os.getpid()


def first_half(source: BinaryIO, size: int) -> str:
    """Read the beginning of a file."""
    return source.read(size).decode()


def copy(source: BinaryIO, target: BinaryIO) -> int:
    """Copy a file and return how much that was."""
    return target.write(source.read())


def write_here(name: str, text: str) -> None:
    """Write a file in the current folder."""
    with open(name, "w") as file:
        file.write(text)


def refuse(text: str) -> None:
    """Raise an error that callers expect."""
    raise Refused(text)


def divide_by_zero() -> float:
    """Raise an error that no caller expects."""
    return 1 / 0


def fill_disk() -> None:
    """Raise an error of the operating system."""
    raise OSError(28, "disk full")


def crash() -> None:
    """End the process as a decoder's fault would."""
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def work(seconds: float) -> int:
    """Use a core for so long, and return the process's id."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def spin() -> None:
    """Use a core for ever."""
    while True:
        pass


def use_memory(size: int) -> int:
    """Hold so many bytes."""
    return len(bytes(size))


def say(size: int) -> str:
    """Return a long text."""
    print("no answer")
    return "x" * size
