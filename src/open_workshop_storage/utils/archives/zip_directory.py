"""What a ZIP's central directory tells about its entries."""

from __future__ import annotations

import struct
import zipfile

_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
"""Traditional or AES encryption, strong encryption, masked headers (APPNOTE 6.3.10, section 4.4.4)."""


def unpacked_size(path: str) -> int | None:
    """Return the sum of a ZIP's announced unpacked sizes in bytes. Blocks.

    Returns:
        None if the file cannot be read as a ZIP, or an entry is encrypted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError, struct.error):
        return None
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        return None
    return sum(entry.file_size for entry in entries)
