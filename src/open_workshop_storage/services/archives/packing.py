"""Packs folders into ZIPs (docs/API.md, "Archives")."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.faults_as_errors import as_storage_errors
from open_workshop_storage.services.storage.disk import require_space
from open_workshop_storage.utils.archives.seven_zip import SevenZip
from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.files.durable_files import sync
from open_workshop_storage.utils.processes.task_groups import run_beside, watched
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_WRITE_BACK_SECONDS = 0.5


class Packer:
    """Packs what has been extracted; each packing can be done again."""

    def __init__(self, settings: Settings, seven_zip: SevenZip) -> None:
        self._settings = settings
        self._seven_zip = seven_zip

    async def pack(
        self, folder: Path, target: Path, level: int, on_percent: Callable[[float], None]
    ) -> tuple[int, str]:
        """Pack what a folder holds into a ZIP, which appears complete or not at all.

        Most of it is synced to the disk while `7z` works, so that the move to its permanent place waits for little.

        Args:
            level: 0 (fastest) to 9 (smallest).
            on_percent: Told each rise of the progress, up to 100; must not block.

        Returns:
            The size of the ZIP in bytes, and its SHA-256 as hex digits. `7z` goes back to headers of files that it has
            packed, so the ZIP is read for that once it is complete, from the page cache.

        Raises:
            NoSpace: The disk would be left with less than its reserve.
            RepackFailed: Packing failed for another reason.
        """
        part = target.absolute().with_name(target.name + ".part")
        arguments = "a", "-tzip", "-mm=Deflate", f"-mx={level}", "-mcu=on", part, "."
        require_reserve = partial(require_space, target.parent, 0, self._settings.storage_reserve_bytes)
        with as_storage_errors():
            # 7z would add to what is there.
            await run_to_end(_remove_part, part)
            try:
                async with watched(require_reserve), run_beside(_write_back(part)):
                    await self._seven_zip.run(*arguments, on_percent=on_percent, folder=folder, writable=part.parent)
                await asyncio.to_thread(require_reserve)
                sha256 = await run_until_stopped(partial(FileDigest().finish, part))
                return await run_to_end(_put_in_place, part, target), sha256
            except BaseException:
                await run_to_end(_remove_part, part)
                raise


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
