"""A disk so small that a test can fill it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mounts import mounted


class SmallDisk:
    """A file system of its own, of 64 MiB.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def free(self) -> int:
        """Return how many bytes are free."""
        return shutil.disk_usage(self.folder).free

    def leave(self, size: int) -> None:
        """Fill it until so many bytes are free, rounded to pages."""
        self.clear()
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free() - size)

    def clear(self) -> None:
        """Take away what `leave` filled it with."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mount one until the block ends.

    Args:
        folder: Where to; is made.

    Raises:
        MountRefusedError: The machine does not let us.
    """
    with mounted(folder, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        yield SmallDisk(folder)
