"""All files below a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_workshop_storage.utils.files.walking import paths_below


def test_files_and_links_are_found_and_no_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for path in ("a", "b/2", "b/1", "b/c/x"):
        (tmp_path / path).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    assert list(paths_below(str(tmp_path))) == ["a", "dead", "b/1", "b/2", "b/c/x"]
    assert list(paths_below(str(tmp_path / "nothing"))) == []


def test_what_cannot_be_read_is_not_passed_by(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        list(paths_below(str(tmp_path / "file")))
