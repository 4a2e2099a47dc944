"""The rules for names, against what an operating system makes of them."""

from __future__ import annotations

import ntpath
import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_workshop_storage.utils.archives.entry_rules import Entries, split_name
from open_workshop_storage.utils.archives.faults import CorruptData, UnpackedTooLarge, UnsafeEntry

NAMES = st.text(st.sampled_from("ab.:/\\C\0 "), max_size=12)


@given(NAMES)
@example("a/../../b")
@example("C:a")
@example("//host/share")
@example("::")
def test_no_name_that_passes_leaves_its_folder_on_linux_or_windows(name: str) -> None:
    try:
        split_name(name)
    except UnsafeEntry:
        return
    assert "\0" not in name
    assert (posixpath.normpath(posixpath.join("/root", name)) + "/").startswith("/root/")
    assert (ntpath.normpath(ntpath.join("X:\\root", name)) + "\\").startswith("X:\\root\\")


@pytest.mark.parametrize("name", ["a", "a/b", "./a", "a//b/", "..a", "a..", "...", "a/b: c", "a\\b", " ", "", "."])
def test_a_name_that_stays_passes(name: str) -> None:
    assert all(split_name(name))


def test_names_of_many_entries_are_kept_apart() -> None:
    entries = Entries(0, 0)
    for number in range(20_000):
        entries.add(f"folder {number % 100}/file {number}", 1, folder=False)
    assert entries.unpacked_bytes == 20_000
    with pytest.raises(UnsafeEntry):
        entries.add("folder 7/file 7", 1, folder=False)


def test_a_size_below_nothing_is_corrupt() -> None:
    with pytest.raises(CorruptData):
        Entries(0, 0).add("a", -1, folder=False)


def test_folders_that_only_stand_in_names_count_as_entries() -> None:
    Entries(0, 3).add("a/b/file", 1, folder=False)
    with pytest.raises(UnpackedTooLarge):
        Entries(0, 3).add("a/b/c/file", 1, folder=False)
    entries = Entries(0, 3)
    for name in ("a/b/", "a/", "a/file"):
        entries.add(name, 0, folder=False)
    with pytest.raises(UnpackedTooLarge):
        entries.add("one more", 0, folder=False)
