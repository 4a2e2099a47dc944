"""Finds and reads a ZIP's directory, and refuses one that two readers could find in two places.

Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from open_workshop_storage.utils.archives.entry_rules import decoded
from open_workshop_storage.utils.archives.faults import CorruptData, CutOff, UnpackedTooLarge
from open_workshop_storage.utils.archives.kinds import refuse_archive
from open_workshop_storage.utils.archives.zip_headers import (
    CENTRAL_BYTES,
    CENTRAL_MAGIC,
    HERE_64,
    HERE_64_SHORT,
    CentralHeader,
    header_at,
    refuse_encryption,
)

END, END_MAGIC = struct.Struct("<4sHHHHIIH"), b"PK\x05\x06"
_MAX_COMMENT_BYTES = 0xFFFF
_LOCATOR, _LOCATOR_MAGIC = struct.Struct("<4sIQI"), b"PK\x06\x07"
_END_64, _END_64_MAGIC = struct.Struct("<4sQ4xIIQQQQ"), b"PK\x06\x06"
_MAX_DIRECTORY_BYTES = 64 * 1024**2
_BLOCK_BYTES = 256 * 1024
_unpacked_plain = struct.Struct("<4s4xIIIIIH6s2xII").unpack_from
"""A header of which flags and method are read as one number, and as one text what stands in `_PLAIN_OTHERS`."""
_PLAIN_OTHERS = bytes(6)
"""No extra fields, no comment, the first piece of the archive: what most writers say."""


class Directory(NamedTuple):
    """Where a ZIP's directory is.

    Attributes:
        start, end: Its place in the file.
        headers: How many there are, or that number's last 16 bits.
        is_large: Whether that number is whole.
        is_plain: Whether the file ends with it and its comment, and nothing in that can be taken for a record.
    """

    start: int
    end: int
    headers: int
    is_large: bool
    is_plain: bool

    def judge_count(self, headers: int) -> None:
        """Hold the number of headers that were read against the one that is told.

        Raises:
            CorruptData: They differ.
        """
        # Without the large format the count starts again at 65,536, with writers that know no better.
        if headers != self.headers and (self.is_large or headers & 0xFFFF != self.headers):
            raise CorruptData("another number of entries")


class Columns(NamedTuple):
    """What the directory tells of entries that follow each other, a column for each attribute of `CentralHeader`.

    Attributes:
        positions: Where the headers are in the directory.
        names: What `text_name` returns, in UTF-8.
        name_lengths: Bytes of `CentralHeader.name`.
        end: Where the last header ends.
    """

    positions: Sequence[int]
    names: Sequence[bytes]
    name_lengths: Sequence[int]
    times: Sequence[int]
    crcs: Sequence[int]
    packed_bytes: Sequence[int]
    unpacked_bytes: Sequence[int]
    attributes: Sequence[int]
    offsets: Sequence[int]
    end: int


def find_directory(file: BinaryIO) -> Directory:
    """Find the directory of a ZIP. Blocks.

    Raises:
        CorruptData: There is none, or more than one, it is not where its end record says, or in several pieces, or
            another archive is behind it.
        UnpackedTooLarge: It takes more than 64 MiB.
    """
    end_at, numbers, is_plain = _end(file)
    large = _large_end(file, end_at)
    if large is not None:
        end_at, large_numbers = large
        for number, large_number in zip(numbers, large_numbers, strict=True):
            if number not in (large_number, HERE_64, HERE_64_SHORT):
                raise CorruptData("two end records that differ")
        numbers = large_numbers
    disk, first_disk, count_here, count, length, start = numbers
    if disk or first_disk or count_here != count or start + length != end_at:
        raise CorruptData("a piece of an archive in several, or a directory in another place")
    if length > _MAX_DIRECTORY_BYTES:
        raise UnpackedTooLarge("a directory that is too long")
    return Directory(start, end_at, count, large is not None, is_plain)


def read_directory(file: BinaryIO, directory: Directory) -> bytes:
    """Return all bytes of a directory. Blocks.

    Raises:
        CutOff: There are fewer.
        OSError: They cannot be read.
    """
    file.seek(directory.start)
    content = file.read(directory.end - directory.start)
    if len(content) < directory.end - directory.start:
        raise CutOff
    return content


def read_headers(file: BinaryIO, directory: Directory, max_entries: int) -> Iterator[CentralHeader]:
    """Yield the headers in a directory. Blocks.

    Args:
        max_entries: The limit on entries; 0 for none.

    Raises:
        CorruptData: They do not fill the directory, or are not as many as it says.
        UnpackedTooLarge: There are more than the limit.
    """
    content = read_directory(file, directory)
    position = entries = 0
    while position < len(content):
        entries += 1
        if 0 < max_entries < entries:
            raise UnpackedTooLarge("more entries than the limit")
        header = header_at(content, position)
        position += header.length
        yield header
    directory.judge_count(entries)


def columns_at(directory: bytes, position: int, most: int) -> Columns:
    """Return the headers from a position on, up to so many, in half the time that `read_headers` takes.

    Args:
        directory: All of it.
        position: Where a header begins, before the end.

    Raises:
        EncryptedData: An entry is encrypted.
        CorruptData: As for `header_at`.
    """
    rows: list[tuple[Any, ...]] = []
    names, positions = [], []
    end, last = position, len(directory) - CENTRAL_BYTES
    while end <= last and len(rows) < most:
        row = _unpacked_plain(directory, end)
        name_at = end + CENTRAL_BYTES
        positions.append(end)
        end = name_at + row[6]
        rows.append(row)
        names.append(directory[name_at:end])
    if not rows or end > len(directory):
        return _general_columns(directory, position, most)
    magics, kinds, times, crcs, packed, unpacked, lengths, others, attributes, offsets = zip(*rows, strict=True)
    is_large = HERE_64 in packed or HERE_64 in unpacked or HERE_64 in offsets
    if is_large or {*magics} != {CENTRAL_MAGIC} or {*others} != {_PLAIN_OTHERS}:
        return _general_columns(directory, position, most)
    for kind in {*kinds}:
        refuse_encryption(kind & 0xFFFF, kind >> 16)
    try:
        b"\0".join(names).decode()
    except UnicodeDecodeError:
        names = [decoded(name).encode() for name in names]
    return Columns(positions, names, lengths, times, crcs, packed, unpacked, attributes, offsets, end)


def _general_columns(directory: bytes, position: int, most: int) -> Columns:
    positions: list[int] = []
    headers: list[CentralHeader] = []
    while position < len(directory) and len(headers) < most:
        positions.append(position)
        header = header_at(directory, position)
        refuse_encryption(header.flags, header.method)
        headers.append(header)
        position += header.length
    _, _, _, times, crcs, packed, unpacked, attributes, offsets, raw_names, _, _, _ = zip(*headers, strict=True)
    names, lengths = [header.text_name().encode() for header in headers], [*map(len, raw_names)]
    return Columns(positions, names, lengths, times, crcs, packed, unpacked, attributes, offsets, position)


def refuse_last_piece(file: BinaryIO) -> None:
    """Judge a file that does not begin as an archive does. Blocks.

    Raises:
        CorruptData: It is the last piece of a split ZIP, by its end record (section 8.5).
        OSError: It cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END.size - _MAX_COMMENT_BYTES))
    tail = file.read()
    at = tail.rfind(END_MAGIC)
    if at >= 0 and len(tail) - at >= END.size:
        _, disk, *_, comment_bytes = END.unpack_from(tail, at)
        if disk and at + END.size + comment_bytes == len(tail):
            raise CorruptData("the last piece of an archive in several")


