"""Judges archives by their headers, and tests the data of those that are kept (docs/API.md, "Archives")."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.errors import as_storage_errors
from open_workshop_storage.utils.archives.entries import Entries, ratio_limit
from open_workshop_storage.utils.archives.faults import CorruptData, CutOff
from open_workshop_storage.utils.archives.kinds import COMPRESSED, HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.listing import Listing
from open_workshop_storage.utils.archives.rar4_headers import refuse_rar4_links
from open_workshop_storage.utils.archives.seven_zip import READ_SWITCHES, TYPE_SWITCHES, SevenZip
from open_workshop_storage.utils.archives.streams import holds_tar, read_decompressed
from open_workshop_storage.utils.archives.tar import read_tar
from open_workshop_storage.utils.archives.zip_headers import read_zip
from open_workshop_storage.utils.files.durable_files import Stopped

_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Inspection:
    """What a received file is, by its headers.

    Attributes:
        kind: Its kind; a compressed kind means that a tar is in it.
        unpacked_bytes: What its entries announce, in bytes; 0 for a compressed tar, which has to be read for that.
        keep: Whether it is a ZIP that can stay as it is, if it passes its test.
        sizes_follow: Whether it is a ZIP with sizes that follow the data, which `7z`'s own test does not compare.
    """

    kind: Kind
    unpacked_bytes: int
    keep: bool = False
    sizes_follow: bool = False


class Inspector:
    """Reads archives; writes nothing."""

    def __init__(self, settings: Settings, seven_zip: SevenZip) -> None:
        self._settings = settings
        self._seven_zip = seven_zip

    async def inspect(self, source: Path, max_unpacked_bytes: int) -> Inspection:
        """Tell what a file is, and judge it by its headers.

        Args:
            max_unpacked_bytes: The limit on all entries together; 0 for none.

        Raises:
            EncryptedArchive: An entry or a header is encrypted.
            UnsafeArchive: An entry breaks a rule of docs/API.md, "Archives".
            CorruptArchive: It is cut off, a piece of several, or contradicts itself.
            ArchiveTooLarge: It announces more than a limit: the given one, or the settings' on entries and ratio.
            UnsupportedFormat: It is of a kind that cannot be read here.
            RepackFailed: Reading failed for another reason.
        """
        keep = sizes_follow = False
        with as_storage_errors():
            kind, entries = await asyncio.to_thread(_first_look, source, self._settings, max_unpacked_bytes)
            if kind in COMPRESSED and not await holds_tar(self._seven_zip, source, TYPE_SWITCHES[kind]):
                kind = Kind.PLAIN
            if kind is Kind.ZIP:
                keep, sizes_follow = await asyncio.to_thread(read_zip, source, entries)
            elif kind is Kind.TAR:
                await asyncio.to_thread(read_tar, source, entries)
            elif kind in (Kind.SEVEN_ZIP, Kind.RAR4, Kind.RAR5):
                if kind is Kind.RAR4:
                    await asyncio.to_thread(refuse_rar4_links, source)
                listing = Listing(entries)
                arguments = "l", "-slt", TYPE_SWITCHES[kind], *READ_SWITCHES, source
                await self._seven_zip.run(*arguments, on_line=listing.line)
                listing.end()
            elif kind is Kind.PLAIN:
                entries.add("file", await asyncio.to_thread(os.path.getsize, source), folder=False)
        return Inspection(kind, entries.unpacked_bytes, keep, sizes_follow)

    async def test(self, source: Path, inspection: Inspection, on_percent: Callable[[float], None]) -> None:
        """Read all data of an archive that is to be kept, and compare their checksums and their size.

        Args:
            on_percent: Told each rise of the progress, up to 100; must not block.

        Raises:
            CorruptArchive: The data do not unpack to what the headers say.
            RepackFailed: `7z` failed for another reason.
        """
        type_switch = TYPE_SWITCHES[inspection.kind]

        def count(file: BinaryIO, stop: threading.Event) -> None:
            left = inspection.unpacked_bytes
            while chunk := file.read(_BLOCK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise CorruptData("more than the headers say")
                if stop.is_set():
                    raise Stopped
            if left:
                raise CutOff

        with as_storage_errors():
            if inspection.sizes_follow:
                await read_decompressed(self._seven_zip, source, type_switch, count, on_percent)
            else:
                await self._seven_zip.run("t", type_switch, *READ_SWITCHES, source, on_percent=on_percent)


def entries_of(source: Path, settings: Settings, max_unpacked_bytes: int) -> Entries:
    """Return what judges the entries of an archive by the limits.

    Args:
        max_unpacked_bytes: The limit on all entries together; 0 for none.
    """
    limits = max_unpacked_bytes, ratio_limit(source.stat().st_size, settings.transfer_max_unpacked_ratio)
    return Entries(min(filter(None, limits), default=0), settings.transfer_max_entries)


def _first_look(source: Path, settings: Settings, max_unpacked_bytes: int) -> tuple[Kind, Entries]:
    with source.open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
    return kind, entries_of(source, settings, max_unpacked_bytes)
