"""Reads a ZIP's central directory, and refuses one that two readers could find in two places or read in two ways.

Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from open_workshop_storage.utils.archives.errors import CorruptData, UnpackedTooLarge

CENTRAL_MAGIC, END_MAGIC = b"PK\x01\x02", b"PK\x05\x06"
_END_64_MAGIC, _LOCATOR_MAGIC = b"PK\x06\x06", b"PK\x06\x07"
_HEADER = struct.Struct("<4s4xHH4xIIIHHHHHII")
_END, _LOCATOR, _END_64 = struct.Struct("<4sHHHHIIH"), struct.Struct("<4sIQI"), struct.Struct("<4sQ4xIIQQQQ")
_MAX_COMMENT_BYTES = 0xFFFF
_HERE_64, _HERE_64_SHORT = 0xFFFFFFFF, 0xFFFF
"""Stand in a field whose number is in the large format's record or extra field instead."""
_LARGE_FIELD = 0x0001
UNICODE_PATH_FIELD = 0x7075


@dataclass(frozen=True, slots=True)
class CentralHeader:
    """What the directory tells of one entry; numbers of the large format are in their places."""

    flags: int
    method: int
    crc: int
    packed_bytes: int
    unpacked_bytes: int
    volume: int
    attributes: int
    offset: int
    name: bytes
    extra: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """The whole directory, where it starts, and whether the file ends with it and its comment."""

    headers: list[CentralHeader]
    start: int
    ends_file: bool


def read_directory(file: BinaryIO, max_entries: int) -> Directory:
    """Read the directory of a ZIP. Blocks.

    Args:
        max_entries: The limit on entries; 0 for none.

    Raises:
        CorruptData: There is none, or more than one, it is not where or what its end record says, or in several pieces.
        UnpackedTooLarge: There are more entries than the limit.
    """
    end_at, end = _end(file)
    _, disk, first_disk, count_here, count, length, start, comment_bytes = end
    ends_file = end_at + _END.size + comment_bytes == os.fstat(file.fileno()).st_size
    numbers = disk, first_disk, count_here, count, length, start
    large = _large_end(file, end_at)
    if large is not None:
        end_at, large_numbers = large
        for number, large_number in zip(numbers, large_numbers, strict=True):
            if number not in (large_number, _HERE_64, _HERE_64_SHORT):
                raise CorruptData("two end records that differ")
        disk, first_disk, count_here, count, length, start = large_numbers
    if disk or first_disk or count_here != count or start + length != end_at:
        raise CorruptData("a piece of an archive in several, or a directory in another place")
    headers = list(_headers(file, start, end_at, max_entries))
    # Without the large format the count starts again at 65,536, with writers that know no better.
    if len(headers) != count and (large is not None or len(headers) & 0xFFFF != count):
        raise CorruptData("another number of entries")
    return Directory(headers, start, ends_file)


def extra_fields(extra: bytes) -> dict[int, bytes]:
    """Return the data of an extra field by number.

    Raises:
        CorruptData: One number stands twice.
    """
    fields: dict[int, bytes] = {}
    position = 0
    # Less is padding that aligns the data.
    while len(extra) - position >= 4:
        number, size = struct.unpack_from("<HH", extra, position)
        if number in fields and number in (_LARGE_FIELD, UNICODE_PATH_FIELD):
            raise CorruptData("an extra field that stands twice")
        fields[number] = extra[position + 4 : position + 4 + size]
        position += 4 + size
    return fields


def large_numbers(extra: bytes, numbers: tuple[int, ...]) -> Iterator[int]:
    """Yield each number, or the next one of the large format's extra field in its stead (section 4.5.3).

    Args:
        numbers: Unpacked size, packed size and offset, as far as the header has them.

    Raises:
        CorruptData: A number is in neither place, or a field stands twice.
    """
    field = extra_fields(extra).get(_LARGE_FIELD, b"") if _HERE_64 in numbers else b""
    for number in numbers:
        if number == _HERE_64:
            if len(field) < 8:
                raise CorruptData("a number that is nowhere")
            number, field = int.from_bytes(field[:8], "little"), field[8:]
        yield number


def _end(file: BinaryIO) -> tuple[int, tuple[Any, ...]]:
    """Return where the end record is, and its fields."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _END.size - _MAX_COMMENT_BYTES))
    tail = file.read()
    found = [match.start() for match in re.finditer(END_MAGIC, tail) if len(tail) - match.start() >= _END.size]
    if not found:
        raise CorruptData("no end record")
    *others, last = ((position, _END.unpack_from(tail, position)) for position in found)
    # Some readers take the last one, some the one whose comment ends with the file.
    if any(position + _END.size + fields[-1] == len(tail) for position, fields in others):
        raise CorruptData("two end records")
    position, fields = last
    return size - len(tail) + position, fields


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


def _headers(file: BinaryIO, start: int, end: int, max_entries: int) -> Iterator[CentralHeader]:
    position, entries = start, 0
    file.seek(start)
    while position < end:
        entries += 1
        if 0 < max_entries < entries:
            raise UnpackedTooLarge("more entries than the limit")
        fields = file.read(_HEADER.size)
        if len(fields) < _HEADER.size or not fields.startswith(CENTRAL_MAGIC):
            raise CorruptData("no header where one should be")
        _, flags, method, crc, packed, unpacked, *lengths, volume, _, attributes, offset = _HEADER.unpack(fields)
        name_bytes, extra_bytes, comment_bytes = lengths
        variable = file.read(sum(lengths))
        position += _HEADER.size + sum(lengths)
        name, extra = variable[:name_bytes], variable[name_bytes : name_bytes + extra_bytes]
        unpacked, packed, offset = large_numbers(extra, (unpacked, packed, offset))
        yield CentralHeader(flags, method, crc, packed, unpacked, volume, attributes, offset, name, extra)
    if position != end:
        raise CorruptData("a directory that does not end where it should")
