"""File names from outside, made safe for any file system and for any ZIP reader."""

from __future__ import annotations

import re
import unicodedata

_FALLBACK = "file"
_MAX_BYTES = 200
# Windows forbids these in names, besides the separators.
_FORBIDDEN = re.compile(r'[<>:"|?*]')
# Windows takes these for devices, whatever follows a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\.|$)", re.IGNORECASE)
# Persian words, many emoji and the flags of countries in countries are spelled with these invisible characters.
_SPELLING = "\u200c\u200d" + "".join(map(chr, range(0xE0020, 0xE0080)))


def safe_file_name(name: str) -> str:
    """Return the last part of a path-like name, without anything that has a meaning to a system or a reader.

    The result is at most 200 bytes of UTF-8 and never empty, `.` or `..`.
    """
    last = re.split(r"[/\\]", name.encode(errors="replace").decode())[-1]
    visible = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf") or char in _SPELLING)
    safe = _FORBIDDEN.sub("_", visible).lstrip(" ").rstrip(" .")
    if not safe.strip(_SPELLING):
        return _FALLBACK
    if _DEVICE.match(safe):
        safe = f"_{safe}"
    stem, dot, extension = safe.rpartition(".")
    if dot and len(extension.encode()) <= 20:
        room = _MAX_BYTES - len(extension.encode()) - 1
        safe = stem.encode()[:room].decode(errors="ignore") + dot + extension
    return safe.encode()[:_MAX_BYTES].decode(errors="ignore").rstrip(" .")
