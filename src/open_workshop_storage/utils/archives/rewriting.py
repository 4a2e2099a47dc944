"""Writes archives anew with the same packed data and plain headers, so that `7z` extracts what has been judged.

Numbers and names of fields of ZIPs are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import BinaryIO

from open_workshop_storage.utils.archives.entry_rules import Entries, decoded, is_utf8, split_name
from open_workshop_storage.utils.archives.faults import CutOff
from open_workshop_storage.utils.archives.rar4_headers import file_headers
from open_workshop_storage.utils.archives.zip_directory import END, END_MAGIC
from open_workshop_storage.utils.archives.zip_headers import HERE_64, HERE_64_SHORT, LOCAL_MAGIC, UTF8
from open_workshop_storage.utils.archives.zip_inspection import ZipEntry, judge_zip

_LOCAL, _CENTRAL = struct.Struct("<4sHHHIIIIHH"), struct.Struct("<4sBBHHHIIIIHHHHHII")
_END_64 = struct.Struct("<4sQHHIIQQQQ4sIQI")
_VERSION, _UNIX = 63, 3
_METHOD_OPTIONS = 0x0006
"""The flags that tell how a method was used: whether LZMA data have an end mark, above all (section 4.4.4)."""
_LARGE_FIELD = 0x0001
_COPY_BYTES = 2**30


def rewrite_zip(source: BinaryIO, target: BinaryIO, max_bytes: int, max_entries: int) -> None:
    """Write a ZIP's entries to another file, with names in UTF-8. Blocks.

    Args:
        max_bytes, max_entries: As for `Entries`.

    Raises:
        ArchiveFault: As for `inspect_zip`.
        NameTooLong: The file system cannot hold one of the names.
        OSError: The source cannot be read, or the target not be written.
    """
    entries = Entries(max_bytes, max_entries)
    found, _ = judge_zip(source, entries)
    entries.require_short_names()
    directory: list[bytes] = []
    # A folder may be named twice.
    for entry in {(*entry.parts, entry.is_folder): entry for entry in found if entry.parts}.values():
        directory.append(_copied(source, target, entry))
    start = target.tell()
    target.writelines(directory)
    target.write(_end_records(len(directory), start, target.tell()))
    target.flush()


def rewrite_rar4(source: BinaryIO, target: BinaryIO, code_page: str) -> None:
    """Copy a RAR 4 archive, with names in UTF-8 instead of in a code page. Blocks.

    Raises:
        UnsafeEntry: A name escapes.
        OSError: The source cannot be read, or the target not be written.
    """
    position = 0
    for header in file_headers(source):
        if not is_utf8(header.name):
            _copy_bytes(source, target, position, header.start - position)
            target.write(header.renamed("/".join(split_name(decoded(header.name, code_page))).encode()))
            position = header.start + len(header.content)
    _copy_bytes(source, target, position, os.fstat(source.fileno()).st_size - position)


def _copied(source: BinaryIO, target: BinaryIO, entry: ZipEntry) -> bytes:
    """Write a local header and the data that follow it; return the directory's header."""
    header, offset = entry.header, target.tell()
    packed, unpacked = (0, 0) if entry.is_folder else (header.packed_bytes, header.unpacked_bytes)
    name = "/".join(entry.parts).encode() + b"/" * entry.is_folder
    large = struct.pack("<HHQQQ", _LARGE_FIELD, 24, unpacked, packed, offset)
    flags, method = header.flags & _METHOD_OPTIONS | UTF8, 0 if entry.is_folder else header.method
    crc = 0 if entry.is_folder else header.crc
    is_runnable = header.attributes >> 16 & stat.S_IXUSR
    mode = stat.S_IFDIR | 0o755 if entry.is_folder else stat.S_IFREG | (0o755 if is_runnable else 0o644)
    # The large format for all: no reader but 7z sees this file.
    common = flags, method, header.time, crc, HERE_64, HERE_64, len(name)
    target.write(_LOCAL.pack(LOCAL_MAGIC, _VERSION, *common, len(large) - 8) + name)
    target.write(struct.pack("<HHQQ", _LARGE_FIELD, 16, unpacked, packed))
    _copy_bytes(source, target, entry.data_at, packed)
    central = _CENTRAL.pack(b"PK\x01\x02", _VERSION, _UNIX, _VERSION, *common, len(large), 0, 0, 0, mode << 16, HERE_64)
    return central + name + large


def _end_records(entries: int, start: int, end: int) -> bytes:
    """Return the large format's end record and its locator, and the plain end record."""
    numbers = entries, entries, end - start, start
    large = _END_64.pack(b"PK\x06\x06", 44, _VERSION, _VERSION, 0, 0, *numbers, b"PK\x06\x07", 0, end, 1)
    short = END.pack(END_MAGIC, 0, 0, HERE_64_SHORT, HERE_64_SHORT, HERE_64, HERE_64, 0)
    return large + short


def _copy_bytes(source: BinaryIO, target: BinaryIO, position: int, size: int) -> None:
    """Append bytes of one file to another; the source's own position does not matter."""
    target.flush()
    while size:
        copied = os.sendfile(target.fileno(), source.fileno(), position, min(size, _COPY_BYTES))
        if not copied:
            raise CutOff
        size, position = size - copied, position + copied
    target.seek(0, os.SEEK_END)
