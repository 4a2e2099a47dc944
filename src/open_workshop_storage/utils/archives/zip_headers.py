"""Reads a ZIP's directory and every local header, and lets no two of them disagree.

Readers differ in which of the two they believe, so a file that is stored as it came must mean the same to all.
Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from open_workshop_storage.utils.archives.central_directory import (
    CENTRAL_MAGIC,
    END_MAGIC,
    CentralHeader,
    find_directory,
    large_numbers,
    read_headers,
    refuse_encryption,
    unicode_path,
)
from open_workshop_storage.utils.archives.entries import Entries, decode_name, split_name
from open_workshop_storage.utils.archives.faults import CorruptData, UnsafeEntry

USUAL_METHODS = frozenset({0, 8, 9, 12, 14, 93, 98})
"""Stored, Deflate, Deflate64, BZip2, LZMA, Zstandard and PPMd (docs/API.md, "Archives")."""

_SIZES_FOLLOW, _UTF8 = 0x0008, 0x0800
_SINGLE_PIECE = b"PK00"
"""Stands before the first entry of an archive that was to be split and did not need to be (APPNOTE 8.5.4)."""
_LOCAL_HEADER, _LOCAL_MAGIC = struct.Struct("<4s2xHH4xIIIHH"), b"PK\x03\x04"
_DESCRIPTOR_MAGIC, _DESCRIPTOR, _LARGE_DESCRIPTOR = b"PK\x07\x08", struct.Struct("<III"), struct.Struct("<IQQ")
_IN_LARGE_FIELD, _IN_LARGE_FIELD_SHORT = 0xFFFFFFFF, 0xFFFF
_MAX_GAP_BYTES = 64 * 1024
_REPARSE_POINT = 0x0400
_ODD_MODES = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_SPECIAL = frozenset({stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})


class ZipVerdict(NamedTuple):
    """What the headers of a ZIP say.

    Attributes:
        keep: Whether it can be kept as it is: all methods are usual, at least 1 % is saved, nothing stands behind the
            end, nothing that looks like a header where the directory names no entry, no size follows an entry that is
            another than the directory's, no file would run as its owner, and readers who do not know Unicode paths
            see no two entries of one name.
        sizes_follow: Whether sizes of some entries follow their data (APPNOTE 4.3.9): `7z t` does not compare these.
    """

    keep: bool
    sizes_follow: bool


def read_zip(path: Path, entries: Entries) -> ZipVerdict:
    """Judge a ZIP by its headers. Blocks.

    Args:
        entries: Takes every entry.

    Raises:
        ArchiveFault: It is encrypted, unsafe, corrupt, in several pieces or too large.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        directory = find_directory(file)
        headers = list(read_headers(file, directory, entries.max_entries))
        for header in headers:
            refuse_encryption(header.flags, header.method)
        for header in headers:
            _judge_entry(header, entries)
        is_tight = _judge_local_headers(file, headers, directory.start)
    packed_bytes = sum(header.packed_bytes for header in headers)
    # Deflate takes two bytes for each entry without any.
    saves = entries.unpacked_bytes == 0 or packed_bytes * 100 <= entries.unpacked_bytes * 99
    keep = directory.ends_file and is_tight and saves and all(map(_is_usual, headers)) and _are_apart(headers)
    return ZipVerdict(keep, any(header.flags & _SIZES_FOLLOW for header in headers))


def refuse_encrypted_start(head: bytes) -> None:
    """Look for encryption in the first file of a ZIP, behind folders if there are any.

    What looks like a later entry need not be one: only the directory tells.

    Args:
        head: The first bytes of a file of any kind.

    Raises:
        EncryptedData: The entry is encrypted.
    """
    position = len(_SINGLE_PIECE) if head.startswith(_SINGLE_PIECE) else 0
    is_folder = True
    while is_folder and head.startswith(_LOCAL_MAGIC, position) and len(head) >= position + _LOCAL_HEADER.size:
        _, flags, method, _, packed, _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(head, position)
        refuse_encryption(flags, method)
        name_at = position + _LOCAL_HEADER.size
        # The place of the next header is known only behind a folder without data.
        is_folder = head[name_at : name_at + name_bytes].endswith(b"/") and not packed and not flags & _SIZES_FOLLOW
        position = name_at + name_bytes + extra_bytes


def _is_usual(header: CentralHeader) -> bool:
    return header.method in USUAL_METHODS and not header.attributes >> 16 & _ODD_MODES


