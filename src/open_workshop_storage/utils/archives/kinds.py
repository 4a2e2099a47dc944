"""What kind of archive begins where a file does, or behind the end of another one (docs/API.md, "Archives")."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from functools import partial
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import CorruptData

HEAD_BYTES = 512
"""How much of a file's start `kind_of` has to see."""


class Kind(Enum):
    """A kind of file, as far as unpacking goes."""

    ZIP = auto()
    SEVEN_ZIP = auto()
    RAR4 = auto()
    RAR5 = auto()
    TAR = auto()
    GZIP = auto()
    BZIP2 = auto()
    XZ = auto()
    ZSTD = auto()
    PLAIN = auto()


COMPRESSED = frozenset({Kind.GZIP, Kind.BZIP2, Kind.XZ, Kind.ZSTD})
"""Kinds that hold one stream, which is an archive only if it is a tar."""

_MAGICS = (
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    # The first piece of a ZIP in several (APPNOTE 8.5.3), and one that came out as a single piece (8.5.4).
    (b"PK\x07\x08", Kind.ZIP),
    (b"PK00PK\x03\x04", Kind.ZIP),
    (b"7z\xbc\xaf\x27\x1c", Kind.SEVEN_ZIP),
    (b"Rar!\x1a\x07\x00", Kind.RAR4),
    (b"Rar!\x1a\x07\x01\x00", Kind.RAR5),
    (b"\x1f\x8b\x08", Kind.GZIP),
    *((b"BZh%d" % level + block, Kind.BZIP2) for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")),
    (b"\xfd7zXZ\x00", Kind.XZ),
    (b"\x28\xb5\x2f\xfd", Kind.ZSTD),
    # Skippable frames, with which pzstd begins (RFC 8878, section 3.1.2).
    *((bytes([0x50 + number]) + b"\x2a\x4d\x18", Kind.ZSTD) for number in range(16)),
)
_TAR_MAGIC_AT, _TAR_MAGIC = 257, b"ustar"
_BLOCK_BYTES = 1024 * 1024


def kind_of(head: bytes) -> Kind:
    """Return the kind of a file that starts with these bytes.

    Args:
        head: The first `HEAD_BYTES` bytes, or all if there are fewer.
    """
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    return Kind.TAR if head.startswith(_TAR_MAGIC, _TAR_MAGIC_AT) else Kind.PLAIN


def refuse_archive(blocks: Iterable[bytes]) -> None:
    """Read what stands behind the end of an archive: NULs, and up to 512 bytes that follow them.

    Raises:
        CorruptData: Another archive begins there, and would be lost.
    """
    head = b""
    for block in blocks:
        head += block if head else block.lstrip(b"\0")
        if len(head) >= HEAD_BYTES:
            break
    if kind_of(head) is not Kind.PLAIN:
        raise CorruptData("another archive behind the end")


def refuse_archive_in_tail(file: BinaryIO, tail_bytes: int) -> None:
    """Judge the last bytes of a file as `refuse_archive` does. Blocks.

    Raises:
        CorruptData: Another archive begins there.
        OSError: It cannot be read.
    """
    file.seek(max(0, file.seek(0, 2) - tail_bytes))
    refuse_archive(iter(partial(file.read, _BLOCK_BYTES), b""))
