"""Reads files of a disk in blocks."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from open_workshop_storage.core import errors
from open_workshop_storage.services.storage.files import StoredFile
from open_workshop_storage.services.storage.local_facts import version_of
from open_workshop_storage.utils.files.blocks import BlockReader


class OpenedLocalFile:
    """A file that is open in the block, or already; an implementation of `OpenedFile`.

    Args:
        file: As it was looked up, or as it is open.
        descriptor: Closed after the block; -1 to open the file when the block begins.
    """

    def __init__(self, path: str, file: StoredFile, reader: BlockReader, descriptor: int = -1) -> None:
        self.file = file
        self._path = path
        self._reader = reader
        self._descriptor = descriptor

    async def __aenter__(self) -> OpenedLocalFile:
        if self._descriptor >= 0:
            return self
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            raise errors.FileMissing from None
        status = os.fstat(self._descriptor)
        version = version_of(status)
        if version != self.file.version:
            self.file = self.file._replace(
                size=status.st_size,
                modified_ns=status.st_mtime_ns,
                version=version,
                changed_ns=status.st_ctime_ns,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_unchanged(self) -> bool:
        """Return whether what is open is the file as it was looked up, with all that is kept with it."""
        status = os.fstat(self._descriptor)
        return version_of(status) == self.file.version and status.st_ctime_ns == self.file.changed_ns

    def close(self) -> None:
        """Close what is open."""
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> Coroutine[Any, Any, bytes | bytearray]:
        """Read from the page cache at once, else in a thread; raises as `OpenedFile.read`."""
        return self._reader.read(self._descriptor, offset, length)
