"""Reads the names of an archive's entries (docs/API.md, "Names in archives")."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress

from open_workshop_storage.utils.archives.faults import NameTooLong, UnsafeEntry

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


def fits_disk(parts: Iterable[str]) -> bool:
    """Return whether a file system of Linux can hold a name of these parts."""
    return all(_size(part) <= _DISK_NAME_BYTES for part in parts)


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
