"""Which ZIPs stay as they are, byte by byte (docs/API.md, "Archives").

What is not unsafe but unusual is packed anew, since two readers could read it differently.
"""

from __future__ import annotations

import stat
from collections.abc import Collection

from open_workshop_storage.utils.archives.central_directory import STORED, CentralHeader, says_folder
from open_workshop_storage.utils.archives.entry_names import is_utf8
from open_workshop_storage.utils.archives.special_files import REPARSE_POINT
from open_workshop_storage.utils.archives.zip_local_headers import SIZES_FOLLOW, UTF8

_USUAL_METHODS = frozenset({STORED, 8, 9, 12, 14, 93, 98})
"""Stored, Deflate, Deflate64, BZip2, LZMA, Zstandard and PPMd."""
OLD_METHODS, _OLD_VERSION, _NEW_VERSION = frozenset({STORED, 8, 9, 12}), 46, 63
"""The methods that a reader of version 4.6 knows, and the first version with all the others."""
_USUAL_FLAGS = 0x0006 | SIZES_FOLLOW | UTF8
"""The first are options of methods; readers differ in whether they mind others (APPNOTE 4.4.4)."""
_VOLUME_ATTRIBUTE = 0x0008
_ODD_MODES = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def stays(
    entries: Collection[tuple[CentralHeader, bool]], unpacked_bytes: int, *, is_plain: bool, is_tight: bool
) -> bool:
    """Tell whether a ZIP stays: all readers take the same from it, and it is at least 1 % smaller than what it holds.

    Args:
        entries: Each entry, and whether it is a folder.
        is_plain: Whether the file ends with its directory and a comment that cannot be taken for another one.
        is_tight: Whether local headers say the same as the directory, with nothing between the entries.
    """
    packed_bytes = sum(header.packed_bytes for header, _ in entries)
    # Deflate takes two bytes for each entry without any.
    saves_space = unpacked_bytes == 0 or packed_bytes * 100 <= unpacked_bytes * 99
    return is_plain and is_tight and saves_space and all(_is_usual(*entry) for entry in entries)


def _is_usual(header: CentralHeader, is_folder: bool) -> bool:
    """Tell whether all readers take the same for this entry, wherever its data are."""
    return (
        header.method in _USUAL_METHODS
        and header.is_sound
        # Some readers leave out what they take to be too new for them, or written in a way that they do not know.
        and header.needed <= (_OLD_VERSION if header.method in OLD_METHODS else _NEW_VERSION)
        and not header.flags & ~_USUAL_FLAGS
        and not header.attributes >> 16 & _ODD_MODES
        and not stat.S_ISFIFO(header.attributes >> 16)
        and not header.attributes & (REPARSE_POINT | _VOLUME_ATTRIBUTE)
        # Some readers go by the attributes, others by the name.
        and not (says_folder(header.attributes) and not header.name.endswith(b"/"))
        and not (is_folder and header.packed_bytes)
        # Readers of streams look for the sizes that follow among the data.
        and not (header.method == STORED and header.flags & SIZES_FOLLOW)
        and b"\\" not in header.name
        # What is UTF-8 and does not say so is another name to some; what is in an old code page stays as it is.
        and (header.name.isascii() or is_utf8(header.name) == bool(header.flags & UTF8))
    )
