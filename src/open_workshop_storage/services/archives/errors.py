"""Turns what the archive utilities raise into the errors that leave the project (docs/API.md, "Reasons")."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from open_workshop_storage.core.errors import (
    ArchiveTooLarge,
    CorruptArchive,
    EncryptedArchive,
    NoSpace,
    RepackFailed,
    StorageError,
    UnsafeArchive,
    UnsupportedFormat,
)
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.utils.archives import errors
from open_workshop_storage.utils.archives.seven_zip import Failure, SevenZipError

_ARCHIVE_ERRORS: dict[type[errors.ArchiveError], type[StorageError]] = {
    errors.EncryptedData: EncryptedArchive,
    errors.UnsafeEntry: UnsafeArchive,
    errors.CorruptData: CorruptArchive,
    errors.CutOff: CorruptArchive,
    errors.UnpackedTooLarge: ArchiveTooLarge,
    errors.UnsupportedMethod: UnsupportedFormat,
}
_SEVEN_ZIP_ERRORS: dict[Failure, type[StorageError]] = {
    Failure.BAD_DATA: CorruptArchive,
    Failure.ENCRYPTED: EncryptedArchive,
    Failure.UNSUPPORTED: UnsupportedFormat,
    Failure.NO_SPACE: NoSpace,
    # The largest file allowed is what the headers announce for all together.
    Failure.FILE_LIMIT: CorruptArchive,
    Failure.TIMEOUT: RepackFailed,
    Failure.OTHER: RepackFailed,
}


@contextlib.contextmanager
def as_storage_errors() -> Iterator[None]:
    """Let only storage errors out of the body.

    Raises:
        StorageError: What fits the utility's error; `RepackFailed` where nothing is known to be the archive's fault.
    """
    try:
        with full_disk_is_no_space():
            yield
    except errors.ArchiveError as error:
        raise _ARCHIVE_ERRORS[type(error)] from error
    except SevenZipError as error:
        raise _SEVEN_ZIP_ERRORS[error.failure] from error
    except OSError as error:
        raise (UnsafeArchive if error.errno == errno.ENAMETOOLONG else RepackFailed) from error
