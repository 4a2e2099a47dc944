"""Reads a ZIP's directory and every local header, and lets no two of them disagree.

Readers differ in which of the two they believe, so a file that is stored as it came must mean the same to all.
Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import BinaryIO

from open_workshop_storage.utils.archives.central_directory import (
    CentralHeader,
    extra_fields,
    find_directory,
    large_numbers,
    read_headers,
    refuse_encryption,
)
from open_workshop_storage.utils.archives.entry_names import code_page_of, decoded, is_utf8, split_name
from open_workshop_storage.utils.archives.entry_rules import Entries
from open_workshop_storage.utils.archives.faults import CorruptData, UnsafeEntry

USUAL_METHODS = frozenset({0, 8, 9, 12, 14, 93, 98})
"""Stored, Deflate, Deflate64, BZip2, LZMA, Zstandard and PPMd (docs/API.md, "Archives")."""
SIZES_FOLLOW, UTF8 = 0x0008, 0x0800
_OLD_METHODS, _OLD_VERSION, _NEW_VERSION = frozenset({0, 8, 9, 12}), 46, 63
"""The methods that a reader of version 4.6 knows, and the first version with all the others."""
_USUAL_FLAGS = 0x0006 | SIZES_FOLLOW | UTF8
"""The first are options of methods; readers differ in whether they mind others (APPNOTE 4.4.4)."""
LOCAL_HEADER, LOCAL_MAGIC = struct.Struct("<4s2xHH4xIIIHH"), b"PK\x03\x04"

_STORED = 0
_SINGLE_PIECE = b"PK00"
"""Stands before the first entry of an archive that was to be split and did not need to be (APPNOTE 8.5.4)."""
_DESCRIPTOR_MAGIC, _DESCRIPTOR, _LARGE_DESCRIPTOR = b"PK\x07\x08", struct.Struct("<III"), struct.Struct("<IQQ")
_IN_LARGE_FIELD = 0xFFFFFFFF
_HEAD_BYTES = 64 * 1024
_VOLUME_ATTRIBUTE, _REPARSE_POINT = 0x0008, 0x0400
_ODD_MODES = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_SPECIAL = frozenset({stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})


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
    """

    entries: list[ZipEntry]
    keep: bool
    sizes_follow: bool


def inspect_zip(file: BinaryIO, max_bytes: int, max_entries: int) -> tuple[int, bool, bool]:
    """Judge a ZIP by its headers; return its unpacked bytes, and `keep` and `sizes_follow` of its verdict. Blocks.

    Args:
        max_bytes, max_entries: As for `Entries`.

    Raises:
        ArchiveFault: It is encrypted, unsafe, corrupt, in several pieces or too large.
        OSError: It cannot be read.
    """
    entries = Entries(max_bytes, max_entries)
    verdict = judge_zip(file, entries)
    if not verdict.keep:
        entries.require_short_names()
    return entries.unpacked_bytes, verdict.keep, verdict.sizes_follow


