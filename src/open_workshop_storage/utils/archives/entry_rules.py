"""The rules for kinds, names and sizes of an archive's entries, the same for all formats, and how names are read.

Source: docs/API.md, "Archives" and "Names in archives".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress

from open_workshop_storage.utils.archives.faults import CorruptData, NameTooLong, UnpackedTooLarge, UnsafeEntry

REPARSE_POINT = 0x0400
"""The attribute of Windows that links have, and other files that something else stands for."""
SPECIAL_TYPES = {"l": stat.S_IFLNK, "c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO, "s": stat.S_IFSOCK}
"""The types that are refused, by the letters that `ls` and `7z` write for them."""
# What Windows lets a name have, in UTF-16 units; the path leaves room for the folder that it is unpacked in.
_NAME_UNITS, _PATH_BYTES = 255, 3072
_DISK_NAME_BYTES = 255
# More folders in each other have no use, and what removes them opens all at once.
_MAX_DEPTH = 128
# Windows lets other characters than letters name a drive, too.
_DRIVE = re.compile(r".:", re.DOTALL)
_CODE_PAGES = (
    *("cp437", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp862", "cp866", "cp874", "cp932", "cp949"),
    *("big5hkscs", "gb18030", "euc-jp", "koi8-r", "koi8-u"),
    *(f"cp{number}" for number in range(1250, 1259)),
)
"""What archivers of DOS, Windows and old Unix systems wrote names in."""
_OTHERWISE = "cp437"
_MAX_GUESSED_BYTES = 64 * 1024


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
        self._fit_disk = self._fit_disk and all(_size(part) <= _DISK_NAME_BYTES for part in parts)
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


def split_name(name: str) -> list[str]:
    """Return the parts of an entry's name; none for the archive's own root.

    Raises:
        NameTooLong: It is longer than any file system takes.
        UnsafeEntry: The name is absolute, climbs, carries a drive letter or NUL, or is deeper than can be stored.
    """
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if "\0" in path or path.startswith("/") or ".." in parts or (parts and _DRIVE.match(parts[0])):
        raise UnsafeEntry("a name that escapes")
    if len(parts) > _MAX_DEPTH:
        raise UnsafeEntry("folders that are too deep")
    if any(_units(part) > _NAME_UNITS for part in parts) or sum(map(_size, parts)) + len(parts) > _PATH_BYTES:
        raise NameTooLong
    return parts


def is_utf8(raw: bytes) -> bool:
    """Return whether a name can be read as UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def code_page_of(names: Iterable[bytes]) -> str:
    """Guess what the names of an archive are in that are not UTF-8, from all of them; code page 437 where nothing fits.

    Args:
        names: Read until 64 KiB of them are not UTF-8.
    """
    text = bytearray()
    for name in names:
        if not is_utf8(name):
            text += name + b"\n"
        if len(text) > _MAX_GUESSED_BYTES:
            break
    # One letter could be anything.
    if sum(byte > 0x7F for byte in text) < 2:
        return _OTHERWISE
    # Its tables take 20 ms to load, and few archives need them.
    import chardet

    guess = chardet.detect(
        bytes(text),
        include_encodings=_CODE_PAGES,
        no_match_encoding=_OTHERWISE,
        prefer_superset=True,
        compat_names=False,
    )
    return guess["encoding"] or _OTHERWISE


def decoded(raw: bytes, code_page: str = "") -> str:
    """Return a name as UTF-8 if it can be read so, else as the code page if it fits, else as code page 437.

    Args:
        code_page: As Python calls it; empty if none is known.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        with suppress(UnicodeDecodeError):
            return raw.decode(code_page or _OTHERWISE)
        return raw.decode(_OTHERWISE)


def _units(part: str) -> int:
    return len(part.encode("utf-16-le", "surrogatepass")) // 2


def _size(part: str) -> int:
    return len(os.fsencode(part))
