"""Makes images ready and hashes them, beside the event loop (wire contract, sections 3 to 5)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from open_workshop_storage.core.errors import ImageExpected, ImagePreparationFailed, ImageTooLarge, NoSpace
from open_workshop_storage.utils import images
from open_workshop_storage.utils.durable_files import replace_durably
from open_workshop_storage.utils.paths import partial_path
from open_workshop_storage.utils.threads import run_to_end

T = TypeVar("T")

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Images:
    """Pillow's work, in no more threads at once than there are cores; who comes first is served first.

    Args:
        reserve_bytes: Disk space that new images leave free.
    """

    def __init__(self, reserve_bytes: int = 0) -> None:
        self._reserve_bytes = reserve_bytes
        self._turns = asyncio.Semaphore(len(os.sched_getaffinity(0)))

    async def normalise(self, source: Path, target: Path) -> int:
        """Make an image over into WebP as wire contract section 4 says, and return the result's size in bytes.

        Args:
            source: Stays as it is.
            target: Appears complete and on the disk, or not at all; its folder exists.

        Raises:
            ImageExpected: It is no image of a known format, or a broken one.
            ImageTooLarge: It has too many pixels, or too many on a side.
            NoSpace: The disk is full, or would be down to its reserve.
            ImagePreparationFailed: Anything else went wrong.
        """
        return await self._run(lambda: _normalise(source, target, self._reserve_bytes))

    async def blurhash(self, path: Path) -> tuple[str, int, int]:
        """Return a stored image's BlurHash, and its width and height in pixels.

        Raises:
            ImageExpected: It is no image of a known format, or a broken one.
            ImageTooLarge: It has too many pixels.
            ImagePreparationFailed: Anything else went wrong.
        """
        return await self._run(lambda: images.blurhash(path))

    async def _run(self, work: Callable[[], T]) -> T:
        async with self._turns:
            try:
                return await run_to_end(lambda stop: work())
            except images.NotAnImageError as error:
                raise ImageExpected from error
            except images.ImageTooLargeError as error:
                raise ImageTooLarge from error
            except NoSpace:
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise NoSpace from error
                raise ImagePreparationFailed from error


def _normalise(source: Path, target: Path, reserve_bytes: int) -> int:
    partial = partial_path(target)
    try:
        images.normalise(source, partial)
        size = partial.stat().st_size
        if shutil.disk_usage(partial.parent).free < reserve_bytes:
            raise NoSpace
        replace_durably(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return size
