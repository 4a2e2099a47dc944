"""What an archive turned into on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from open_workshop_storage.utils.archives.extracted_tree import settle_tree
from open_workshop_storage.utils.archives.faults import UnsafeEntry


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: (folder / "link").symlink_to("/etc/passwd"), id="a link to a file"),
        pytest.param(lambda folder: (folder / "folder" / "link").symlink_to("."), id="a link to a folder"),
        pytest.param(lambda folder: os.mkfifo(folder / "pipe"), id="a pipe"),
        pytest.param(lambda folder: os.link(folder / "file", folder / "second"), id="a hard link"),
    ],
)
def test_whatever_is_no_plain_file_or_folder_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    assert settle_tree(tmp_path) == 1
    make(tmp_path)
    with pytest.raises(UnsafeEntry):
        settle_tree(tmp_path)


def test_backslashes_become_folders(tmp_path: Path) -> None:
    for name in ("m\\", "m\\s", "n", "n/t\\u"):
        (tmp_path / name).mkdir()
    for name in ("m\\a", "m\\s\\b", "n\\c", "n/t\\u/d", "o\\p\\e"):
        (tmp_path / name).write_bytes(b"x")
    assert settle_tree(tmp_path) == 5
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"m/a", "m/s/b", "n/c", "n/t/u/d", "o/p/e"}


@pytest.mark.parametrize("names", [("m/a", "m\\a"), ("m/s/a", "m\\s/b"), ("m/a/b", "m\\a")], ids="/".join)
def test_what_would_stand_at_one_place_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsafeEntry):
        settle_tree(tmp_path)


def test_nothing_is_moved_into_a_link(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "m").symlink_to(tmp_path)
    (tmp_path / "tree" / "m\\a").write_bytes(b"x")
    with pytest.raises(UnsafeEntry):
        settle_tree(tmp_path / "tree")
    assert not (tmp_path / "a").exists()
