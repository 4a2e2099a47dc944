"""How large an archive is when unpacked, by its directory. Blocks, and is meant for child processes."""

from __future__ import annotations

from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import ArchiveFault
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.zip_directory import find_directory, read_headers
from open_workshop_storage.utils.archives.zip_headers import refuse_encryption


def unpacked_size(file: BinaryIO) -> int | None:
    """Return the sum of the unpacked sizes that a ZIP or a 7z archive announces, in bytes.

    Returns:
        None if the file is no such archive, cannot be read, or has an entry that is encrypted.

    Raises:
        Exception: Whatever py7zr raises for a broken 7z archive.
    """
    file.seek(0)
    kind = kind_of(file.read(HEAD_BYTES))
    file.seek(0)
    return _of_seven_zip(file) if kind is Kind.SEVEN_ZIP else _of_zip(file)


def _of_zip(file: BinaryIO) -> int | None:
    size = 0
    try:
        for header in read_headers(file, find_directory(file), max_entries=0):
            refuse_encryption(header.flags, header.method)
            size += header.unpacked_bytes
    except (ArchiveFault, OSError):
        return None
    return size


def _of_seven_zip(file: BinaryIO) -> int | None:
    # Only children come here; it would take 15 MB of each worker.
    import py7zr

    with py7zr.SevenZipFile(file) as archive:
        return None if archive.needs_password() else sum(entry.uncompressed for entry in archive.list())
