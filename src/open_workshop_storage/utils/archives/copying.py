"""Copies parts of archives into new ones, without a look at them."""

from __future__ import annotations

import os
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import CutOff

_COPY_BYTES = 2**30


def copy_bytes(source: BinaryIO, target: BinaryIO, position: int, size: int) -> None:
    """Append bytes of one file to another; the source's own position does not matter. Blocks.

    Raises:
        CutOff: The source has fewer.
        OSError: The source cannot be read, or the target not be written.
    """
    target.flush()
    while size:
        copied = os.sendfile(target.fileno(), source.fileno(), position, min(size, _COPY_BYTES))
        if not copied:
            raise CutOff
        size, position = size - copied, position + copied
    target.seek(0, os.SEEK_END)