def judge_zip(file: BinaryIO, entries: Entries) -> ZipVerdict:
    """Read all headers of a ZIP. Blocks.

    Args:
        entries: Takes every entry.

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
    packed_bytes = sum(header.packed_bytes for header in headers)
    # Deflate takes two bytes for each entry without any.
    saves = entries.unpacked_bytes == 0 or packed_bytes * 100 <= entries.unpacked_bytes * 99
    keep = directory.is_plain and is_tight and saves and all(map(_is_usual, found))
    return ZipVerdict(found, keep, any(header.flags & SIZES_FOLLOW for header in headers))


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
    while is_folder and head.startswith(LOCAL_MAGIC, position) and len(head) >= position + LOCAL_HEADER.size:
        _, flags, method, _, packed, _, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(head, position)
        refuse_encryption(flags, method)
        name_at = position + LOCAL_HEADER.size
        # The place of the next header is known only behind a folder without data.
        is_folder = head[name_at : name_at + name_bytes].endswith(b"/") and not packed and not flags & SIZES_FOLLOW
        position = name_at + name_bytes + extra_bytes


def _is_usual(entry: ZipEntry) -> bool:
    """Tell whether all readers take the same for this entry, wherever its data are."""
    header = entry.header
    return (
        header.method in USUAL_METHODS
        and header.is_sound
        # Some readers leave out what they take to be too new for them, or written in a way that they do not know.
        and header.needed <= (_OLD_VERSION if header.method in _OLD_METHODS else _NEW_VERSION)
        and not header.flags & ~_USUAL_FLAGS
        and not header.attributes >> 16 & _ODD_MODES
        and not stat.S_ISFIFO(header.attributes >> 16)
        and not header.attributes & (_REPARSE_POINT | _VOLUME_ATTRIBUTE)
        # Some readers go by the attributes, others by the name.
        and not (header.says_folder and not header.name.endswith(b"/"))
        and not (entry.is_folder and header.packed_bytes)
        # Readers of streams look for the sizes that follow among the data.
        and not (header.method == _STORED and header.flags & SIZES_FOLLOW)
        and b"\\" not in header.name
        # What is UTF-8 and does not say so is another name to some; what is in an old code page stays as it is.
        and (header.name.isascii() or is_utf8(header.name) == bool(header.flags & UTF8))
    )


def _judge_entry(header: CentralHeader, entries: Entries, code_page: str) -> ZipEntry:
    mode = header.attributes >> 16
    # Info-ZIP notes of what it reads from a pipe that it is one.
    is_special = stat.S_IFMT(mode) in _SPECIAL and not (stat.S_ISFIFO(mode) and header.unpacked_bytes)
    if is_special:
        raise UnsafeEntry("a link or special file")
    if header.unicode_name:
        # Some readers do not look at it.
        split_name(decoded(header.name, code_page))
    name = header.text_name(code_page)
    if header.method == _STORED and header.packed_bytes != header.unpacked_bytes:
        raise CorruptData("a stored entry of two sizes")
    is_folder = header.is_folder(name)
    # Of a folder, and of a file with content, the attribute tells only where it once was.
    if header.attributes & _REPARSE_POINT and not header.unpacked_bytes and not is_folder:
        raise UnsafeEntry("a link")
    parts = entries.add(name, header.unpacked_bytes, is_folder)
    return ZipEntry(header, parts, is_folder, 0)


def _judge_local_headers(file: BinaryIO, entries: list[ZipEntry], directory_start: int) -> bool:
    """Return whether a reader that goes by local headers finds the same entries, with nothing between them."""
    is_tight = True
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header.offset):
        start = entry.header.offset
        if end == 0 and start not in (0, len(_SINGLE_PIECE)):
            # 7z would take what stands there for the archive.
            raise CorruptData("something before the first entry")
        if start < end:
            raise UnsafeEntry("overlapping entries")
        if start >= directory_start:
            raise CorruptData("a directory that does not follow its entries")
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


def local_header_length(start: bytes) -> int:
    """Return how many bytes a local header takes, name and extra fields included.

    Args:
        start: Its first 30 bytes, or more.

    Raises:
        CorruptData: It is none.
    """
    if len(start) < LOCAL_HEADER.size or not start.startswith(LOCAL_MAGIC):
        raise CorruptData("no local header")
    *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(start)
    return LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


def agrees_with_local(central: CentralHeader, local: bytes) -> bool:
    """Compare an entry's local header with the directory's.

    Args:
        local: As much as `local_header_length` says.

    Returns:
        Whether they say the same to the byte, but for sizes that follow the data.

    Raises:
        EncryptedData: The entry is encrypted.
        CorruptData: They contradict each other.
    """
    _, flags, method, crc, packed, unpacked, name_bytes, _ = LOCAL_HEADER.unpack_from(local)
    refuse_encryption(flags, method)
    name = local[LOCAL_HEADER.size : LOCAL_HEADER.size + name_bytes]
    extra = extra_fields(local[LOCAL_HEADER.size + name_bytes :], name)
    if not flags & SIZES_FOLLOW:
        unpacked, packed = large_numbers(extra, (unpacked, packed))
    numbers = ((crc, central.crc), (packed, central.packed_bytes), (unpacked, central.unpacked_bytes))
    for number, wanted in numbers:
        if number != wanted and not (flags & SIZES_FOLLOW and number in (0, _IN_LARGE_FIELD)):
            raise CorruptData("a size or checksum that differs")
    paths_differ = extra.unicode_name not in (None, central.unicode_name)
    is_same_place = name.replace(b"\\", b"/") == central.name.replace(b"\\", b"/")
    if not is_same_place or paths_differ or method != central.method or (central.flags & ~flags & SIZES_FOLLOW):
        raise CorruptData("a name or method that differs")
    return name == central.name and extra.is_sound and not (flags ^ central.flags) & (SIZES_FOLLOW | UTF8)


def _end_of_sizes(file: BinaryIO, end: int, header: CentralHeader) -> int:
    """Return where the sizes end that follow an entry's data, or `end` if they are not the directory's (section 4.3.9).

    7z believes these, and does not mind that the directory says less.
    """
    file.seek(end)
    found = file.read(_LARGE_DESCRIPTOR.size + len(_DESCRIPTOR_MAGIC))
    magic_bytes = len(_DESCRIPTOR_MAGIC) if found.startswith(_DESCRIPTOR_MAGIC) else 0
    # Some readers take the small form for granted wherever it has room for the sizes.
    form = _DESCRIPTOR if max(header.packed_bytes, header.unpacked_bytes) <= _IN_LARGE_FIELD else _LARGE_DESCRIPTOR
    if len(found) >= magic_bytes + form.size:
        if form.unpack_from(found, magic_bytes) == (header.crc, header.packed_bytes, header.unpacked_bytes):
            return end + magic_bytes + form.size
    return end
