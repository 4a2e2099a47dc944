"""Extracts archives into folders of their own (docs/API.md, "Archives")."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.core.errors import ArchiveTooLarge, CorruptArchive
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.errors import as_storage_errors
from open_workshop_storage.services.archives.inspection import Inspection, entries_of
from open_workshop_storage.services.storage.disk import require_space
from open_workshop_storage.services.storage.workspaces import discard
from open_workshop_storage.utils.archives.kinds import COMPRESSED, Kind
from open_workshop_storage.utils.archives.seven_zip import READ_SWITCHES, TYPE_SWITCHES, SevenZip
from open_workshop_storage.utils.archives.streams import read_decompressed
from open_workshop_storage.utils.archives.tar import unpack_tar
from open_workshop_storage.utils.archives.tree import settle_tree, size_of_tree
from open_workshop_storage.utils.files.durable_files import Stopped
from open_workshop_storage.utils.processes.groups import watched
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_COPY_BYTES = 1024 * 1024


class Extractor:
    """Extracts what has been inspected; each extraction can be done again."""

    def __init__(self, settings: Settings, seven_zip: SevenZip) -> None:
        self._settings = settings
        self._seven_zip = seven_zip

    async def extract(
        self,
        source: Path,
        inspection: Inspection,
        target: Path,
        filename: str,
        max_unpacked_bytes: int,
        on_percent: Callable[[float], None],
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

    async def _extract_by_seven_zip(
        self, source: Path, inspection: Inspection, target: Path, on_percent: Callable[[float], None]
    ) -> int:
        announced = inspection.unpacked_bytes

        def check() -> None:
            self._require_space(target)
            if size_of_tree(target) > announced:
                raise CorruptArchive

        arguments = "x", TYPE_SWITCHES[inspection.kind], *READ_SWITCHES, f"-o{target}", source
        async with watched(check):
            await self._seven_zip.run(*arguments, on_percent=on_percent, writable=target, max_file_bytes=announced)
        if await asyncio.to_thread(settle_tree, target) != announced:
            raise CorruptArchive
        return announced

    async def _extract_tar(
        self, source: Path, kind: Kind, target: Path, max_unpacked_bytes: int, on_percent: Callable[[float], None]
    ) -> int:
        entries = await asyncio.to_thread(entries_of, source, self._settings, max_unpacked_bytes)

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
            await read_decompressed(self._seven_zip, source, TYPE_SWITCHES[kind], read, on_percent)
        else:
            await run_until_stopped(partial(unpack_file, asyncio.get_running_loop()))
        return entries.unpacked_bytes

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
        require_space(folder, size, self._settings.storage_reserve_bytes)


def _make_empty(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _teller(file: BinaryIO, loop: asyncio.AbstractEventLoop, on_percent: Callable[[float], None]) -> Callable[[], None]:
    """Return a function for another thread that tells how far a file has been read."""
    size = os.fstat(file.fileno()).st_size
    told = -1

    def tell() -> None:
        nonlocal told
        percent = file.tell() * 100 // size
        if percent > told:
            told = percent
            loop.call_soon_threadsafe(on_percent, float(percent))

    return tell
