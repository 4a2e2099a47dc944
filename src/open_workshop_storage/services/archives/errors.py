"""Turns what the archive utilities raise into the errors that leave the project (docs/API.md, "Reasons")."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from open_workshop_storage.core.errors import (
    ArchiveTooLarge,
    CorruptArchive,
    EncryptedArchive,
    RepackFailed,
    StorageError,
    UnsafeArchive,
    UnsupportedFormat,
)
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.utils.archives import faults

_ERRORS: dict[type[faults.ArchiveFault], type[StorageError]] = {
    faults.EncryptedData: EncryptedArchive,
    faults.UnsafeEntry: UnsafeArchive,
    faults.CorruptData: CorruptArchive,
    faults.CutOff: CorruptArchive,
    faults.UnpackedTooLarge: ArchiveTooLarge,
    faults.UnreadableMethod: UnsupportedFormat,
    faults.SevenZipFailed: RepackFailed,
}


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
        raise UnsafeArchive("A file name in the archive is too long") from error
    except faults.ArchiveFault as error:
        raise _ERRORS[type(error)] from error
    except OSError as error:
        raise RepackFailed from error
