"""Runs the parsers of what strangers send in child processes, and turns faults into errors (docs/API.md, "Reasons")."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.core import errors
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.utils.archives import faults
from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren

_logger = logging.getLogger(__name__)

# A ZIP directory of the greatest size takes 0.7 GB, and the largest window that is decompressed 1 GiB.
_MEMORY_BYTES = 2 * 1024**3
_ERRORS: dict[type[faults.ArchiveFault], type[errors.StorageError]] = {
    faults.EncryptedData: errors.EncryptedArchive,
    faults.UnsafeEntry: errors.UnsafeArchive,
    faults.NameTooLong: errors.UnsafeArchive,
    faults.CorruptData: errors.CorruptArchive,
    faults.CutOff: errors.CorruptArchive,
    faults.UnpackedTooLarge: errors.ArchiveTooLarge,
    faults.UnreadableMethod: errors.UnsupportedFormat,
    faults.SevenZipFailed: errors.RepackFailed,
}


class Parsers:
    """A pool of so many child processes for the functions of `utils/archives`; further calls wait."""

    def __init__(self, size: int) -> None:
        self._children = PythonChildren(size, _MEMORY_BYTES, tuple(_ERRORS))

    async def call(
        self,
        function: Callable[..., object],
        source: BinaryIO,
        *arguments: str | int,
        target: BinaryIO | None = None,
        folder: Path | None = None,
        seconds: float,
    ) -> object:
        """Call a function with an archive, and return what it returns.

        Args:
            target: The file that the function writes, if it writes one.
            seconds: The limit on time, and on CPU time.

        Raises:
            ArchiveFault: What the function raises; `CorruptData` too where the child crashed or passed a limit.
            OSError: A file cannot be read or written.
        """
        files = (source,) if target is None else (source, target)
        try:
            return await self._children.call(
                function, *arguments, files=files, folder=folder, seconds=seconds, cpu_seconds=seconds
            )
        except ChildFailed as error:
            if error.errno is not None:
                raise OSError(error.errno, str(error)) from error
            _logger.warning("parsing an archive failed: %s", error)
            raise faults.CorruptData(str(error)) from error

    async def aclose(self) -> None:
        """End the child processes."""
        await self._children.aclose()


@contextlib.contextmanager
def as_storage_errors() -> Iterator[None]:
    """Let only storage errors out of the body.

    Raises:
        StorageError: What fits the fault; `RepackFailed` where nothing is known to be the archive's fault.
    """
    try:
        with full_disk_is_no_space():
            yield
    except faults.NameTooLong as error:
        raise errors.UnsafeArchive("A file name in the archive is too long") from error
    except faults.ArchiveFault as error:
        raise _ERRORS[type(error)] from error
    except OSError as error:
        raise errors.RepackFailed from error
