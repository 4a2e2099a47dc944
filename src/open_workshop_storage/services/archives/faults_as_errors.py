"""Turns what the archive utilities raise into the errors that leave the project (docs/API.md, "Reasons")."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from open_workshop_storage.core import errors
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.utils.archives import faults

_ERRORS: dict[type[faults.ArchiveFault], type[errors.StorageError]] = {
    faults.EncryptedData: errors.EncryptedArchive,
    faults.UnsafeEntry: errors.UnsafeArchive,
    faults.CorruptData: errors.CorruptArchive,
    faults.CutOff: errors.CorruptArchive,
    faults.UnpackedTooLarge: errors.ArchiveTooLarge,
    faults.UnreadableMethod: errors.UnsupportedFormat,
    faults.SevenZipFailed: errors.RepackFailed,
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
        raise errors.UnsafeArchive("A file name in the archive is too long") from error
    except faults.ArchiveFault as error:
        raise _ERRORS[type(error)] from error
    except OSError as error:
        raise errors.RepackFailed from error
