"""The folders of jobs' unfinished files, and how they go."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO

from open_workshop_storage.core.claims import check_job_id
from open_workshop_storage.services.storage.disk import has_space
from open_workshop_storage.services.storage.files import TEMP
from open_workshop_storage.utils.processes.threads import run_to_end


class Workspaces:
    """The workspaces of this host.

    Args:
        main_dir: The storage root, an absolute path. It need not exist yet.
        reserve_bytes: Disk space that transfers leave free.
    """

    def __init__(self, main_dir: Path, reserve_bytes: int = 0) -> None:
        self._main_dir = main_dir
        self._reserve_bytes = reserve_bytes
        self._unseen = _folders(main_dir / TEMP)

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job's unfinished files, which need not exist.

        Raises:
            BadRequest: The id does not have the form that docs/API.md, "Transfer tokens" gives.
        """
        return self._main_dir / TEMP / check_job_id(job_id)

    def name(self, path: Path) -> str:
        """Return a path in a workspace relative to the storage root, as `temp/job-12345/packed.zip`."""
        return path.relative_to(self._main_dir).as_posix()

    async def idle(self, seconds: float, most: int = sys.maxsize) -> list[Path]:
        """Return the workspaces in which nothing has changed for so long.

        Args:
            most: How many to look at; where there are more, the next call goes on behind them.
        """
        return await asyncio.to_thread(self._idle, time.time() - seconds, most)

    def _idle(self, before: float, most: int) -> list[Path]:
        folders = list(islice(self._unseen, most))
        if len(folders) < most:
            self._unseen = _folders(self._main_dir / TEMP)
        return [folder for folder in folders if _last_change(folder) <= before]

    async def free_bytes(self) -> int | None:
        """Return the free space of the disk that workspaces are on; None if it cannot be asked."""
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self._main_dir)).free
        except OSError:
            return None

    async def has_space(self) -> bool:
        """Return whether the disk that workspaces are on has its reserve; true where there is none.

        Raises:
            OSError: It cannot be asked.
        """
        try:
            return await asyncio.to_thread(has_space, self._main_dir, 0, self._reserve_bytes)
        except FileNotFoundError:
            return True


async def parts_of(workspace: Path) -> list[Path]:
    """Return what is in a workspace now: the folders of runs, mostly."""
    try:
        return await asyncio.to_thread(lambda: [*workspace.iterdir()])
    except OSError:
        # The attempt has to end even if the storage root is gone.
        return []


async def discard(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    await run_to_end(_discard, path)


async def discard_holding(folder: Path, file: Path) -> IO[bytes] | None:
    """Remove a folder with all that is in it; return a large file of it still open, if it was there.

    The file system takes its blocks back when it is closed, which takes a while that no caller should have to wait for.
    """
    return await run_to_end(_discard_holding, folder, file)


async def discard_parts(workspace: Path, parts: list[Path]) -> None:
    """Remove some of what is in a workspace, and itself unless a new attempt has put something there since."""
    for part in parts:
        await discard(part)
    with suppress(OSError):
        await run_to_end(workspace.rmdir)


def _folders(temp: Path) -> Iterator[Path]:
    """Yield workspaces; the folder is opened for the first, and stays open until the last."""
    with suppress(FileNotFoundError), os.scandir(temp) as entries:
        for entry in entries:
            if entry.is_dir():
                yield Path(entry)


def _last_change(folder: Path) -> float:
    try:
        return max(entry.lstat().st_mtime for entry in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return 0.0


def _discard_holding(folder: Path, file: Path) -> IO[bytes] | None:
    held = None
    with suppress(OSError):
        held = file.open("rb", buffering=0)
    _discard(folder)
    return held


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
