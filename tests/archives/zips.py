"""ZIPs made byte by byte, so that they can be wrong in every way (PKWARE's APPNOTE 6.3.10, section 4)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

FILE_MODE = 0o100644
UNIX, FAT = 3, 0
UTF8, ENCRYPTED, SIZES_FOLLOW = 0x0800, 0x0001, 0x0008


@dataclass(frozen=True)
class Entry:
    """One entry; what is None follows from the rest, and what begins with `local_` differs in the local header."""

    name: bytes
    content: bytes = b""
    method: int = 8
    needed: int = 20
    flags: int = 0
    mode: int = FILE_MODE
    system: int = UNIX
    dos_attributes: int = 0
    extra: bytes = b""
    volume: int = 0
    size: int | None = None
    packed_as: bytes | None = None
    packed_size: int | None = None
    offset: int | None = None
    written: bool = True
    before: bytes = b""
    after: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_size: int | None = None
    local_packed: int | None = None
    local_crc: int | None = None
    local_extra: bytes | None = None

    def packed(self) -> bytes:
        """Return the data as they stand in the archive."""
        if self.packed_as is not None:
            return self.packed_as
        if self.method != 8:
            return self.content
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        return compressor.compress(self.content) + compressor.flush()


def zip_from(entries: Sequence[Entry], count: int | None = None, disk: int = 0, directory_shift: int = 0) -> bytes:
    """Return a ZIP.

    Args:
        count: The number of entries that the end record tells.
        disk: The number of the piece that the end record says it is in.
        directory_shift: Added to where the end record says that the directory is.
    """
    body, directory = bytearray(), bytearray()
    for entry in entries:
        body += entry.before
        directory += _central(entry, len(body))
        if entry.written:
            body += local_header(entry) + entry.packed() + entry.after
    told = len(entries) if count is None else count
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", disk, disk, told, told, len(directory), len(body) + directory_shift, 0)
    return bytes(body + directory + end)


def local_header(entry: Entry) -> bytes:
    """Return an entry's local header, with name and extra field."""
    name = _or(entry.local_name, entry.name)
    extra = _or(entry.local_extra, entry.extra)
    return (
        struct.pack(
            "<4sHHHHHIIIHH",
            b"PK\3\4",
            entry.needed,
            _or(entry.local_flags, entry.flags),
            _or(entry.local_method, entry.method),
            0,
            0x21,
            _or(entry.local_crc, zlib.crc32(entry.content)),
            _or(entry.local_packed, _or(entry.packed_size, len(entry.packed()))),
            _or(entry.local_size, _or(entry.size, len(entry.content))),
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def streamed(entry: Entry, large: bool = False) -> Entry:
    """Return the entry as one whose sizes follow the data, in 64 bits if they are to be large."""
    sizes = zlib.crc32(entry.content), len(entry.packed()), len(entry.content)
    follows = struct.pack("<4sIQQ" if large else "<4sIII", b"PK\7\x08", *sizes)
    return replace(entry, flags=entry.flags | SIZES_FOLLOW, local_size=0, local_packed=0, local_crc=0, after=follows)


def unicode_path(header_name: bytes, name: str) -> bytes:
    """Return an Info-ZIP Unicode Path extra field (APPNOTE 4.6.9)."""
    raw = name.encode()
    return struct.pack("<HHBI", 0x7075, 5 + len(raw), 1, zlib.crc32(header_name)) + raw


def overlapping(content: bytes) -> bytes:
    """Return a ZIP whose first entry's data are the second entry, header and all."""
    inner = Entry(b"inner", content)
    outer = Entry(b"outer", local_header(inner) + inner.packed(), method=0)
    return zip_from([outer, replace(inner, offset=len(local_header(outer)), written=False)])


def _central(entry: Entry, offset: int) -> bytes:
    return (
        struct.pack(
            "<4sBBHHHHHIIIHHHHHII",
            b"PK\1\2",
            20,
            entry.system,
            entry.needed,
            entry.flags,
            entry.method,
            0,
            0x21,
            zlib.crc32(entry.content),
            _or(entry.packed_size, len(entry.packed())),
            _or(entry.size, len(entry.content)),
            len(entry.name),
            len(entry.extra),
            0,
            entry.volume,
            0,
            (entry.mode << 16 if entry.system == UNIX else 0) | entry.dos_attributes,
            _or(entry.offset, offset),
        )
        + entry.name
        + entry.extra
    )


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
