"""File names from outside, made safe for any file system and for any ZIP reader."""

from __future__ import annotations

import re
import unicodedata

_FALLBACK = "file"
_MAX_BYTES = 200
# What Windows forbids in names besides the separators; control characters are told by their category.
_FORBIDDEN = re.compile(r'[<>:"|?*]')


def safe_file_name(name: str) -> str:
    """Return the last part of a path-like name, without anything that means more than itself.

    The result is at most 200 bytes of UTF-8 and never empty, `.` or `..`.
    """
    last = re.split(r"[/\\]", name.encode(errors="replace").decode())[-1]
    printable = "".join(char for char in last if unicodedata.category(char)[0] != "C")
    safe = _FORBIDDEN.sub("_", printable).strip(" .")
    stem, dot, extension = safe.rpartition(".")
    if dot and len(extension.encode()) <= 20:
        room = _MAX_BYTES - len(extension.encode()) - 1
        safe = stem.encode()[:room].decode(errors="ignore") + dot + extension
    return safe.encode()[:_MAX_BYTES].decode(errors="ignore") or _FALLBACK
