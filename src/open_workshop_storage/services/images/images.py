"""Makes images ready and hashes them, in child processes (docs/API.md, "Images")."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from open_workshop_storage.core.errors import ImageExpected, ImagePreparationFailed, ImageTooLarge, NoSpace
from open_workshop_storage.services.storage.disk import is_full, require_space
from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.files.durable_files import replace_durably
from open_workshop_storage.utils.files.paths import partial_path
from open_workshop_storage.utils.images import conversion
from open_workshop_storage.utils.images.decoding import ImageTooLargeError, NotAnImageError
from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren
from open_workshop_storage.utils.processes.threads import run_to_end

_logger = logging.getLogger(__name__)

# What a BlurHash of 4×3 components looks like, and pixels that no image has on a side.
_BLURHASH = re.compile(r"[0-9A-Za-z#$%*+,.:;=?@[\]^_{|}~-]{28}")
_NO_SIDE = 2**31

# The largest images that `utils/images/decoding.py` opens took 2.4 GB: 88 megapixels with transparency and a profile.
_MEMORY_BYTES = 3 * 1024**3
# Three times the CPU time that any image took.
_SECONDS = 40.0
# Noise, which is the most work for its pixels, takes 0.1 to 0.5 seconds.
_SECONDS_PER_MEBIBYTE = 0.5
_MOST_SHARERS = 4
"""How many may share a core with an image that keeps to its CPU time."""


class Images:
    """Decodes and encodes images; a decoder that crashes or hangs fails its own image only.

    Each instance has a queue and child processes of its own: one for each core.

    Args:
        reserve_bytes: Disk space that new images leave free.
        niceness: How far this work stands back behind other work when cores are short, up to 19.
    """

    def __init__(self, reserve_bytes: int = 0, niceness: int = 0) -> None:
        self._reserve_bytes = reserve_bytes
        cores = len(os.sched_getaffinity(0))
        self._children = PythonChildren(cores, _MEMORY_BYTES, (NotAnImageError, ImageTooLargeError), niceness)

    async def normalise(self, source: Path, target: Path) -> tuple[int, str]:
        """Make an image over into WebP as docs/API.md, "Images" says.

        Args:
            source: Stays as it is.
            target: Appears complete and on the disk, or not at all; its folder exists.

        Returns:
            The result's size in bytes, and its SHA-256 as hex digits.

        Raises:
            ImageExpected: It is no image of a known format, or a broken one.
            ImageTooLarge: It has too many pixels, or too many on a side.
            NoSpace: The disk is full, or would be down to its reserve.
            ImagePreparationFailed: Anything else went wrong.
        """
        partial = partial_path(target)
        try:
            with _as_storage_errors():
                await self._call(conversion.normalise, (source, "rb"), (partial, "w+b"))
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
        with _as_storage_errors():
            match await self._call(conversion.blurhash, (path, "rb")):
                # It is kept, and what a child returns is as untrusted as the image.
                case [str(blurhash), int(width), int(height)] if _BLURHASH.fullmatch(blurhash):
                    if 0 < min(width, height) <= max(width, height) < _NO_SIDE:
                        return blurhash, width, height
            raise ChildFailed("what is no BlurHash")

    async def aclose(self) -> None:
        """End the child processes."""
        await self._children.aclose()

    async def _call(self, function: Callable[..., object], *files: tuple[Path, str]) -> object:
        """Call a function in a child with files that are opened by their path and mode; the first is the image."""
        with ExitStack() as stack:
            opened = await run_to_end(lambda: [stack.enter_context(path.open(mode)) for path, mode in files])
            cpu_seconds = _SECONDS + os.fstat(opened[0].fileno()).st_size / 1024**2 * _SECONDS_PER_MEBIBYTE
            seconds = cpu_seconds * _MOST_SHARERS
            return await self._children.call(function, files=opened, seconds=seconds, cpu_seconds=cpu_seconds)


@contextmanager
def _as_storage_errors() -> Iterator[None]:
    """Let only storage errors out of the body (docs/API.md, "Reasons")."""
    try:
        yield
    except NotAnImageError as error:
        raise ImageExpected from error
    except ImageTooLargeError as error:
        raise ImageTooLarge from error
    except (ChildFailed, OSError) as error:
        if is_full(error.errno):
            raise NoSpace from error
        _logger.warning("image not prepared: %s", error)
        raise ImagePreparationFailed from error


def _place(partial: Path, target: Path, reserve_bytes: int) -> tuple[int, str]:
    size = partial.stat().st_size
    # What is placed is on the disk already.
    require_space(partial.parent, 0, reserve_bytes)
    # The child that wrote it has opened a stranger's file, and might say anything.
    sha256 = FileDigest().finish(partial, threading.Event())
    replace_durably(partial, target)
    return size, sha256
