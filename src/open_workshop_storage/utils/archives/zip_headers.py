"""Reads a ZIP's directory and every local header, and lets no two of them disagree.

Readers differ in which of the two they believe, so a file that is stored as it came must mean the same to all.
Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.utils.archives.entries import Entries, decode_name, split_name
from open_workshop_storage.utils.archives.errors import CorruptData, EncryptedData, UnsafeEntry, UnsupportedMethod

USUAL_METHODS = frozenset({0, 8, 9, 12, 14, 93, 98})
"""Stored, Deflate, Deflate64, BZip2, LZMA, Zstandard and PPMd (wire contract, section 6)."""

_ENCRYPTED, _AES_METHOD = 0x0001 | 0x0040 | 0x2000, 99
_SIZES_FOLLOW, _UTF8 = 0x0008, 0x0800
_SINGLE_PIECE = b"PK00"
"""Stands before the first entry of an archive that was to be split and did not need to be (APPNOTE 8.5.4)."""
_LOCAL_HEADER, _LOCAL_MAGIC = struct.Struct("<4s2xHH4xIIIHH"), b"PK\x03\x04"
_IN_ZIP64_FIELD, _IN_ZIP64_FIELD_SHORT = 0xFFFFFFFF, 0xFFFF
_UNICODE_PATH = 0x7075
_DESCRIPTOR_BYTES = (0, 12, 16, 20, 24)
_REPARSE_POINT = 0x0400
_SPECIAL = frozenset({stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})


def read_zip(path: Path, entries: Entries) -> bool:
    """Judge a ZIP by its headers. Blocks.

    Args:
        entries: Takes every entry.

    Returns:
        Whether it can be kept as it is: all methods are usual, at least 1 % is saved, and nothing that looks
        like an entry stands where the directory names none.

    Raises:
        ArchiveError: It is encrypted, unsafe, corrupt, in several pieces or too large.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        infos, directory_at = _directory(file)
        for info in infos:
            if info.flag_bits & _ENCRYPTED or info.compress_type == _AES_METHOD:
                raise EncryptedData(info.filename)
        for info in infos:
            _judge_entry(info, entries)
        is_tight = _judge_local_headers(file, infos, directory_at)
    packed_bytes = sum(info.compress_size for info in infos)
    saves = packed_bytes * 100 <= entries.unpacked_bytes * 99
    return is_tight and saves and all(info.compress_type in USUAL_METHODS for info in infos)


def _directory(file: BinaryIO) -> tuple[list[zipfile.ZipInfo], int]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist(), archive.start_dir
    except NotImplementedError as error:
        raise UnsupportedMethod(str(error)) from error
    except (zipfile.BadZipFile, ValueError, OverflowError, EOFError, struct.error) as error:
        raise CorruptData(str(error)) from error


def _judge_entry(info: zipfile.ZipInfo, entries: Entries) -> None:
    if info.volume not in (0, _IN_ZIP64_FIELD_SHORT):
        raise CorruptData("a piece of an archive in several")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) in _SPECIAL or info.external_attr & _REPARSE_POINT:
        raise UnsafeEntry("a link or special file")
    header_name = _display_name(_raw_name(info), info.flag_bits)
    split_name(header_name)
    name = _unicode_path(info.extra, _raw_name(info)) or header_name
    entries.add(name, info.file_size, folder=stat.S_ISDIR(mode))


def _judge_local_headers(file: BinaryIO, infos: list[zipfile.ZipInfo], directory_at: int) -> bool:
    """Return whether the entries are all that a reader who goes by local headers would find."""
    is_tight = True
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        start = info.header_offset
        if end == 0 and start not in (0, len(_SINGLE_PIECE)):
            # 7z would take what stands there for the archive.
            raise CorruptData("something before the first entry")
        if start < end:
            raise UnsafeEntry("overlapping entries")
        is_tight = is_tight and not _hides_entry(file, end, start)
        end = _judge_local_header(file, info)
    if end > directory_at or (directory_at and not infos):
        raise CorruptData("a directory that does not follow its entries")
    return is_tight and not _hides_entry(file, end, directory_at)


def _judge_local_header(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where the entry's data end, after comparing its local header with the directory's."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
        raise CorruptData("no local header")
    _, flags, method, crc, packed, unpacked, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    if flags & _ENCRYPTED or method == _AES_METHOD:
        raise EncryptedData(info.filename)
    name, extra = file.read(name_bytes), file.read(extra_bytes)
    numbers = ((crc, info.CRC), (packed, info.compress_size), (unpacked, info.file_size))
    for local, central in numbers:
        may_be_absent = (flags & _SIZES_FOLLOW and local == 0) or local == _IN_ZIP64_FIELD
        if local != central and not may_be_absent:
            raise CorruptData("a size or checksum that differs")
    raw_name = _raw_name(info)
    paths_differ = _unicode_path(extra, name) not in (None, _unicode_path(info.extra, raw_name))
    if name != raw_name or paths_differ or method != info.compress_type:
        raise CorruptData("a name or method that differs")
    return info.header_offset + len(header) + len(name) + len(extra) + info.compress_size


def _hides_entry(file: BinaryIO, start: int, end: int) -> bool:
    """Tell whether a reader that goes by local headers would find one in a gap, past an entry's data descriptor."""
    if end - start < _LOCAL_HEADER.size:
        return False
    file.seek(start)
    gap = file.read(min(end - start, max(_DESCRIPTOR_BYTES) + len(_LOCAL_MAGIC)))
    return any(gap.startswith(_LOCAL_MAGIC, size) for size in _DESCRIPTOR_BYTES)


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    # `filename` ends at the first NUL; `orig_filename` does not, and both decodings can be undone.
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")


def _display_name(raw: bytes, flags: int) -> str:
    return raw.decode() if flags & _UTF8 else decode_name(raw)


def _unicode_path(extra: bytes, raw_name: bytes) -> str | None:
    """Return the name in the Info-ZIP Unicode Path field, if there is one for this very name (APPNOTE 4.6.9)."""
    for number, data in _extra_fields(extra):
        if number == _UNICODE_PATH and data[:1] == b"\x01" and data[1:5] == struct.pack("<I", zlib.crc32(raw_name)):
            try:
                return data[5:].decode()
            except UnicodeDecodeError as error:
                raise CorruptData("a Unicode path that is none") from error
    return None


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        number, size = struct.unpack_from("<HH", extra)
        yield number, extra[4 : 4 + size]
        extra = extra[4 + size :]
