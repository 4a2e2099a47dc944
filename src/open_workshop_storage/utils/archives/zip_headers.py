"""Reads the headers of a ZIP's entries: those in its directory, and the local ones before each entry's data.

Readers differ in which of the two they believe, so one is held against the other. Numbers and names of fields are those
of PKWARE's APPNOTE 6.3.10, section 4.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from open_workshop_storage.utils.archives.entry_rules import decoded, is_utf8
from open_workshop_storage.utils.archives.faults import CorruptData, EncryptedData

HERE_64, HERE_64_SHORT = 0xFFFFFFFF, 0xFFFF
"""Stand in a field whose number is in the large format's record or extra field instead."""
STORED, DEFLATE = 0, 8
"""Methods of packing (section 4.4.5)."""
SIZES_FOLLOW, UTF8 = 0x0008, 0x0800
"""Flags (section 4.4.4)."""
LOCAL_HEADER, LOCAL_MAGIC = struct.Struct("<4s2xHH4xIIIHH"), b"PK\x03\x04"
_SINGLE_PIECE = b"PK00"
"""Stands before the first entry of an archive that was to be split and did not need to be (section 8.5.4)."""
_HEADER, CENTRAL_MAGIC = struct.Struct("<4s2xHHHIIIIHHHH2xII"), b"PK\x01\x02"
CENTRAL_BYTES, _unpacked_header = _HEADER.size, _HEADER.unpack_from
_FIELD = struct.Struct("<HH")
_LARGE_FIELD, _UNICODE_PATH_FIELD, _ATTRIBUTES_FIELD = 0x0001, 0x7075, 0x6C78
"""What some readers take for a link stands in the last, as libarchive writes attributes; others do not know it."""
_COUNTING_FIELDS = frozenset({_LARGE_FIELD, _UNICODE_PATH_FIELD, _ATTRIBUTES_FIELD})
_LARGE_SIZES = frozenset({8, 16, 24, 28})
_FOLDER_TYPE, _FOLDER_ATTRIBUTE = 0o040000, 0x0010
"""Of a Unix mode, which stands in the upper half of the attributes, and of MS-DOS."""
_ENCRYPTED, _AES_METHOD = 0x0001 | 0x0040 | 0x2000, 99
"""Traditional or AES encryption, strong encryption, masked headers (section 4.4.4); what AES entries have as method."""


class _ExtraFields(NamedTuple):
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


_NO_EXTRA_FIELDS = _ExtraFields()


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


def says_folder(attributes: int) -> bool:
    """Return whether an entry's attributes are those of a folder."""
    return attributes >> 16 & 0o170000 == _FOLDER_TYPE or bool(attributes & _FOLDER_ATTRIBUTE)


def is_folder(name: str, unpacked_bytes: int, attributes: int) -> bool:
    """Return whether readers take an entry for a folder, whose name is as `CentralHeader.text_name` returns it."""
    # The attribute alone says only where a file with content once was.
    return name.endswith(("/", "\\")) or (not unpacked_bytes and says_folder(attributes))


def header_at(directory: bytes, position: int) -> CentralHeader:
    """Return the header that begins at a position.

    Args:
        directory: All of it, or a part that holds the whole header.

    Raises:
        CorruptData: There is none, it goes on behind the end, or its data are in another piece of the archive.
    """
    name_at = position + CENTRAL_BYTES
    if name_at > len(directory):
        raise CorruptData("a directory that does not end where it should")
    # Of these, `names`, `extras` and `comments` are lengths.
    fields = _unpacked_header(directory, position)
    magic, needed, flags, method, time, crc, packed, unpacked, names, extras, comments, volume, attributes, at = fields
    if magic != CENTRAL_MAGIC:
        raise CorruptData("no header where one should be")
    extra_at = name_at + names
    end = extra_at + extras + comments
    if end > len(directory):
        raise CorruptData("a directory that does not end where it should")
    name = directory[name_at:extra_at]
    extra = _extra_fields(directory[extra_at : extra_at + extras], name) if extras else _NO_EXTRA_FIELDS
    if unpacked == HERE_64 or packed == HERE_64 or at == HERE_64:
        unpacked, packed, at = _large_numbers(extra, (unpacked, packed, at))
    if volume and volume != HERE_64_SHORT:
        raise CorruptData("a piece of an archive in several")
    _, unicode_name, is_sound = extra
    length = end - position
    values = needed, flags, method, time, crc, packed, unpacked, attributes, at, name, unicode_name, is_sound, length
    # The class's own constructor would take a quarter of the time of all this.
    return tuple.__new__(CentralHeader, values)


def refuse_encryption(flags: int, method: int) -> None:
    """Judge the general purpose flags and the method of a header.

    Raises:
        EncryptedData: The entry is encrypted.
    """
    if flags & _ENCRYPTED or method == _AES_METHOD:
        raise EncryptedData


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
    extra = _extra_fields(local[LOCAL_HEADER.size + name_bytes :], name)
    if not flags & SIZES_FOLLOW:
        unpacked, packed = _large_numbers(extra, (unpacked, packed))
    numbers = ((crc, central.crc), (packed, central.packed_bytes), (unpacked, central.unpacked_bytes))
    for number, wanted in numbers:
        if number != wanted and not (flags & SIZES_FOLLOW and number in (0, HERE_64)):
            raise CorruptData("a size or checksum that differs")
    paths_differ = extra.unicode_name not in (None, central.unicode_name)
    is_same_place = name.replace(b"\\", b"/") == central.name.replace(b"\\", b"/")
    if not is_same_place or paths_differ or method != central.method or (central.flags & ~flags & SIZES_FOLLOW):
        raise CorruptData("a name or method that differs")
    return name == central.name and extra.is_sound and not (flags ^ central.flags) & (SIZES_FOLLOW | UTF8)


def _extra_fields(extra: bytes, name: bytes) -> _ExtraFields:
    fields: dict[int, bytes] = {}
    position = 0
    # Less is padding that aligns the data.
    while len(extra) - position >= 4:
        number, size = _FIELD.unpack_from(extra, position)
        start, position = position + 4, position + 4 + size
        if number in _COUNTING_FIELDS:
            if number in fields and number != _ATTRIBUTES_FIELD:
                raise CorruptData("an extra field that stands twice")
            fields[number] = extra[start:position]
    is_sound = position <= len(extra)
    if not fields:
        return _ExtraFields(is_sound=is_sound)
    large, path = fields.get(_LARGE_FIELD, b""), fields.get(_UNICODE_PATH_FIELD, b"")
    unicode_name = path[5:] if path[:5] == b"\x01" + struct.pack("<I", zlib.crc32(name)) else None
    return _ExtraFields(large, unicode_name, is_sound and [*fields] == [_LARGE_FIELD] and len(large) in _LARGE_SIZES)


def _large_numbers(extra: _ExtraFields, numbers: tuple[int, ...]) -> Iterator[int]:
    """Yield unpacked size, packed size and offset, as far as given, each from where it stands (section 4.5.3)."""
    field = extra.large_numbers
    for number in numbers:
        if number == HERE_64:
            if len(field) < 8:
                raise CorruptData("a number that is nowhere")
            number, field = int.from_bytes(field[:8], "little"), field[8:]
        yield number
