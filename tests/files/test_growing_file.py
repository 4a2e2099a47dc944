"""Reading a file that is still being written."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from open_workshop_storage.utils.files.durable_files import Stopped
from open_workshop_storage.utils.files.growing_file import GrowingFile

T = TypeVar("T")

CONTENT = bytes(range(200))


class Writing:
    """A file that the test writes, and another thread reads.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path, reader: ThreadPoolExecutor) -> None:
        self.file = GrowingFile(path)
        self._path = path
        self._reader = reader
        self._reader_id = reader.submit(threading.get_ident).result()

    def up_to(self, size: int) -> None:
        """Write so much of the content in all."""
        self._path.write_bytes(CONTENT[:size])
        self.file.grow(size)

    def asleep(self, work: Callable[[], T]) -> Future[T]:
        """Have the other thread do something, and return once it sleeps over it."""
        future = self._reader.submit(work)
        while sys._current_frames()[self._reader_id].f_code is not threading.Condition.wait.__code__:
            assert not future.done()
            time.sleep(0.001)
        return future

    def reading(self, size: int) -> Future[bytes]:
        """Have the other thread read, and return once it waits for what is not there."""
        return self.asleep(lambda: self.file.read(size))


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    with ThreadPoolExecutor(1) as reader:
        writing = Writing(tmp_path / "file", reader)
        with closing(writing.file):
            try:
                yield writing
            finally:
                writing.file.stop()


def test_a_read_waits_for_all_that_it_asks_for(writing: Writing) -> None:
    read = writing.reading(100)
    writing.up_to(99)
    writing.up_to(150)
    assert read.result() == CONTENT[:100]
    assert writing.file.read(50) == CONTENT[100:150]


def test_only_what_was_told_of_is_read(writing: Writing, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    writing.file.grow(10)
    assert writing.file.read(10) == CONTENT[:10]
    read = writing.reading(10)
    writing.file.grow(15)
    writing.file.end()
    assert read.result() == CONTENT[10:15]


def test_a_read_gets_what_is_left_when_the_file_ends(writing: Writing) -> None:
    writing.up_to(10)
    read = writing.reading(100)
    writing.up_to(60)
    writing.file.end()
    assert read.result() == CONTENT[:60]
    assert writing.file.read(100) == b""
    writing.file.seek(1 << 70)
    assert writing.file.read(100) == b""


def test_a_file_that_ends_before_it_is_there_is_empty(writing: Writing) -> None:
    read = writing.reading(100)
    writing.file.end()
    assert read.result() == b""


def test_a_place_that_is_not_written_yet_may_be_gone_to(writing: Writing) -> None:
    writing.up_to(10)
    assert writing.file.seek(5) == 5
    assert writing.file.read(2) == CONTENT[5:7]
    assert writing.file.seek(93, os.SEEK_CUR) == 100
    read = writing.reading(10)
    writing.up_to(110)
    assert read.result() == CONTENT[100:110]


def test_a_read_that_is_told_to_stop_raises_and_so_does_each_later_one(writing: Writing) -> None:
    writing.up_to(10)
    read = writing.reading(100)
    writing.file.stop()
    with pytest.raises(Stopped):
        read.result()
    with pytest.raises(Stopped):
        writing.file.read(1)


def test_a_reader_sleeps_until_there_is_enough_however_often_the_file_grows(writing: Writing) -> None:
    def read() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        writing.file.read(100)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    waking = writing.asleep(read)
    for _ in range(1000):
        writing.file.grow(99)
        # Lets go of the interpreter, which a reader that was woken would take.
        time.sleep(0)
    writing.up_to(100)
    assert waking.result() < 100