def holds_end_record(file: BinaryIO, size: int) -> bool:
    """Tell whether an archive ends within the first `size` bytes of a file. Blocks."""
    if not size:
        return False
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as start:
        return start.find(END_MAGIC) >= 0


def _end(file: BinaryIO) -> tuple[int, tuple[int, ...], bool]:
    """Return where the end record is, its numbers, and whether the file ends with it and a comment without records."""
    size = file.seek(0, os.SEEK_END)
    content_end = _end_of_content(file, size)
    window_start = max(0, content_end - END.size - _MAX_COMMENT_BYTES)
    file.seek(window_start)
    # The record itself may end with NULs, which are none of the padding.
    window = file.read(content_end + END.size - window_start)
    found = [match.start() for match in re.finditer(END_MAGIC, window) if len(window) - match.start() >= END.size]
    if not found:
        raise CorruptData("no end record")
    *others, last = ((position, END.unpack_from(window, position)) for position in found)
    # Some readers take the last one, some the one whose comment ends with the file.
    if any(window_start + position + END.size + fields[-1] == size for position, fields in others):
        raise CorruptData("two end records")
    position, (_, *numbers, comment_bytes) = last
    comment_at = position + END.size
    refuse_archive([window[comment_at + comment_bytes :]])
    ends_file = window_start + comment_at + comment_bytes == size
    return window_start + position, tuple(numbers), ends_file and b"PK" not in window[comment_at:]


def _end_of_content(file: BinaryIO, size: int) -> int:
    """Return where the NULs begin that a file may end with."""
    end = size
    while end:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        content = file.read(end - start).rstrip(b"\0")
        if content:
            return start + len(content)
        end = start
    return 0


def _large_end(file: BinaryIO, end_at: int) -> tuple[int, tuple[int, ...]] | None:
    """Return where the large format's end record is, and its numbers, if there is one."""
    if end_at < _LOCATOR.size + _END_64.size:
        return None
    file.seek(end_at - _LOCATOR.size)
    magic, _, position, disks = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if magic != _LOCATOR_MAGIC:
        return None
    if position > end_at - _LOCATOR.size - _END_64.size:
        raise CorruptData("an end record in another place")
    file.seek(position)
    magic, length, *numbers = _END_64.unpack(file.read(_END_64.size))
    if magic != _END_64_MAGIC or position + 12 + length != end_at - _LOCATOR.size or disks > 1:
        raise CorruptData("an end record that does not end where it should")
    return position, tuple(numbers)
