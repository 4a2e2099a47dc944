"""Reads of RAR 4 headers what `7z` does not tell (RAR 4 technote)."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from open_workshop_storage.utils.archives.entry_rules import code_page_of, is_utf8, refuse_special

_MARK_BYTES = 7
_HEAD = struct.Struct("<HBHH")
_FILE = struct.Struct("<IIBIIBBHI")
_NAME_SIZE_AT = _HEAD.size + 19
_FILE_BLOCK, _END_BLOCK = 0x74, 0x7B
_HAS_DATA, _LARGE, _UNICODE = 0x8000, 0x0100, 0x0200
_ENCRYPTED_HEADERS = 0x0080
_MAIN_BLOCK = 0x73
_UNIX = 3


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The header of an entry.

    Attributes:
        start: Where it is in the file.
        content: All its bytes.
        name: What stands there for readers that know no Unicode, unless another name stands behind it.
        mode: Its Unix mode; 0 if it is not of Unix.
    """

    start: int
    content: bytes
    name: bytes
    name_at: int
    mode: int

    def renamed(self, name: bytes) -> bytes:
        """Return the header with a name in UTF-8 instead of its own."""
        _, kind, flags, _ = _HEAD.unpack_from(self.content)
        rest = self.content[self.name_at + len(self.name) :]
        numbers = bytearray(self.content[_HEAD.size : self.name_at])
        struct.pack_into("<H", numbers, _NAME_SIZE_AT - _HEAD.size, len(name))
        size = self.name_at + len(name) + len(rest)
        checked = struct.pack("<BHH", kind, flags | _UNICODE, size) + numbers + name + rest
        return struct.pack("<H", zlib.crc32(checked) & 0xFFFF) + checked


def inspect_rar4(file: BinaryIO) -> str:
    """Judge the Unix modes of a RAR 4 archive's entries, which 7-Zip before 26 does not show for links. Blocks.

    It stops quietly at headers that make no sense: 7-Zip judges those.

    Returns:
        The code page that names are most probably in; empty if all are in Unicode.

    Raises:
        UnsafeEntry: An entry is a link or a special file.
    """
    names: list[bytes] = []
    for header in file_headers(file):
        refuse_special(header.mode)
        if not is_utf8(header.name):
            names.append(header.name)
    return code_page_of(names) if names else ""


def file_headers(file: BinaryIO) -> Iterator[FileHeader]:
    """Yield the headers of entries, as far as they make sense. Blocks."""
    size = os.fstat(file.fileno()).st_size
    position = _MARK_BYTES
    while position + _HEAD.size <= size:
        file.seek(position)
        head = file.read(_HEAD.size)
        _, kind, flags, length = _HEAD.unpack(head)
        body = file.read(length - _HEAD.size) if length > _HEAD.size else b""
        if kind == _END_BLOCK or length < _HEAD.size or (kind == _MAIN_BLOCK and flags & _ENCRYPTED_HEADERS):
            return
        start, position = position, position + length
        if kind == _FILE_BLOCK and len(body) >= _FILE.size:
            packed, _, system, _, _, _, _, name_bytes, mode = _FILE.unpack_from(body)
            high = int.from_bytes(body[_FILE.size : _FILE.size + 4], "little") if flags & _LARGE else 0
            position += packed + (high << 32)
            name_at = _FILE.size + (8 if flags & _LARGE else 0)
            name = body[name_at : name_at + name_bytes]
            if flags & _UNICODE and b"\0" in name:
                # The name in Unicode stands behind it.
                name = b""
            yield FileHeader(start, head + body, name, _HEAD.size + name_at, mode if system == _UNIX else 0)
        elif flags & _HAS_DATA and len(body) >= 4:
            position += int.from_bytes(body[:4], "little")
