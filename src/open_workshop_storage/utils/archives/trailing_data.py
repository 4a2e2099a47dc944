"""Judges what stands behind the end of an archive: an archive there would be lost."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import CorruptData
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of

_BLOCK_BYTES = 1024 * 1024


def refuse_archive(blocks: Iterable[bytes]) -> None:
    """Read NULs and up to 512 bytes that follow them.

    Raises:
        CorruptData: Another archive begins there.
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
