"""RARs made byte by byte: nothing free writes them (RAR 5.0 archive format; RAR 4 technote)."""

from __future__ import annotations

import struct
import zlib

RAR5_MAGIC, RAR4_MAGIC = b"Rar!\x1a\x07\x01\x00", b"Rar!\x1a\x07\x00"
SYMLINK, WINDOWS_SYMLINK, JUNCTION, HARD_LINK = 1, 2, 3, 4
STORED, NORMAL = 0, 3


def rar5(*files: bytes, volume: bool = False) -> bytes:
    """Return a RAR 5 archive, or the first piece of one in several."""
    return RAR5_MAGIC + _block5(1, _vint(int(volume))) + b"".join(files) + _block5(5, _vint(int(volume)))


def file5(
    name: bytes, content: bytes = b"", mode: int = 0o100644, method: int = STORED, extra: bytes = b"", crc: int = 0
) -> bytes:
    """Return a file, or a folder if the mode says so.

    Args:
        crc: Differs from the right one by this.
    """
    folder = mode >> 12 == 4
    fields = _vint(1 if folder else 4) + _vint(len(content)) + _vint(mode)
    if not folder:
        fields += struct.pack("<I", zlib.crc32(content) ^ crc)
    fields += _vint(method << 7) + _vint(1) + _vint(len(name)) + name
    return _block5(2, fields, extra, content)


def link5(kind: int, target: bytes) -> bytes:
    """Return the extra record that makes a file a link."""
    return _record5(5, _vint(kind) + _vint(0) + _vint(len(target)) + target)


def encrypted5() -> bytes:
    """Return the extra record that says that a file is encrypted."""
    return _record5(1, _vint(0) + _vint(0) + bytes([15]) + bytes(32))


def encrypted_headers5() -> bytes:
    """Return a RAR 5 archive with encrypted headers."""
    return RAR5_MAGIC + _block5(4, _vint(0) + _vint(0) + bytes([15]) + bytes(16)) + bytes(200)


def rar4(*files: bytes, flags: int = 0) -> bytes:
    """Return a RAR 4 archive."""
    return RAR4_MAGIC + _block4(0x73, flags, bytes(6)) + b"".join(files) + _block4(0x7B, 0x4000, b"")


def file4(
    name: bytes,
    content: bytes = b"",
    mode: int = 0o100644,
    method: int = STORED,
    flags: int = 0,
    behind_name: bytes = b"",
) -> bytes:
    """Return a file in a RAR 4 archive, or a folder if the flags say so."""
    sizes = struct.pack("<IIBI", len(content), len(content), 3, zlib.crc32(content))
    rest = struct.pack("<IBBHI", 0x21 << 16, 29, 0x30 + method, len(name), mode)
    high_sizes = bytes(8) if flags & 0x0100 else b""
    return _block4(0x74, 0x8000 | flags, sizes + rest + high_sizes + name + behind_name, content)


def in_unicode4(name: str) -> bytes:
    """Return what stands behind a name and its NUL in a RAR 4 archive: the name in UTF-16, two bits for each letter."""
    packed = b"\0"
    for start in range(0, len(name), 4):
        letters = name[start : start + 4]
        packed += bytes([sum(2 << (6 - 2 * index) for index in range(len(letters)))]) + letters.encode("utf-16-le")
    return packed


def _block5(kind: int, fields: bytes, extra: bytes = b"", data: bytes | None = None) -> bytes:
    header = _vint(kind) + _vint((1 if extra else 0) | (0 if data is None else 2))
    header += _vint(len(extra)) if extra else b""
    header += b"" if data is None else _vint(len(data))
    header += fields + extra
    header = _vint(len(header)) + header
    return struct.pack("<I", zlib.crc32(header)) + header + (data or b"")


def _record5(kind: int, data: bytes) -> bytes:
    record = _vint(kind) + data
    return _vint(len(record)) + record


def _vint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def _block4(kind: int, flags: int, fields: bytes, data: bytes = b"") -> bytes:
    header = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header + data
