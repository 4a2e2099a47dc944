"""Runs the parsers of what strangers send in child processes, and turns faults into errors (docs/API.md, "Reasons")."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from open_workshop_storage.core import errors
from open_workshop_storage.services.storage.disk import is_full
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


def parsers(size: int) -> PythonChildren:
    """Return a pool of so many child processes for the functions of `utils/archives`; further calls wait."""
    return PythonChildren(size, _MEMORY_BYTES, tuple(_ERRORS))


@contextlib.contextmanager
def as_storage_errors() -> Iterator[None]:
    """Let only storage errors out of the body.

    Raises:
        StorageError: What fits the fault; `CorruptArchive` too where a child crashed or passed a limit, and
            `RepackFailed` where nothing is known to be the archive's fault.
    """
    try:
        yield
    except faults.NameTooLong as error:
        raise errors.UnsafeArchive("A file name in the archive is too long") from error
    except faults.ArchiveFault as error:
        raise _ERRORS[type(error)] from error
    except (ChildFailed, OSError) as error:
        if is_full(error.errno):
            raise errors.NoSpace from error
        if isinstance(error, ChildFailed) and error.errno is None:
            _logger.warning("parsing an archive failed: %s", error)
            raise errors.CorruptArchive from error
        raise errors.RepackFailed from error
