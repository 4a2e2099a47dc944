"""Judges archives by their headers, and tests the data of those that are kept (docs/API.md, "Archives")."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.faults_as_errors import as_storage_errors
from open_workshop_storage.services.archives.parsers import Parsers
from open_workshop_storage.utils.archives.decompression import holds_tar
from open_workshop_storage.utils.archives.entry_rules import Entries, ratio_limit
from open_workshop_storage.utils.archives.kinds import COMPRESSED, HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.rar4_headers import inspect_rar4
from open_workshop_storage.utils.archives.seven_zip import READ_SWITCHES, TYPE_SWITCHES, SevenZip
from open_workshop_storage.utils.archives.seven_zip_listing import Listing
from open_workshop_storage.utils.archives.split_archives import refuse_piece
from open_workshop_storage.utils.archives.streams import compare_size
from open_workshop_storage.utils.archives.tar import inspect_tar
from open_workshop_storage.utils.archives.trailing_data import refuse_archive_in_tail
from open_workshop_storage.utils.archives.zip_inspection import inspect_zip
from open_workshop_storage.utils.archives.zip_testing import MOST_TESTED_BYTES

# Headers of 200,000 entries take 10 s; a larger file may have more of them.
_SECONDS, _SECONDS_PER_MEBIBYTE = 60.0, 0.5


@dataclass(frozen=True)
class Inspection:
    """What a received file is, by its headers.

    Attributes:
        kind: Its kind; a compressed kind means that a tar is in it.
        unpacked_bytes: What its entries announce, in bytes; 0 for a compressed tar, which has to be read for that.
        keep: Whether it is a ZIP that can stay as it is, if it passes its test.
        sizes_follow: Whether it is a ZIP with sizes that follow the data, which `7z`'s own test does not compare.
        has_new_methods: Whether it is a ZIP with entries in methods that malware scanners cannot undo.
        is_sound: Whether it is a ZIP whose data have been read too, and are what the headers say.
        code_page: What names of a RAR 4 archive are in; empty if all are in Unicode.
    """

    kind: Kind
    unpacked_bytes: int
    keep: bool = False
    sizes_follow: bool = False
    has_new_methods: bool = False
    is_sound: bool = False
    code_page: str = ""


class Inspector:
    """Reads archives; writes nothing."""

    def __init__(self, settings: Settings, seven_zip: SevenZip, parsers: Parsers) -> None:
        self._settings = settings
        self._seven_zip = seven_zip
        self._parsers = parsers

    async def inspect(self, source: Path, file_name: str, max_unpacked_bytes: int) -> Inspection:
        """Tell what a file is, and judge it by its headers.

        Args:
            file_name: The name that its sender gave it. Only a piece of a split archive is recognised by it.
            max_unpacked_bytes: The limit on all entries together; 0 for none.

        Raises:
            EncryptedArchive: An entry or a header is encrypted.
            UnsafeArchive: An entry breaks a rule of docs/API.md, "Archives".
            CorruptArchive: It is cut off, a piece of several, contradicts itself, or another one is behind its end.
            ArchiveTooLarge: It announces more than a limit: the given one, or the settings' on entries and ratio.
            UnsupportedFormat: It is of a kind that cannot be read here.
            RepackFailed: Reading failed for another reason.
        """
        with as_storage_errors():
            file, kind = await asyncio.to_thread(_opened, source)
            with file:
                return await self._inspect(source, file, kind, file_name, max_unpacked_bytes)

    async def inspect_small_zip(self, source: Path, max_unpacked_bytes: int) -> Inspection | None:
        """Judge a ZIP of at most `MOST_TESTED_BYTES` as `inspect` does, without `7z`; return `None` for other files."""
        with as_storage_errors():
            file, kind = await asyncio.to_thread(_opened, source)
            with file:
                if kind is not Kind.ZIP or os.fstat(file.fileno()).st_size > MOST_TESTED_BYTES:
                    return None
                return await self._inspect(source, file, kind, "", max_unpacked_bytes)

    async def _inspect(
        self, source: Path, file: BinaryIO, kind: Kind, file_name: str, max_unpacked_bytes: int
    ) -> Inspection:
        limits = limits_of(file, self._settings, max_unpacked_bytes)
        if kind in COMPRESSED and not await self._parse(holds_tar, file, kind.name):
            kind = Kind.PLAIN
        match kind:
            case Kind.ZIP:
                match await self._parse(inspect_zip, file, *limits):
                    case [int(size), bool(keep), bool(sizes_follow), bool(has_new_methods), bool(is_sound)]:
                        return Inspection(kind, size, keep, sizes_follow, has_new_methods, is_sound)
            case Kind.TAR:
                match await self._parse(inspect_tar, file, *limits):
                    case int(size):
                        return Inspection(kind, size)
            case Kind.SEVEN_ZIP | Kind.RAR4 | Kind.RAR5:
                code_page = str(await self._parse(inspect_rar4, file)) if kind is Kind.RAR4 else ""
                listing = Listing(Entries(*limits), code_page)
                arguments = "l", "-slt", TYPE_SWITCHES[kind], *READ_SWITCHES, source
                await self._seven_zip.run(*arguments, on_line=listing.line)
                listing.end()
                if listing.tail_bytes:
                    await self._parse(refuse_archive_in_tail, file, listing.tail_bytes)
                return Inspection(kind, listing.unpacked_bytes, code_page=code_page)
            case Kind.PLAIN:
                match await self._parse(refuse_piece, file, file_name):
                    case int(size):
                        Entries(*limits).grow(size)
                        return Inspection(kind, size)
        return Inspection(kind, 0)

    async def _parse(self, function: Callable[..., object], file: BinaryIO, *arguments: str | int) -> object:
        file.seek(0)
        seconds = _SECONDS + os.fstat(file.fileno()).st_size / 1024**2 * _SECONDS_PER_MEBIBYTE
        return await self._parsers.call(function, file, *arguments, seconds=seconds)

    async def test(self, source: Path, inspection: Inspection) -> None:
        """Read all data of an archive that is to be kept, unless that is done, and compare their checksums and size.

        Raises:
            CorruptArchive: The data do not unpack to what the headers say.
            RepackFailed: `7z` failed for another reason.
        """
        if inspection.is_sound:
            return
        type_switch = TYPE_SWITCHES[inspection.kind]
        with as_storage_errors():
            if inspection.sizes_follow:
                await compare_size(self._seven_zip, source, type_switch, inspection.unpacked_bytes)
            else:
                await self._seven_zip.run("t", type_switch, *READ_SWITCHES, source)


def _opened(source: Path) -> tuple[BinaryIO, Kind]:
    with ExitStack() as stack:
        file = stack.enter_context(source.open("rb"))
        kind = kind_of(os.pread(file.fileno(), HEAD_BYTES, 0))
        stack.pop_all()
    return file, kind


def limits_of(file: BinaryIO, settings: Settings, max_unpacked_bytes: int) -> tuple[int, int]:
    """Return the limits on an archive's unpacked bytes and on its entries, as `Entries` takes them."""
    archive_bytes = os.fstat(file.fileno()).st_size
    limits = max_unpacked_bytes, ratio_limit(archive_bytes, settings.transfer_max_unpacked_ratio)
    return min(filter(None, limits), default=0), settings.transfer_max_entries
