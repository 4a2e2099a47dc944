"""Reads a ZIP's central directory, header by header.

Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from open_workshop_storage.utils.archives.entry_names import decoded, is_utf8
from open_workshop_storage.utils.archives.faults import CorruptData, EncryptedData, UnpackedTooLarge
from open_workshop_storage.utils.archives.zip_end_records import HERE_64, HERE_64_SHORT, Directory, read_directory

STORED, DEFLATE = 0, 8
"""Methods of packing (section 4.4.5)."""
_HEADER, _CENTRAL_MAGIC = struct.Struct("<4s2xHHHIIIIHHHH2xII"), b"PK\x01\x02"
_HEADER_BYTES, _unpacked_header = _HEADER.size, _HEADER.unpack_from
_unpacked_plain = struct.Struct("<4s4xIIIIIH6s2xII").unpack_from
"""A header of which flags and method are read as one number, and as one text what stands in `_PLAIN_OTHERS`."""
_PLAIN_OTHERS = bytes(6)
"""No extra fields, no comment, the first piece of the archive: what most writers say."""
_FIELD = struct.Struct("<HH")
_LARGE_FIELD, _UNICODE_PATH_FIELD = 0x0001, 0x7075
# What some readers take for a link, which others do not know: attributes as libarchive writes them.
_ATTRIBUTES_FIELD = 0x6C78
_LARGE_FIELD_SIZES = frozenset({8, 16, 24, 28})
_FOLDER_TYPE, _FOLDER_ATTRIBUTE = 0o040000, 0x0010
"""Of a Unix mode, which stands in the upper half of the attributes, and of MS-DOS."""
_ENCRYPTED, _AES_METHOD = 0x0001 | 0x0040 | 0x2000, 99
"""Traditional or AES encryption, strong encryption, masked headers (section 4.4.4); what AES entries have as method."""


class ExtraFields(NamedTuple):
    """What counts in the extra fields of a header.

    Attributes:
        large_numbers: The data of the large format's field (section 4.5.3).
        unicode_name: The name in the Info-ZIP Unicode Path field, if that is for this very name (section 4.6.9).
        is_sound: Whether each field ends where it should, the large format's has a size that it can have, and none has
            a name or attributes, which some readers do not look at.
    """

    large_numbers: bytes = b""
    unicode_name: bytes | None = None
    is_sound: bool = True


_NO_EXTRA_FIELDS = ExtraFields()


class CentralHeader(NamedTuple):
    """What the directory tells of one entry; numbers of the large format are in their places.

    Attributes:
        needed: The version that a reader must know, 45 for 4.5 (section 4.4.3).
        time: Date and time as MS-DOS writes them.
        length: Bytes of the header itself.
    """

    needed: int
    flags: int
    method: int
    time: int
    crc: int
    packed_bytes: int
    unpacked_bytes: int
    attributes: int
    offset: int
    name: bytes
    unicode_name: bytes | None
    is_sound: bool
    length: int

    def text_name(self, code_page: str = "") -> str:
        """Return the name as readers see it: the Unicode path if there is one, else as `decoded` reads it."""
        if self.unicode_name and is_utf8(self.unicode_name):
            return self.unicode_name.decode()
        return decoded(self.name, code_page)


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


def says_folder(attributes: int) -> bool:
    """Return whether an entry's attributes are those of a folder."""
    return attributes >> 16 & 0o170000 == _FOLDER_TYPE or bool(attributes & _FOLDER_ATTRIBUTE)


def is_folder(name: str, unpacked_bytes: int, attributes: int) -> bool:
    """Return whether readers take an entry for a folder.

    Args:
        name: As `CentralHeader.text_name` returns it.
    """
    # The attribute alone says only where a file with content once was.
    return name.endswith(("/", "\\")) or (not unpacked_bytes and says_folder(attributes))


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


