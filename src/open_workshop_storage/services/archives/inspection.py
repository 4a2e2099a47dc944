"""Judges archives by their headers, and tests the data of those that are kept (docs/API.md, "Archives")."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.core.errors import CorruptArchive
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.parsers import as_storage_errors
from open_workshop_storage.services.archives.seven_zip import READ_SWITCHES, TYPE_SWITCHES, SevenZip
from open_workshop_storage.utils.archives.decompression import holds_tar
from open_workshop_storage.utils.archives.entry_rules import Entries
from open_workshop_storage.utils.archives.faults import CorruptData, CutOff
from open_workshop_storage.utils.archives.kinds import COMPRESSED, HEAD_BYTES, Kind, kind_of, refuse_archive_in_tail
from open_workshop_storage.utils.archives.rar4_headers import inspect_rar4
from open_workshop_storage.utils.archives.seven_zip_listing import Listing
from open_workshop_storage.utils.archives.tar import inspect_tar
from open_workshop_storage.utils.archives.zip_directory import refuse_last_piece
from open_workshop_storage.utils.archives.zip_inspection import MOST_TESTED_BYTES, inspect_zip
from open_workshop_storage.utils.files.durable_files import Stopped
from open_workshop_storage.utils.processes.python_children import PythonChildren
from open_workshop_storage.utils.processes.task_groups import without_group
from open_workshop_storage.utils.processes.threads import run_until_stopped

# Headers of 200,000 entries take 10 s; a larger file may have more of them.
_SECONDS, _SECONDS_PER_MEBIBYTE = 60.0, 0.5
_ANY_RATIO_BYTES = 1024**3
"""An archive of any size may unpack to this many bytes: textures of one colour are small when packed."""
_PIECE_NAME = re.compile(r".\.(?:(?:7z|zip|rar|tar|gz|tgz|bz2|xz|zst)\.\d{3,}|[zr]\d{2,}|part\d+\.rar)$", re.IGNORECASE)
"""A piece from the middle of a split archive has no other mark than the name that its writer gave it."""
_BLOCK_BYTES = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
"""What an ordinary user's pipe may hold; the usual 64 KiB make the two sides wait for each other."""


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

    def __init__(self, settings: Settings, seven_zip: SevenZip, parsers: PythonChildren) -> None:
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
                entries = Entries(*limits)
                listing = Listing(entries, code_page)
                arguments = "l", "-slt", TYPE_SWITCHES[kind], *READ_SWITCHES, source
                await self._seven_zip.run(*arguments, on_line=listing.line)
                listing.end()
                if listing.tail_bytes:
                    await self._parse(refuse_archive_in_tail, file, listing.tail_bytes)
                return Inspection(kind, entries.unpacked_bytes, code_page=code_page)
            case Kind.PLAIN:
                if _PIECE_NAME.search(file_name):
                    raise CorruptArchive
                await self._parse(refuse_last_piece, file)
                size = os.fstat(file.fileno()).st_size
                Entries(*limits).grow(size)
                return Inspection(kind, size)
        return Inspection(kind, 0)

    async def _parse(self, function: Callable[..., object], file: BinaryIO, *arguments: str | int) -> object:
        file.seek(0)
        seconds = _SECONDS + os.fstat(file.fileno()).st_size / 1024**2 * _SECONDS_PER_MEBIBYTE
        return await self._parsers.call(function, *arguments, files=[file], seconds=seconds, cpu_seconds=seconds)

    async def test(self, source: Path, inspection: Inspection) -> None:
        """Read all data of an archive that is to be kept, unless that is done, and compare their checksums and size.

        Raises:
            CorruptArchive: The data do not unpack to what the headers say.
            RepackFailed: `7z` failed for another reason.
        """
        if inspection.is_sound:
            return
        with as_storage_errors():
            if inspection.sizes_follow:
                await self._compare_size(source, inspection.unpacked_bytes)
            else:
                await self._seven_zip.run("t", TYPE_SWITCHES[Kind.ZIP], *READ_SWITCHES, source)

    async def _compare_size(self, source: Path, unpacked_bytes: int) -> None:
        """Have `7z` unpack a ZIP into a pipe, and count what comes out."""

        async def counting() -> None:
            try:
                with output:
                    await run_until_stopped(partial(_count, output, unpacked_bytes))
            except CutOff:
                # If the stream ends here because the data are broken, 7z says how.
                await asyncio.shield(unpacking)
                raise

        read_end, write_end = os.pipe()
        with open(read_end, "rb", buffering=0) as output, open(write_end, "wb", buffering=0) as entrance:
            # A user with many pipes may not enlarge another one.
            with contextlib.suppress(PermissionError):
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            # Two tasks side by side, so that a cancellation kills 7z, which ends the stream, which ends the counting.
            with without_group():
                async with asyncio.TaskGroup() as group:
                    arguments = "x", "-so", TYPE_SWITCHES[Kind.ZIP], source
                    unpacking = group.create_task(self._seven_zip.run(*arguments, output=entrance))
                    group.create_task(counting())


def _count(file: BinaryIO, left: int, stop: threading.Event) -> None:
    while chunk := file.read(_BLOCK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise CorruptData("more than the headers say")
        if stop.is_set():
            raise Stopped
    if left:
        raise CutOff


def _opened(source: Path) -> tuple[BinaryIO, Kind]:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(source.open("rb"))
        kind = kind_of(os.pread(file.fileno(), HEAD_BYTES, 0))
        stack.pop_all()
    return file, kind


def limits_of(file: BinaryIO, settings: Settings, max_unpacked_bytes: int) -> tuple[int, int]:
    """Return the limits on an archive's unpacked bytes and on its entries, as `Entries` takes them."""
    ratio = settings.transfer_max_unpacked_ratio
    by_ratio = max(os.fstat(file.fileno()).st_size * ratio, _ANY_RATIO_BYTES) if ratio else 0
    return min(filter(None, (max_unpacked_bytes, by_ratio)), default=0), settings.transfer_max_entries
