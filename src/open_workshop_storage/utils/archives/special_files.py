"""Which entries are links or special files, whatever the format that says so (docs/API.md, "Archives")."""

from __future__ import annotations

import stat

from open_workshop_storage.utils.archives.faults import UnsafeEntry

REPARSE_POINT = 0x0400
"""The attribute of Windows that links have, and other files that something else stands for."""
SPECIAL_TYPES = {"l": stat.S_IFLNK, "c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO, "s": stat.S_IFSOCK}
"""The types that are refused, by the letters that `ls` and `7z` write for them."""


def refuse_special(
    mode: int, *, is_link: bool = False, is_reparse_point: bool = False, size: int = 0, is_folder: bool = False
) -> None:
    """Judge what an entry is said to be.

    Args:
        mode: As Unix writes it; 0 if the format does not tell.
        is_link: Whether the format says in its own way that it is a link, hard or symbolic.
        is_reparse_point: Whether its attributes of Windows say that it is one.
        size: Its unpacked size in bytes.

    Raises:
        UnsafeEntry: It is a link or a special file.
    """
    # Of a folder, and of a file with content, the attribute tells only where it once was.
    is_windows_link = is_reparse_point and not size and not is_folder
    if is_link or is_windows_link or stat.S_IFMT(mode) in SPECIAL_TYPES.values():
        raise UnsafeEntry("a link or special file")
