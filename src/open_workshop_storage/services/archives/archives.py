"""Inspects, tests, extracts and packs archives (docs/API.md, "Archives").

Each step can be done again from what is on the disk, whatever became of the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from open_workshop_storage.core.errors import ArchiveTooLarge, CorruptArchive
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.services.archives.errors import as_storage_errors
from open_workshop_storage.services.storage.disk import require_space
from open_workshop_storage.services.storage.workspaces import discard
from open_workshop_storage.utils.archives.entries import Entries, ratio_limit
from open_workshop_storage.utils.archives.errors import CorruptData, CutOff
from open_workshop_storage.utils.archives.groups import meanwhile, watched
from open_workshop_storage.utils.archives.kinds import COMPRESSED, HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.listing import Listing
from open_workshop_storage.utils.archives.rar4_headers import refuse_rar4_links
from open_workshop_storage.utils.archives.seven_zip import SevenZip
from open_workshop_storage.utils.archives.streams import holds_tar, read_decompressed
from open_workshop_storage.utils.archives.tar import read_tar, unpack_tar
from open_workshop_storage.utils.archives.tree import settle_tree, size_of_tree
from open_workshop_storage.utils.archives.zip_headers import read_zip
from open_workshop_storage.utils.files.durable_files import Stopped, sync
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

OnPercent = Callable[[float], None]

# Naming the type keeps 7z from trying others on what is not what it seems to be.
_TYPE_SWITCHES = {
    Kind.ZIP: "-tzip",
    Kind.SEVEN_ZIP: "-t7z",
    Kind.RAR4: "-trar",
    Kind.RAR5: "-trar5",
    Kind.GZIP: "-tgzip",
    Kind.BZIP2: "-tbzip2",
    Kind.XZ: "-txz",
    Kind.ZSTD: "-tzstd",
}
_READ_SWITCHES = ("-p-", "-sns-")
"""Some password, so that none is asked for, and no alternate streams."""
_COPY_BYTES = 1024 * 1024
_WRITE_BACK_SECONDS = 0.5


@dataclass(frozen=True)
class Inspection:
    """What a received file is, by its headers.

    Args:
        kind: Its kind; a compressed kind means that a tar is in it.
        unpacked_bytes: What its entries announce, in bytes; 0 for a compressed tar, which has to be read for that.
        keep: Whether it is a ZIP that can stay as it is, if it passes its test.
        sizes_follow: Whether it is a ZIP with sizes that follow the data, which `7z`'s own test does not compare.
    """

    kind: Kind
    unpacked_bytes: int
    keep: bool = False
    sizes_follow: bool = False


class _TracedSevenZip(SevenZip):
    """Makes each run a span."""

    async def run(self, *arguments: str | Path, **options: Any) -> None:
        """See `SevenZip.run`."""
        with span(f"7z {arguments[0]}"):
            await super().run(*arguments, **options)


class Archives:
    """Runs `7z`, and header parsers in threads, on files of unknown origin."""

    def __init__(self, settings: Settings) -> None:
        self._reserve_bytes = settings.storage_reserve_bytes
        self._max_entries = settings.transfer_max_entries
        self._max_ratio = settings.transfer_max_unpacked_ratio
        self._seven_zip = _TracedSevenZip(settings.seven_zip_timeout_seconds, settings.seven_zip_idle_timeout_seconds)

    async def inspect(self, source: Path, max_unpacked_bytes: int) -> Inspection:
        """Tell what a file is, and judge it by its headers. Writes nothing.

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
            kind, entries = await asyncio.to_thread(self._first_look, source, max_unpacked_bytes)
            if kind in COMPRESSED and not await holds_tar(self._seven_zip, source, _TYPE_SWITCHES[kind]):
                kind = Kind.PLAIN
            if kind is Kind.ZIP:
                keep, sizes_follow = await asyncio.to_thread(read_zip, source, entries)
            elif kind is Kind.TAR:
                await asyncio.to_thread(read_tar, source, entries)
            elif kind in (Kind.SEVEN_ZIP, Kind.RAR4, Kind.RAR5):
                if kind is Kind.RAR4:
                    await asyncio.to_thread(refuse_rar4_links, source)
                listing = Listing(entries)
                arguments = "l", "-slt", _TYPE_SWITCHES[kind], *_READ_SWITCHES, source
                await self._seven_zip.run(*arguments, on_line=listing.line)
                listing.end()
            elif kind is Kind.PLAIN:
                entries.add("file", await asyncio.to_thread(os.path.getsize, source), folder=False)
        return Inspection(kind, entries.unpacked_bytes, keep, sizes_follow)

    async def test(self, source: Path, inspection: Inspection, on_percent: OnPercent) -> None:
        """Read all data of an archive that is to be kept, and compare their checksums and their size.

        Args:
            on_percent: Told each rise of the progress, up to 100; must not block.

        Raises:
            CorruptArchive: The data do not unpack to what the headers say.
            RepackFailed: `7z` failed for another reason.
        """
        type_switch = _TYPE_SWITCHES[inspection.kind]

        def count(file: BinaryIO, stop: threading.Event) -> None:
            left = inspection.unpacked_bytes
            while chunk := file.read(_COPY_BYTES):
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
                await self._seven_zip.run("t", type_switch, *_READ_SWITCHES, source, on_percent=on_percent)

    async def extract(
        self,
        source: Path,
        inspection: Inspection,
        target: Path,
        filename: str,
        max_unpacked_bytes: int,
        on_percent: OnPercent,
    ) -> int:
        """Unpack an archive into a folder of its own; a plain file becomes the only file there.

        Args:
            inspection: What `inspect` told of the source.
            target: The folder; removed first if it is there, and removed again on failure.
            filename: The name that a plain file gets, safe to use.
            max_unpacked_bytes: The limit on all files together; 0 for none.
            on_percent: Told each rise of the progress, up to 100; must not block.

        Returns:
            The bytes in all files.

        Raises:
            UnsafeArchive: What came out, or a compressed tar, breaks a rule of docs/API.md, "Archives".
            CorruptArchive: The data are broken, cut off, or not what the headers say.
            ArchiveTooLarge: There is more than a limit.
            UnsupportedFormat: `7z` cannot unpack a method in it.
            NoSpace: The disk would be left with less than its reserve.
            RepackFailed: Unpacking failed for another reason.
        """
        if 0 < max_unpacked_bytes < inspection.unpacked_bytes:
            raise ArchiveTooLarge
        with as_storage_errors():
            await run_to_end(_make_empty, target)
            try:
                if inspection.kind is Kind.PLAIN:
                    await run_until_stopped(partial(self._place_plain, source, target / filename))
                    on_percent(100)
                    return inspection.unpacked_bytes
                await asyncio.to_thread(self._require_space, target, inspection.unpacked_bytes)
                if inspection.kind is Kind.TAR or inspection.kind in COMPRESSED:
                    return await self._extract_tar(source, inspection.kind, target, max_unpacked_bytes, on_percent)
                return await self._extract_by_seven_zip(source, inspection, target, on_percent)
            except BaseException:
                await discard(target)
                raise

    async def pack(self, folder: Path, target: Path, level: int, on_percent: OnPercent) -> int:
        """Pack what a folder holds into a ZIP, which appears complete or not at all.

        The disk takes in what there is of it while `7z` works, but not for sure all: whoever gives it its permanent
        place sees to that, and then waits for little.

        Args:
            level: 0 (fastest) to 9 (smallest).
            on_percent: Told each rise of the progress, up to 100; must not block.

        Returns:
            The size of the ZIP in bytes.

        Raises:
            NoSpace: The disk would be left with less than its reserve.
            RepackFailed: Packing failed for another reason.
        """
        part = target.absolute().with_name(target.name + ".part")
        arguments = "a", "-tzip", "-mm=Deflate", f"-mx={level}", "-mcu=on", part, "."
        with as_storage_errors():
            # 7z would add to what is there.
            await run_to_end(_remove_part, part)
            try:
                async with watched(partial(self._require_space, target.parent)), meanwhile(_write_back(part)):
                    await self._seven_zip.run(*arguments, on_percent=on_percent, folder=folder)
                await asyncio.to_thread(self._require_space, target.parent)
                return await run_to_end(_put_in_place, part, target)
            except BaseException:
                await run_to_end(_remove_part, part)
                raise

    async def _extract_by_seven_zip(
        self, source: Path, inspection: Inspection, target: Path, on_percent: OnPercent
    ) -> int:
        announced = inspection.unpacked_bytes

        def check() -> None:
            self._require_space(target)
            if size_of_tree(target) > announced:
                raise CorruptArchive

        arguments = "x", _TYPE_SWITCHES[inspection.kind], *_READ_SWITCHES, f"-o{target}", source
        async with watched(check):
            await self._seven_zip.run(*arguments, on_percent=on_percent, max_file_bytes=announced)
        if await asyncio.to_thread(settle_tree, target) != announced:
            raise CorruptArchive
        return announced

    async def _extract_tar(
        self, source: Path, kind: Kind, target: Path, max_unpacked_bytes: int, on_percent: OnPercent
    ) -> int:
        entries = await asyncio.to_thread(self._entries_of, source, max_unpacked_bytes)

        def unpack(tell: Callable[[], None], file: BinaryIO, stop: threading.Event) -> None:
            def tick() -> None:
                if stop.is_set():
                    raise Stopped
                self._require_space(target)
                tell()

            unpack_tar(file, target, entries, tick)

        def unpack_file(loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
            with source.open("rb", buffering=0) as file:
                unpack(_teller(file, loop, on_percent), file, stop)

        if kind in COMPRESSED:
            read = partial(unpack, lambda: None)
            await read_decompressed(self._seven_zip, source, _TYPE_SWITCHES[kind], read, on_percent)
        else:
            await run_until_stopped(partial(unpack_file, asyncio.get_running_loop()))
        return entries.unpacked_bytes

    def _first_look(self, source: Path, max_unpacked_bytes: int) -> tuple[Kind, Entries]:
        return _kind_of_file(source), self._entries_of(source, max_unpacked_bytes)

    def _entries_of(self, source: Path, max_unpacked_bytes: int) -> Entries:
        limits = max_unpacked_bytes, ratio_limit(source.stat().st_size, self._max_ratio)
        return Entries(min(filter(None, limits), default=0), self._max_entries)

    def _place_plain(self, source: Path, target: Path, stop: threading.Event) -> None:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
        self._require_space(target.parent, source.stat().st_size)
        with source.open("rb") as reader, target.open("xb") as writer:
            while chunk := reader.read(_COPY_BYTES):
                writer.write(chunk)
                if stop.is_set():
                    raise Stopped

    def _require_space(self, folder: Path, size: int = 0) -> None:
        require_space(folder, size, self._reserve_bytes)


def _kind_of_file(path: Path) -> Kind:
    with path.open("rb") as file:
        return kind_of(file.read(HEAD_BYTES))


def _make_empty(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


async def _write_back(part: Path) -> NoReturn:
    while True:
        await asyncio.sleep(_WRITE_BACK_SECONDS)
        # 7z may not have begun it yet.
        with contextlib.suppress(FileNotFoundError):
            await run_to_end(sync, part)


def _remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    # Where 7z writes before it renames.
    part.with_name(part.name + ".tmp").unlink(missing_ok=True)


def _put_in_place(part: Path, target: Path) -> int:
    size = part.stat().st_size
    part.rename(target)
    return size


def _teller(file: BinaryIO, loop: asyncio.AbstractEventLoop, on_percent: OnPercent) -> Callable[[], None]:
    """Return what tells, from another thread, how far a file has been read."""
    size = os.fstat(file.fileno()).st_size
    told = -1

    def tell() -> None:
        nonlocal told
        percent = file.tell() * 100 // size
        if percent > told:
            told = percent
            loop.call_soon_threadsafe(on_percent, float(percent))

    return tell