def _are_apart(headers: list[CentralHeader]) -> bool:
    """Tell whether no two entries have one name where Unicode paths are not looked at."""
    if not any(header.unicode_name for header in headers):
        return True
    names = Entries(0, 0)
    try:
        for header in headers:
            names.add(_header_name(header), 0, folder=stat.S_ISDIR(header.attributes >> 16))
    except UnsafeEntry:
        return False
    return True


def _judge_entry(header: CentralHeader, entries: Entries) -> None:
    if header.volume not in (0, _IN_LARGE_FIELD_SHORT):
        raise CorruptData("a piece of an archive in several")
    mode = header.attributes >> 16
    if stat.S_IFMT(mode) in _SPECIAL or header.attributes & _REPARSE_POINT:
        raise UnsafeEntry("a link or special file")
    header_name = _header_name(header)
    split_name(header_name)
    name = _decoded(header.unicode_name) if header.unicode_name else header_name
    entries.add(name, header.unpacked_bytes, folder=stat.S_ISDIR(mode))


def _judge_local_headers(file: BinaryIO, headers: list[CentralHeader], directory_start: int) -> bool:
    """Return whether the entries are all that a reader who goes by local headers would find."""
    is_tight = True
    end = 0
    for header in sorted(headers, key=lambda header: header.offset):
        start = header.offset
        if end == 0 and start not in (0, len(_SINGLE_PIECE)):
            # 7z would take what stands there for the archive.
            raise CorruptData("something before the first entry")
        if start < end:
            raise UnsafeEntry("overlapping entries")
        if start >= directory_start:
            raise CorruptData("a directory that does not follow its entries")
        is_tight = is_tight and not _hides_header(file, end, start)
        end, sizes_follow = _judge_local_header(file, header)
        is_tight = is_tight and (not sizes_follow or _is_followed(file, end, header))
    if end > directory_start or (directory_start and not headers):
        raise CorruptData("a directory that does not follow its entries")
    return is_tight and not _hides_header(file, end, directory_start)


def _judge_local_header(file: BinaryIO, central: CentralHeader) -> tuple[int, bool]:
    """Compare an entry's local header with the directory's; return where its data end, and if its sizes follow."""
    file.seek(central.offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
        raise CorruptData("no local header")
    _, flags, method, crc, packed, unpacked, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    refuse_encryption(flags, method)
    name, extra = file.read(name_bytes), file.read(extra_bytes)
    if not flags & _SIZES_FOLLOW:
        unpacked, packed = large_numbers(extra, (unpacked, packed))
    numbers = ((crc, central.crc), (packed, central.packed_bytes), (unpacked, central.unpacked_bytes))
    for local, wanted in numbers:
        if local != wanted and not (flags & _SIZES_FOLLOW and local in (0, _IN_LARGE_FIELD)):
            raise CorruptData("a size or checksum that differs")
    paths_differ = unicode_path(extra, name) not in (None, central.unicode_name)
    if name != central.name or paths_differ or method != central.method:
        raise CorruptData("a name or method that differs")
    end = central.offset + len(header) + len(name) + len(extra) + central.packed_bytes
    return end, bool(flags & _SIZES_FOLLOW)


def _is_followed(file: BinaryIO, end: int, central: CentralHeader) -> bool:
    """Tell whether the sizes after an entry's data are the directory's (section 4.3.9).

    7z believes these, and does not mind that the directory says less.
    """
    file.seek(end)
    found = file.read(_LARGE_DESCRIPTOR.size + len(_DESCRIPTOR_MAGIC)).removeprefix(_DESCRIPTOR_MAGIC)
    numbers = central.crc, central.packed_bytes, central.unpacked_bytes
    return any(
        len(found) >= form.size and form.unpack_from(found) == numbers for form in (_DESCRIPTOR, _LARGE_DESCRIPTOR)
    )


def _hides_header(file: BinaryIO, start: int, end: int) -> bool:
    """Tell whether a gap could hold more than an entry's data descriptor and padding."""
    if end - start > _MAX_GAP_BYTES:
        return True
    if end == start:
        return False
    file.seek(start)
    gap = file.read(end - start)
    return any(magic in gap for magic in (_LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC))


def _header_name(header: CentralHeader) -> str:
    return _decoded(header.name) if header.flags & _UTF8 else decode_name(header.name)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptData("a name that is not the UTF-8 it says it is") from error
