"""Makes images ready and hashes them, in child processes (docs/API.md, "Images")."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from open_workshop_storage.core.errors import ImageExpected, ImagePreparationFailed, ImageTooLarge, NoSpace
from open_workshop_storage.services.storage.disk import is_full, require_space
from open_workshop_storage.utils.files.durable_files import replace_durably
from open_workshop_storage.utils.files.paths import partial_path
from open_workshop_storage.utils.images.children import ImageChildren, ImageTaskFailed
from open_workshop_storage.utils.images.pictures import ImageTooLargeError, NotAnImageError
from open_workshop_storage.utils.processes.threads import run_to_end

_logger = logging.getLogger(__name__)

# The largest images that `utils/images/pictures.py` accepts took 2.4 GB: 88 megapixels with transparency and a profile.
_MEMORY_BYTES = 3 * 1024**3
# Three times what any image took, with a core to itself, besides the seconds that its size gives it.
_NORMALISE_SECONDS = 40.0
_BLURHASH_SECONDS = 20.0


class Images:
    """Decodes and encodes images; a decoder that crashes or hangs fails its own image only.

    Args:
        reserve_bytes: Disk space that new images leave free.
        normalise_seconds: How long one image may take to normalise, besides half a second for each MiB.
        blurhash_seconds: How long it may take to hash, besides as much.
        memory_bytes: How much memory its child process may use.
    """

    def __init__(
        self,
        reserve_bytes: int = 0,
        normalise_seconds: float = _NORMALISE_SECONDS,
        blurhash_seconds: float = _BLURHASH_SECONDS,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self._reserve_bytes = reserve_bytes
        self._normalise_seconds = normalise_seconds
        self._blurhash_seconds = blurhash_seconds
        self._children = ImageChildren(memory_bytes)

    async def normalise(self, source: Path, target: Path) -> int:
        """Make an image over into WebP as docs/API.md, "Images" says, and return the result's size in bytes.

        Args:
            source: Stays as it is.
            target: Appears complete and on the disk, or not at all; its folder exists.

        Raises:
            ImageExpected: It is no image of a known format, or a broken one.
            ImageTooLarge: It has too many pixels, or too many on a side.
            NoSpace: The disk is full, or would be down to its reserve.
            ImagePreparationFailed: Anything else went wrong.
        """
        partial = partial_path(target)
        try:
            await self._run(self._normalise_seconds, "normalise", source, partial)
            return await run_to_end(_place, partial, target, self._reserve_bytes)
        except BaseException:
            await run_to_end(partial.unlink, missing_ok=True)
            raise

    async def blurhash(self, path: Path) -> tuple[str, int, int]:
        """Return a stored image's BlurHash, and its width and height in pixels.

        Raises:
            ImageExpected: It is no image of a known format, or a broken one.
            ImageTooLarge: It has too many pixels.
            ImagePreparationFailed: Anything else went wrong.
        """
        blurhash, width, height = await self._run(self._blurhash_seconds, "blurhash", path)
        return blurhash, width, height

    async def aclose(self) -> None:
        """End the child processes."""
        await self._children.aclose()

    async def _run(self, seconds: float, task: str, *paths: Path) -> Any:
        try:
            return await self._children.run(seconds, task, *paths)
        except NotAnImageError as error:
            raise ImageExpected from error
        except ImageTooLargeError as error:
            raise ImageTooLarge from error
        except ImageTaskFailed as error:
            if is_full(error.errno):
                raise NoSpace from error
            _logger.warning("image not prepared: %s", error)
            raise ImagePreparationFailed from error


def _place(partial: Path, target: Path, reserve_bytes: int) -> int:
    size = partial.stat().st_size
    # What is placed is on the disk already.
    require_space(partial.parent, 0, reserve_bytes)
    replace_durably(partial, target)
    return size
