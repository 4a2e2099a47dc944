"""Reads of RAR 4 headers what `7z` does not always list."""

from __future__ import annotations

import os
import stat
import struct
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import UnsafeEntry

_MARK_BYTES = 7
_HEAD = struct.Struct("<HBHH")
_FILE = struct.Struct("<IIBIIBBHI")
_FILE_BLOCK, _END_BLOCK = 0x74, 0x7B
_HAS_DATA, _LARGE = 0x8000, 0x0100
_ENCRYPTED_HEADERS = 0x0080
_MAIN_BLOCK = 0x73
_UNIX = 3


def refuse_rar4_links(file: BinaryIO) -> None:
    """Judge the Unix modes of a RAR 4 archive's entries, which 7-Zip before 26 does not show for links. Blocks.

    It stops quietly at headers that make no sense: 7-Zip judges those.

    Raises:
        UnsafeEntry: An entry is a link or a special file.
    """
    size = os.fstat(file.fileno()).st_size
    position = _MARK_BYTES
    while position + _HEAD.size <= size:
        file.seek(position)
        _, kind, flags, length = _HEAD.unpack(file.read(_HEAD.size))
        body = file.read(length - _HEAD.size) if length > _HEAD.size else b""
        if kind == _END_BLOCK or length < _HEAD.size or (kind == _MAIN_BLOCK and flags & _ENCRYPTED_HEADERS):
            return
        position += length
        if kind == _FILE_BLOCK and len(body) >= _FILE.size:
            packed, _, system, _, _, _, _, _, mode = _FILE.unpack_from(body)
            if system == _UNIX and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeEntry("a link or special file")
            high = int.from_bytes(body[_FILE.size : _FILE.size + 4], "little") if flags & _LARGE else 0
            position += packed + (high << 32)
        elif flags & _HAS_DATA and len(body) >= 4:
            position += int.from_bytes(body[:4], "little")
