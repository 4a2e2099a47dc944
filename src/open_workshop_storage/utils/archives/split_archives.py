"""Recognises pieces of archives that were split."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import CorruptData
from open_workshop_storage.utils.archives.zip_end_records import END, END_MAGIC, MAX_COMMENT_BYTES

# A piece from the middle has no other mark than the name that its writer gave it.
_PIECE_NAME = re.compile(r".\.(?:(?:7z|zip|rar|tar|gz|tgz|bz2|xz|zst)\.\d{3,}|[zr]\d{2,}|part\d+\.rar)$", re.IGNORECASE)


def refuse_piece(file: BinaryIO, name: str) -> int:
    """Judge a file that does not begin as an archive does; return its size in bytes. Blocks.

    Raises:
        CorruptData: It is a piece of a split archive: by its name, or by the end record of a split ZIP (APPNOTE 8.5).
        OSError: It cannot be read.
    """
    if _PIECE_NAME.search(name):
        raise CorruptData("a piece of an archive in several")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END.size - MAX_COMMENT_BYTES))
    tail = file.read()
    at = tail.rfind(END_MAGIC)
    if at >= 0 and len(tail) - at >= END.size:
        _, disk, _, _, _, _, _, comment_bytes = END.unpack_from(tail, at)
        if disk and at + END.size + comment_bytes == len(tail):
            raise CorruptData("the last piece of an archive in several")
    return size
