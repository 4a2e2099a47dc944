"""Reads the headers of a 7z archive."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import py7zr
from py7zr.exceptions import PasswordRequired, UnsupportedCompressionMethodError

from open_workshop_storage.utils.archives.entries import Entries
from open_workshop_storage.utils.archives.errors import (
    ArchiveError,
    CorruptData,
    EncryptedData,
    UnsafeEntry,
    UnsupportedMethod,
)

_PLAIN_TYPES = frozenset({None, 0, stat.S_IFREG, stat.S_IFDIR})


def read_seven_zip(path: Path, entries: Entries) -> None:
    """Judge a 7z archive by its headers. Blocks.

    Args:
        entries: Takes every entry.

    Raises:
        ArchiveError: It is encrypted, unsafe, corrupt or too large.
        OSError: It cannot be opened.
    """
    with path.open("rb") as file:
        try:
            with py7zr.SevenZipFile(file) as archive:
                if archive.needs_password():
                    raise EncryptedData
                for entry, folder in _with_folders(archive):
                    if entry.st_fmt not in _PLAIN_TYPES or entry.is_symlink or entry.is_junction:
                        raise UnsafeEntry("a link or special file")
                    entries.add(entry.filename, entry.uncompressed, folder)
        except ArchiveError:
            raise
        except PasswordRequired as error:
            raise EncryptedData from error
        except UnsupportedCompressionMethodError as error:
            raise UnsupportedMethod(str(error)) from error
        except Exception as error:
            # On broken headers the library's parser fails in as many ways as there are.
            raise CorruptData(repr(error)) from error


def _with_folders(archive: py7zr.SevenZipFile) -> Iterator[tuple[py7zr.py7zr.ArchiveFile, bool]]:
    """Yield the entries, each with whether it is a folder: one without data that is not marked as an empty file."""
    listed = archive.header.files_info
    empty_files = chain(listed.emptyfiles if listed else (), repeat(False))
    for entry in archive.files:
        is_folder = entry.emptystream and not next(empty_files)
        yield entry, is_folder or entry.is_directory
