"""The rules for kinds, names and sizes of an archive's entries, the same for all formats (docs/API.md, "Archives")."""

from __future__ import annotations

import stat

from open_workshop_storage.utils.archives.entry_names import fits_disk, split_name
from open_workshop_storage.utils.archives.faults import CorruptData, NameTooLong, UnpackedTooLarge, UnsafeEntry

REPARSE_POINT = 0x0400
"""The attribute of Windows that links have, and other files that something else stands for."""
SPECIAL_TYPES = {"l": stat.S_IFLNK, "c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO, "s": stat.S_IFSOCK}
"""The types that are refused, by the letters that `ls` and `7z` write for them."""


class _Folder(dict[str, "_Folder | None"]):
    """The children of a folder by name; None for a file."""


class Entries:
    """Takes the entries of one archive one by one and refuses the first that breaks a rule.

    Args:
        max_bytes: The limit on all entries together, unpacked; 0 for none.
        max_entries: The limit on files and folders, including folders that are only part of names; 0 for none.
    """

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_entries = max_entries
        self.unpacked_bytes = 0
        self._max_bytes = max_bytes
        self._count = 0
        self._root = _Folder()
        self._fit_disk = True

    def add(self, name: str, size: int, folder: bool) -> list[str]:
        """Count one entry, and return the parts of its name.

        Args:
            size: Its unpacked size in bytes.
            folder: Whether it is a folder; a name that ends in a separator says so too.

        Raises:
            UnsafeEntry: The name escapes, or stands for the same place as an earlier file's.
            NameTooLong: No file system takes the name.
            CorruptData: The size cannot be.
            UnpackedTooLarge: A limit is passed.
        """
        parts = split_name(name)
        folder = folder or name.endswith(("/", "\\"))
        if folder and size:
            raise CorruptData(f"a folder of {size} bytes")
        self.grow(size)
        self._fit_disk = self._fit_disk and fits_disk(parts)
        self._place(parts, folder)
        return parts

    def grow(self, size: int) -> None:
        """Count the bytes of an entry.

        Raises:
            CorruptData: The size cannot be.
            UnpackedTooLarge: The limit on bytes is passed.
        """
        if size < 0:
            raise CorruptData(f"size {size}")
        self.unpacked_bytes += size
        if 0 < self._max_bytes < self.unpacked_bytes:
            raise UnpackedTooLarge

    def require_short_names(self) -> None:
        """Judge the names of all entries so far, of an archive that has to be extracted.

        Raises:
            NameTooLong: This disk cannot hold one of them.
        """
        if not self._fit_disk:
            raise NameTooLong

    def _place(self, parts: list[str], folder: bool) -> None:
        place = self._root
        for part in parts if folder else parts[:-1]:
            if part not in place:
                self._count_one()
                place[part] = _Folder()
            child = place[part]
            if child is None:
                raise UnsafeEntry("a file stands where a folder should")
            place = child
        if folder:
            return
        if not parts or parts[-1] in place:
            raise UnsafeEntry("two entries of one name")
        self._count_one()
        place[parts[-1]] = None

    def _count_one(self) -> None:
        self._count += 1
        if 0 < self.max_entries < self._count:
            raise UnpackedTooLarge("more entries than the limit")


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
