"""Opening files by paths without symbolic links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from open_workshop_storage.utils.files.unlinked import UnlinkedOpener


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Has `real/file`, and links to the folder and the file."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"content")
    (tmp_path / "real" / "link").symlink_to("file")
    (tmp_path / "linked").symlink_to("real")
    return tmp_path.resolve()


@pytest.mark.parametrize("on_loop", [False, True])
def test_a_file_is_opened_by_its_real_path(on_loop: bool, folder: Path) -> None:
    descriptor = UnlinkedOpener(os.O_RDONLY, on_loop=on_loop).open(str(folder / "real" / "file"))
    assert descriptor is not None
    try:
        assert os.read(descriptor, 100) == b"content"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", ["real/link", "linked/file", "real/missing", "real/file/file"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
def test_nothing_is_opened_through_a_link(path: str, flags: int, folder: Path) -> None:
    assert UnlinkedOpener(flags).open(str(folder / path)) is None
