"""The rules for the names and sizes of an archive's entries, the same for all formats (docs/API.md, "Archives")."""

from __future__ import annotations

import os
import re

from open_workshop_storage.utils.archives.faults import CorruptData, UnpackedTooLarge, UnsafeEntry

# No file system of ours holds longer ones; the path leaves room for the folder that it is unpacked in.
_NAME_BYTES, _PATH_BYTES = 255, 3072
# More folders in each other have no use, and what removes them opens all at once.
_MAX_DEPTH = 128
# Windows lets other characters than letters name a drive, too.
_DRIVE = re.compile(r".:", re.DOTALL)
_SEEN = ""
"""Marks, among a folder's children, that the folder has an entry of its own; no child can have this name."""
_ANY_RATIO_BYTES = 256 * 1024 * 1024
"""As much may come out of an archive of any size: a small one of much alike is no bomb."""


class _Folder(dict[str, "_Folder | None"]):
    """The children of a folder by name; None for a file."""


class Entries:
    """Takes the entries of one archive one by one and refuses the first that breaks a rule.

    Args:
        max_bytes: The limit on all entries together, unpacked; 0 for none.
        max_entries: The limit on files and folders, those included that only stand in names; 0 for none.
    """

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_entries = max_entries
        self.unpacked_bytes = 0
        self._max_bytes = max_bytes
        self._count = 0
        self._root = _Folder()

    def add(self, name: str, size: int, folder: bool) -> None:
        """Count one entry.

        Args:
            name: Its name, as far as the format tells.
            size: Its unpacked size in bytes.
            folder: Whether it is a folder; a name that ends in a separator says so too.

        Raises:
            UnsafeEntry: The name escapes, or stands for the same place as an earlier entry's.
            CorruptData: The size cannot be.
            UnpackedTooLarge: A limit is passed.
        """
        parts = split_name(name)
        folder = folder or name.endswith(("/", "\\"))
        if size < 0 or (folder and size):
            raise CorruptData(f"size {size}")
        self.unpacked_bytes += size
        if 0 < self._max_bytes < self.unpacked_bytes:
            raise UnpackedTooLarge
        self._place(parts, folder)

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
        last = _SEEN if folder else parts[-1] if parts else _SEEN
        if last in place or (not folder and not parts):
            raise UnsafeEntry("two entries of one name")
        if not folder:
            self._count_one()
        place[last] = None

    def _count_one(self) -> None:
        self._count += 1
        if 0 < self.max_entries < self._count:
            raise UnpackedTooLarge("more entries than the limit")


def ratio_limit(archive_bytes: int, max_ratio: int) -> int:
    """Return how many bytes may come out of an archive of that size; 0 for any number.

    Args:
        max_ratio: How many for each of its own; 0 for any number.
    """
    return max(archive_bytes * max_ratio, _ANY_RATIO_BYTES) if max_ratio else 0


def split_name(name: str) -> list[str]:
    """Return the parts of an entry's name; none for the archive's own root.

    Raises:
        UnsafeEntry: The name is absolute, climbs, carries a drive letter or NUL, or is longer or deeper than can be
            stored.
    """
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if "\0" in path or path.startswith("/") or ".." in parts or (parts and _DRIVE.match(parts[0])):
        raise UnsafeEntry("a name that escapes")
    sizes = [len(os.fsencode(part)) for part in parts]
    if len(parts) > _MAX_DEPTH:
        raise UnsafeEntry("folders that are too deep")
    if sizes and (max(sizes) > _NAME_BYTES or sum(sizes) + len(sizes) > _PATH_BYTES):
        raise UnsafeEntry("a name that is too long")
    return parts


def decode_name(raw: bytes) -> str:
    """Return a name whose encoding the archive does not tell: UTF-8 if it can be, else code page 437 as in old ZIPs."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")