def header_at(directory: bytes, position: int) -> CentralHeader:
    """Return the header that begins at a position.

    Args:
        directory: All of it, or a part that holds the whole header.

    Raises:
        CorruptData: There is none, it goes on behind the end, or its data are in another piece of the archive.
    """
    name_at = position + _HEADER_BYTES
    if name_at > len(directory):
        raise CorruptData("a directory that does not end where it should")
    # Of these, `names`, `extras` and `comments` are lengths.
    fields = _unpacked_header(directory, position)
    magic, needed, flags, method, time, crc, packed, unpacked, names, extras, comments, volume, attributes, at = fields
    if magic != _CENTRAL_MAGIC:
        raise CorruptData("no header where one should be")
    extra_at = name_at + names
    end = extra_at + extras + comments
    if end > len(directory):
        raise CorruptData("a directory that does not end where it should")
    name = directory[name_at:extra_at]
    extra = extra_fields(directory[extra_at : extra_at + extras], name) if extras else _NO_EXTRA_FIELDS
    if unpacked == HERE_64 or packed == HERE_64 or at == HERE_64:
        unpacked, packed, at = large_numbers(extra, (unpacked, packed, at))
    if volume and volume != HERE_64_SHORT:
        raise CorruptData("a piece of an archive in several")
    _, unicode_name, is_sound = extra
    length = end - position
    told = needed, flags, method, time, crc, packed, unpacked, attributes, at, name, unicode_name, is_sound, length
    # The class's own constructor would take a quarter of the time of all this.
    return tuple.__new__(CentralHeader, told)


def columns_at(directory: bytes, position: int, most: int) -> Columns:
    """Return the headers from a position on, in half the time that `read_headers` takes.

    Args:
        directory: All of it.
        position: Where a header begins, before the end.
        most: The limit on headers.

    Raises:
        EncryptedData: An entry is encrypted.
        CorruptData: As in `header_at`.
    """
    rows: list[tuple[Any, ...]] = []
    names, positions = [], []
    end, last = position, len(directory) - _HEADER_BYTES
    while end <= last and len(rows) < most:
        row = _unpacked_plain(directory, end)
        name_at = end + _HEADER_BYTES
        positions.append(end)
        end = name_at + row[6]
        rows.append(row)
        names.append(directory[name_at:end])
    if not rows or end > len(directory):
        return _general_columns(directory, position, most)
    magics, kinds, times, crcs, packed, unpacked, lengths, others, attributes, offsets = zip(*rows, strict=True)
    is_large = HERE_64 in packed or HERE_64 in unpacked or HERE_64 in offsets
    if is_large or {*magics} != {_CENTRAL_MAGIC} or {*others} != {_PLAIN_OTHERS}:
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


def refuse_encryption(flags: int, method: int) -> None:
    """Judge the general purpose flags and the method of a header.

    Raises:
        EncryptedData: The entry is encrypted.
    """
    if flags & _ENCRYPTED or method == _AES_METHOD:
        raise EncryptedData


def extra_fields(extra: bytes, name: bytes) -> ExtraFields:
    """Read the extra fields of a header.

    Raises:
        CorruptData: A field that counts stands twice.
    """
    large_field: bytes | None = None
    unicode_field: bytes | None = None
    is_sound = True
    position = 0
    # Less is padding that aligns the data.
    while len(extra) - position >= 4:
        number, size = _FIELD.unpack_from(extra, position)
        start, position = position + 4, position + 4 + size
        is_sound = is_sound and number not in (_UNICODE_PATH_FIELD, _ATTRIBUTES_FIELD)
        if number == _LARGE_FIELD:
            if large_field is not None:
                raise CorruptData("an extra field that stands twice")
            large_field, is_sound = extra[start:position], is_sound and size in _LARGE_FIELD_SIZES
        elif number == _UNICODE_PATH_FIELD:
            if unicode_field is not None:
                raise CorruptData("an extra field that stands twice")
            unicode_field = extra[start:position]
    is_sound = is_sound and position <= len(extra)
    unicode_name = None
    if unicode_field and unicode_field[:5] == b"\x01" + struct.pack("<I", zlib.crc32(name)):
        unicode_name = unicode_field[5:]
    return ExtraFields(large_field or b"", unicode_name, is_sound)


def large_numbers(extra: ExtraFields, numbers: tuple[int, ...]) -> Iterator[int]:
    """Yield each number, or the next one of the large format's extra field in its stead (section 4.5.3).

    Args:
        numbers: Unpacked size, packed size and offset, as far as the header has them.

    Raises:
        CorruptData: A number is in neither place.
    """
    field = extra.large_numbers
    for number in numbers:
        if number == HERE_64:
            if len(field) < 8:
                raise CorruptData("a number that is nowhere")
            number, field = int.from_bytes(field[:8], "little"), field[8:]
        yield number
