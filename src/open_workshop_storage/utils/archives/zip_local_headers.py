"""Reads the local headers of a ZIP, which stand before each entry's data, and holds them against the directory.

Readers differ in which of the two they believe. Numbers and names of fields are those of PKWARE's APPNOTE 6.3.10,
section 4.
"""

from __future__ import annotations

import struct

from open_workshop_storage.utils.archives.central_directory import (
    CentralHeader,
    extra_fields,
    large_numbers,
    refuse_encryption,
)
from open_workshop_storage.utils.archives.faults import CorruptData
from open_workshop_storage.utils.archives.zip_end_records import HERE_64

SIZES_FOLLOW, UTF8 = 0x0008, 0x0800
LOCAL_HEADER, LOCAL_MAGIC = struct.Struct("<4s2xHH4xIIIHH"), b"PK\x03\x04"
SINGLE_PIECE = b"PK00"
"""Stands before the first entry of an archive that was to be split and did not need to be (APPNOTE 8.5.4)."""


def refuse_encrypted_start(head: bytes) -> None:
    """Look for encryption in the first file of a ZIP, behind folders if there are any.

    What looks like a later entry need not be one: only the directory tells.

    Args:
        head: The first bytes of a file of any kind.

    Raises:
        EncryptedData: The entry is encrypted.
    """
    position = len(SINGLE_PIECE) if head.startswith(SINGLE_PIECE) else 0
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
    extra = extra_fields(local[LOCAL_HEADER.size + name_bytes :], name)
    if not flags & SIZES_FOLLOW:
        unpacked, packed = large_numbers(extra, (unpacked, packed))
    numbers = ((crc, central.crc), (packed, central.packed_bytes), (unpacked, central.unpacked_bytes))
    for number, wanted in numbers:
        if number != wanted and not (flags & SIZES_FOLLOW and number in (0, HERE_64)):
            raise CorruptData("a size or checksum that differs")
    paths_differ = extra.unicode_name not in (None, central.unicode_name)
    is_same_place = name.replace(b"\\", b"/") == central.name.replace(b"\\", b"/")
    if not is_same_place or paths_differ or method != central.method or (central.flags & ~flags & SIZES_FOLLOW):
        raise CorruptData("a name or method that differs")
    return name == central.name and extra.is_sound and not (flags ^ central.flags) & (SIZES_FOLLOW | UTF8)
