"""What is in the workspaces of jobs, and how it goes."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from open_workshop_storage.utils.processes.threads import run_to_end


async def parts_of(workspace: Path) -> list[Path]:
    """Return what is in a workspace now: the folders of runs, mostly."""
    return await asyncio.to_thread(_parts_of, workspace)


async def discard(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    await run_to_end(_discard, path)


async def discard_holding(folder: Path, file: Path) -> IO[bytes] | None:
    """Remove a folder with all that is in it; return a large file of it still open, if it was there.

    The file system takes its blocks back when it is closed, which takes a while that nobody should have to wait for.
    """
    return await run_to_end(_discard_holding, folder, file)


async def discard_parts(workspace: Path, parts: list[Path]) -> None:
    """Remove some of what is in a workspace, and itself unless a new attempt has put something there meanwhile."""
    for part in parts:
        await discard(part)
    with suppress(OSError):
        await run_to_end(workspace.rmdir)


def _parts_of(workspace: Path) -> list[Path]:
    try:
        return list(workspace.iterdir())
    except OSError:
        # Whatever has become of the storage root, the attempt has to have its end.
        return []


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
