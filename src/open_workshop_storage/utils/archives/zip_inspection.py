"""Judges a ZIP by its directory and every local header: whether it is refused, and whether it stays as it is.

Readers differ in which of the two they believe. Those that contradict each other are refused, and what is not unsafe
but unusual is packed anew, so that a ZIP which stays means the same to all (docs/API.md, "Archives"). Numbers and names
of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import stat
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from open_workshop_storage.utils.archives.entry_rules import (
    REPARSE_POINT,
    Entries,
    code_page_of,
    decoded,
    is_utf8,
    refuse_special,
    split_name,
)
from open_workshop_storage.utils.archives.faults import CorruptData, UnsafeEntry
from open_workshop_storage.utils.archives.zip_directory import find_directory, holds_end_record, read_headers
from open_workshop_storage.utils.archives.zip_headers import (
    DEFLATE,
    HERE_64,
    LOCAL_HEADER,
    SIZES_FOLLOW,
    STORED,
    UTF8,
    CentralHeader,
    agrees_with_local,
    is_folder,
    local_header_length,
    refuse_encrypted_start,
    refuse_encryption,
    says_folder,
)

MOST_TESTED_BYTES = 1024**2
"""How much unpacked data are tested here; inflating more takes longer than starting `7z`."""
_RAW_WINDOW_BITS = -zlib.MAX_WBITS
_USUAL_METHODS = frozenset({STORED, DEFLATE, 9, 12, 14, 93, 98})
"""Stored, Deflate, Deflate64, BZip2, LZMA, Zstandard and PPMd."""
_OLD_METHODS, _OLD_VERSION, _NEW_VERSION = frozenset({STORED, DEFLATE, 9, 12}), 46, 63
"""The methods that a reader of version 4.6 knows, and the first version with all the others."""
_USUAL_FLAGS = 0x0006 | SIZES_FOLLOW | UTF8
"""The first are options of methods; readers differ in whether they mind others (section 4.4.4)."""
_VOLUME_ATTRIBUTE = 0x0008
_ODD_MODES = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
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


def inspect_zip(file: BinaryIO, max_bytes: int, max_entries: int) -> tuple[int, bool, bool, bool, bool]:
    """Judge a ZIP by its headers, and one that may be kept by its data, if they are few. Blocks.

    Args:
        max_bytes, max_entries: As for `Entries`.

    Returns:
        Its unpacked bytes; whether it can be kept; whether sizes of some entries follow their data (section 4.3.9),
        which `7z t` does not compare; whether some entries are in methods that readers of version 4.6 do not know, nor
        scanners; and whether the data are known to be sound.

    Raises:
        ArchiveFault: It is encrypted, unsafe, corrupt, in several pieces or too large.
        OSError: It cannot be read.
    """
    entries = Entries(max_bytes, max_entries)
    found, keep = judge_zip(file, entries)
    if not keep:
        entries.require_short_names()
    is_sound = (
        keep
        and entries.unpacked_bytes <= MOST_TESTED_BYTES
        and all(is_intact(file, entry.header, entry.data_at) for entry in found)
    )
    sizes_follow = any(entry.header.flags & SIZES_FOLLOW for entry in found)
    has_new_methods = any(entry.header.method not in _OLD_METHODS for entry in found)
    return entries.unpacked_bytes, keep, sizes_follow, has_new_methods, is_sound


def judge_zip(file: BinaryIO, entries: Entries) -> tuple[list[ZipEntry], bool]:
    """Read all headers of a ZIP. Blocks.

    Returns:
        What is in it, and whether it can be kept as it is: all methods are usual, at least 1 % is saved, and all
        readers read the same in it.

    Raises:
        ArchiveFault, OSError: As for `inspect_zip`.
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
    packed_bytes = sum(header.packed_bytes for header in headers)
    # Deflate takes two bytes for each entry without any.
    saves_space = entries.unpacked_bytes == 0 or packed_bytes * 100 <= entries.unpacked_bytes * 99
    return found, is_tight and directory.is_plain and saves_space and all(map(_is_usual, found))


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
    """Note where an entry's data are, and return what `agrees_with_local` says of its header."""
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


def _is_usual(entry: ZipEntry) -> bool:
    """Tell whether all readers take the same for an entry, wherever its data are."""
    header = entry.header
    return (
        header.method in _USUAL_METHODS
        and header.is_sound
        # Some readers leave out what they take to be too new for them, or written in a way that they do not know.
        and header.needed <= (_OLD_VERSION if header.method in _OLD_METHODS else _NEW_VERSION)
        and not header.flags & ~_USUAL_FLAGS
        and not header.attributes >> 16 & _ODD_MODES
        and not stat.S_ISFIFO(header.attributes >> 16)
        and not header.attributes & (REPARSE_POINT | _VOLUME_ATTRIBUTE)
        # Some readers go by the attributes, others by the name.
        and not (says_folder(header.attributes) and not header.name.endswith(b"/"))
        and not (entry.is_folder and header.packed_bytes)
        # Readers of streams look for the sizes that follow among the data.
        and not (header.method == STORED and header.flags & SIZES_FOLLOW)
        and b"\\" not in header.name
        # What is UTF-8 and does not say so is another name to some; what is in an old code page stays as it is.
        and (header.name.isascii() or is_utf8(header.name) == bool(header.flags & UTF8))
    )


def is_intact(file: BinaryIO, header: CentralHeader, data_at: int) -> bool:
    """Return whether an entry's data are known to unpack to just what its header says. Blocks.

    What is in other methods than stored and Deflate is not known.

    Args:
        data_at: Where the packed data are; they and the unpacked ones are held in memory.

    Raises:
        OSError: They cannot be read.
    """
    file.seek(data_at)
    data = file.read(header.packed_bytes)
    if header.method == DEFLATE:
        inflator = zlib.decompressobj(_RAW_WINDOW_BITS)
        try:
            data = inflator.decompress(data, header.unpacked_bytes + 1)
        except zlib.error:
            return False
        if not inflator.eof or inflator.unused_data:
            return False
    elif header.method != STORED:
        return False
    return len(data) == header.unpacked_bytes and zlib.crc32(data) == header.crc
