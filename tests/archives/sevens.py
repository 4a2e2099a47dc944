"""7z archives made byte by byte, with attributes that `7z` does not write here (7zFormat.txt of the LZMA SDK)."""

from __future__ import annotations

import lzma
import struct
import zlib

READ_ONLY, HIDDEN, FOLDER, ARCHIVE, SPARSE, REPARSE, UNIX_MODE = 1, 2, 0x10, 0x20, 0x200, 0x400, 0x8000


def seven_zip_from(*items: tuple[str, bytes | None, int]) -> bytes:
    """Return a 7z archive.

    Args:
        items: Name, content (None for a folder) and attributes, in whose upper half a Unix mode may stand.
    """
    packed = [(_lzma(content), content) for _, content, _ in items if content]
    header = b"\1"
    if packed:
        sizes = b"".join(_number(len(data)) for data, _ in packed)
        header += b"\4\6" + _number(0) + _number(len(packed)) + b"\x09" + sizes + b"\0"
        header += b"\7\x0b" + _number(len(packed)) + b"\0"
        header += (b"\1\x23\3\1\1\5\x5d" + struct.pack("<I", 1 << 16)) * len(packed)
        header += b"\x0c" + b"".join(_number(len(content)) for _, content in packed)
        header += b"\x0a\1" + b"".join(struct.pack("<I", zlib.crc32(content)) for _, content in packed) + b"\0\x08\0\0"
    header += b"\5" + _number(len(items))
    empty = [not content for _, content, _ in items]
    if any(empty):
        files = [content == b"" for _, content, _ in items if not content]
        header += b"\x0e" + _field(_bits(empty)) + b"\x0f" + _field(_bits(files))
    header += b"\x11" + _field(b"\0" + b"".join(name.encode("utf-16-le") + b"\0\0" for name, *_ in items))
    attributes = b"".join(struct.pack("<I", attributes) for *_, attributes in items)
    header += b"\x15" + _field(b"\1\0" + attributes) + b"\0\0"
    body = b"".join(data for data, _ in packed)
    start = struct.pack("<QQI", len(body), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(start)) + start + body + header


def with_mode(attributes: int, mode: int) -> int:
    """Return attributes with a Unix mode."""
    return attributes | UNIX_MODE | mode << 16


def windows_link(target: str) -> bytes:
    """Return what Windows stores for a symbolic link (REPARSE_DATA_BUFFER)."""
    raw = target.encode("utf-16-le")
    data = struct.pack("<HHHHI", 0, len(raw), len(raw), len(raw), 1) + raw + raw
    return struct.pack("<IHH", 0xA000000C, len(data), 0) + data


def _number(value: int) -> bytes:
    """Return 7z's number: the first byte's leading ones tell how many bytes follow."""
    extra = next(extra for extra in range(8) if value < 1 << (7 * (extra + 1)))
    first = 0xFF00 >> extra & 0xFF | value >> (8 * extra)
    return bytes([first]) + (value & (1 << (8 * extra)) - 1).to_bytes(extra, "little")


def _field(data: bytes) -> bytes:
    return _number(len(data)) + data


def _bits(flags: list[bool]) -> bytes:
    return bytes(
        sum(flag << 7 - place for place, flag in enumerate(flags[at : at + 8])) for at in range(0, len(flags), 8)
    )


def _lzma(content: bytes) -> bytes:
    packer = lzma.LZMACompressor(
        lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "preset": 6, "dict_size": 1 << 16}]
    )
    return packer.compress(content) + packer.flush()
