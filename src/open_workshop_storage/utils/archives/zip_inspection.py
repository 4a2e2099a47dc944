"""Judges a ZIP by its directory and every local header, and lets no two of them disagree.

Readers differ in which of the two they believe, so a file that is stored as it came must mean the same to all.
Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import BinaryIO

from open_workshop_storage.utils.archives.central_directory import (
    STORED,
    CentralHeader,
    is_folder,
    read_headers,
    refuse_encryption,
)
from open_workshop_storage.utils.archives.entry_names import code_page_of, decoded, split_name
from open_workshop_storage.utils.archives.entry_rules import Entries
from open_workshop_storage.utils.archives.faults import CorruptData, UnsafeEntry
from open_workshop_storage.utils.archives.special_files import REPARSE_POINT, refuse_special
from open_workshop_storage.utils.archives.zip_end_records import HERE_64, find_directory, holds_end_record
from open_workshop_storage.utils.archives.zip_keeping import OLD_METHODS, stays
from open_workshop_storage.utils.archives.zip_local_headers import (
    LOCAL_HEADER,
    SIZES_FOLLOW,
    agrees_with_local,
    local_header_length,
    refuse_encrypted_start,
)
from open_workshop_storage.utils.archives.zip_testing import MOST_TESTED_BYTES, is_intact

_DESCRIPTOR_MAGIC, _DESCRIPTOR, _LARGE_DESCRIPTOR = b"PK\x07\x08", struct.Struct("<III"), struct.Struct("<IQQ")
_HEAD_BYTES = 64 * 1024


@dataclass(slots=True)
class ZipEntry:
    """What both headers of an entry say.

    Attributes:
        parts: The parts of its name; none for the archive's own root.
        data_at: Where its packed data are in the file.
    """

    header: CentralHeader
    parts: list[str]
    is_folder: bool
    data_at: int


@dataclass(frozen=True)
class ZipVerdict:
    """What the headers of a ZIP say.

    Attributes:
        keep: Whether it can be kept as it is: all methods are usual, at least 1 % is saved, and all readers read the
            same in it.
        sizes_follow: Whether sizes of some entries follow their data (APPNOTE 4.3.9): `7z t` does not compare these.
        has_new_methods: Whether some entries are in methods that readers of version 4.6 do not know, nor scanners.
    """

    entries: list[ZipEntry]
    keep: bool
    sizes_follow: bool
    has_new_methods: bool


def inspect_zip(file: BinaryIO, max_bytes: int, max_entries: int) -> tuple[int, bool, bool, bool, bool]:
    """Judge a ZIP by its headers, and one that may be kept by its data, if they are few. Blocks.

    Args:
        max_bytes, max_entries: As for `Entries`.

    Returns:
        Its unpacked bytes, what its verdict says besides entries, and whether the data are known to be sound.

    Raises:
        ArchiveFault: It is encrypted, unsafe, corrupt, in several pieces or too large.
        OSError: It cannot be read.
    """
    entries = Entries(max_bytes, max_entries)
    verdict = judge_zip(file, entries)
    if not verdict.keep:
        entries.require_short_names()
    is_sound = (
        verdict.keep
        and entries.unpacked_bytes <= MOST_TESTED_BYTES
        and all(is_intact(file, entry.header, entry.data_at) for entry in verdict.entries)
    )
    return entries.unpacked_bytes, verdict.keep, verdict.sizes_follow, verdict.has_new_methods, is_sound


def judge_zip(file: BinaryIO, entries: Entries) -> ZipVerdict:
    """Read all headers of a ZIP. Blocks.

    Raises:
        ArchiveFault: It is encrypted, unsafe, corrupt, in several pieces or too large.
        OSError: It cannot be read.
    """
    file.seek(0)
    # Where the directory is encrypted, local headers still say so.
    refuse_encrypted_start(file.read(_HEAD_BYTES))
    directory = find_directory(file)
    headers = list(read_headers(file, directory, entries.max_entries))
    for header in headers:
        refuse_encryption(header.flags, header.method)
    code_page = code_page_of(header.name for header in headers)
    found = [_judge_entry(header, entries, code_page) for header in headers]
    is_tight = _judge_local_headers(file, found, directory.start)
    judged = [(entry.header, entry.is_folder) for entry in found]
    keep = stays(judged, entries.unpacked_bytes, is_plain=directory.is_plain, is_tight=is_tight)
    sizes_follow = any(header.flags & SIZES_FOLLOW for header in headers)
    return ZipVerdict(found, keep, sizes_follow, any(header.method not in OLD_METHODS for header in headers))


def _judge_entry(header: CentralHeader, entries: Entries, code_page: str) -> ZipEntry:
    if header.unicode_name:
        # Some readers do not look at it.
        split_name(decoded(header.name, code_page))
    name = header.text_name(code_page)
    if header.method == STORED and header.packed_bytes != header.unpacked_bytes:
        raise CorruptData("a stored entry of two sizes")
    size, mode = header.unpacked_bytes, header.attributes >> 16
    folder = is_folder(name, size, header.attributes)
    # Info-ZIP notes of what it reads from a pipe that it is one.
    mode = 0 if stat.S_ISFIFO(mode) and size else mode
    is_reparse_point = bool(header.attributes & REPARSE_POINT)
    refuse_special(mode, is_reparse_point=is_reparse_point, size=size, is_folder=folder)
    parts = entries.add(name, size, folder)
    return ZipEntry(header, parts, folder, 0)


def _judge_local_headers(file: BinaryIO, entries: list[ZipEntry], directory_start: int) -> bool:
    """Return whether a reader that goes by local headers finds the same entries, with nothing between them.

    What the directory does not name is no entry: makers of APKs fill gaps with local headers of no name.
    """
    is_tight = True
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header.offset):
        start = entry.header.offset
        if start < end:
            raise UnsafeEntry("overlapping entries")
        if start >= directory_start:
            raise CorruptData("a directory that does not follow its entries")
        if end == 0 and holds_end_record(file, start):
            raise CorruptData("another archive before the first entry")
        agrees = _judge_local_header(file, entry)
        is_tight = is_tight and agrees and start == end
        end = entry.data_at + entry.header.packed_bytes
        if entry.header.flags & SIZES_FOLLOW:
            followed = _end_of_sizes(file, end, entry.header)
            is_tight, end = is_tight and followed > end, followed
    if end > directory_start or (directory_start and not entries):
        raise CorruptData("a directory that does not follow its entries")
    return is_tight and end == directory_start


def _judge_local_header(file: BinaryIO, entry: ZipEntry) -> bool:
    """Compare an entry's local header with the directory's, and note where its data are.

    Returns:
        Whether they say the same to the byte, but for sizes that follow the data.
    """
    file.seek(entry.header.offset)
    start = file.read(LOCAL_HEADER.size)
    length = local_header_length(start)
    entry.data_at = entry.header.offset + length
    return agrees_with_local(entry.header, start + file.read(length - len(start)))


def _end_of_sizes(file: BinaryIO, end: int, header: CentralHeader) -> int:
    """Return where the sizes end that follow an entry's data, or `end` if they are not the directory's (section 4.3.9).

    7z believes these, and does not mind that the directory says less.
    """
    file.seek(end)
    found = file.read(_LARGE_DESCRIPTOR.size + len(_DESCRIPTOR_MAGIC))
    magic_bytes = len(_DESCRIPTOR_MAGIC) if found.startswith(_DESCRIPTOR_MAGIC) else 0
    # Some readers take the small form for granted wherever it has room for the sizes.
    form = _DESCRIPTOR if max(header.packed_bytes, header.unpacked_bytes) <= HERE_64 else _LARGE_DESCRIPTOR
    if len(found) >= magic_bytes + form.size:
        if form.unpack_from(found, magic_bytes) == (header.crc, header.packed_bytes, header.unpacked_bytes):
            return end + magic_bytes + form.size
    return end
