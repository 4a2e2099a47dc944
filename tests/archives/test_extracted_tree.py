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
