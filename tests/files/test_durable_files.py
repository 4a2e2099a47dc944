"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from open_workshop_storage.utils.files.durable_files import (
    Stopped,
    can_sync,
    copy_beside,
    make_folders,
    replace_durably,
)
from open_workshop_storage.utils.files.paths import partial_path

CONTENT = b"content" * 1000


def test_a_copy_that_is_stopped_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    target.write_bytes(b"old")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        copy_beside(source, target, partial_path(target), stop)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}
    assert target.read_bytes() == b"old"


def test_a_source_that_another_process_has_moved_since_replaces_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.write_bytes(b"newer")
    with pytest.raises(FileNotFoundError):
        copy_beside(source, target, partial_path(target), threading.Event())
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_replaces_another_in_one_step(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    target.write_bytes(b"old")
    inode = source.stat().st_ino
    replace_durably(source, target)
    assert (target.read_bytes(), target.stat().st_ino, source.exists()) == (CONTENT, inode, False)


def test_folders_are_made_with_their_parents_but_not_through_files(tmp_path: Path) -> None:
    make_folders(tmp_path / "a/b/c")
    make_folders(tmp_path / "a/b/c")
    assert os.path.isdir(tmp_path / "a/b/c")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as refusal:
        make_folders(tmp_path / "file/below")
    assert refusal.value.errno == errno.ENOTDIR


def test_a_file_system_that_cannot_sync_folders_is_told_from_one_that_can(tmp_path: Path) -> None:
    assert can_sync(tmp_path)
    assert not can_sync(Path("/proc/self"))
    with pytest.raises(FileNotFoundError):
        can_sync(tmp_path / "nothing")
