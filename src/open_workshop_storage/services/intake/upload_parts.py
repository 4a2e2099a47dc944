"""The files that hold the bytes of an upload in several requests.

Only one run writes to a file, and one that is replaced without having left in order may write on: its file is then
sealed, what it held at that moment counts, and the next request begins another one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from open_workshop_storage.core.changes import Paused
from open_workshop_storage.core.job import Part, Resumable
from open_workshop_storage.services.intake.receive import BLOCK_BYTES
from open_workshop_storage.services.storage.disk import require_space
from open_workshop_storage.utils.files.durable_files import Stopped
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_COPY_BYTES = 8 * 1024 * 1024


def with_open_part(resumable: Resumable, owner: str) -> Resumable:
    """Return the record of an upload whose last part this run may write to."""
    if resumable.parts and not resumable.sealed:
        return resumable
    return resumable.model_copy(update={"parts": (*resumable.parts, Part(file=f"{owner}/part")), "sealed": False})


async def at_hand(resumable: Resumable, workspace: Path) -> Resumable:
    """Return the record of an upload, without any parts if this host does not have the bytes of all."""
    files = [(workspace / part.file, part.bytes) for part in resumable.parts if part.bytes]
    if await asyncio.to_thread(lambda: all(_has(file, size) for file, size in files)):
        return resumable
    return resumable.model_copy(update={"parts": (), "sealed": False})


async def sealed(resumable: Resumable, workspace: Path) -> Paused:
    """Return what counts of an upload whose worker may write on."""
    resumable = await at_hand(resumable, workspace)
    if not resumable.parts:
        return Paused(0, resumable)
    return held_to(resumable, await run_to_end(_size_on_disk, workspace / resumable.parts[-1].file))


def held_to(resumable: Resumable, size: int) -> Paused:
    """Return what counts of an upload of whose last file only the first so many bytes do, and no later ones may."""
    resumable = with_last_part(resumable, size)
    # A worker that wrote nothing may have made no file.
    parts = resumable.parts if size else resumable.parts[:-1]
    count = sum(part.bytes for part in parts)
    return Paused(count, resumable.model_copy(update={"parts": parts, "sealed": True}))


def with_last_part(resumable: Resumable, size: int) -> Resumable:
    """Return the record of an upload whose last file has so many bytes."""
    *before, last = resumable.parts
    return resumable.model_copy(update={"parts": (*before, Part(file=last.file, bytes=size))})


async def whole(resumable: Resumable, workspace: Path, joined: Path, reserve_bytes: int) -> Path:
    """Return a file that holds all bytes of an upload, and that no other run writes to.

    Args:
        joined: Where that is made, unless the one part is such a file.
        reserve_bytes: How much of the disk stays free.

    Raises:
        NoSpace: The disk has no room for it.
    """
    files = [(workspace / part.file, part.bytes) for part in resumable.parts]
    if len(files) == 1 and not resumable.sealed:
        return files[0][0]
    await run_until_stopped(partial(_join, files, joined, reserve_bytes))
    return joined


def without_last_byte(resumable: Resumable, file: str, size: int) -> Paused:
    """Return a whole upload as if its last byte had not come: clients take one that has all its bytes for done.

    Args:
        file: The file that holds all bytes, relative to the workspace; nobody else writes to it.
        size: Its size in bytes.
    """
    count = max(size - 1, 0)
    parts = (Part(file=file, bytes=count),)
    return Paused(count, resumable.model_copy(update={"parts": parts, "sealed": False}))


def head_of(path: Path) -> bytes:
    """Return the first block of a file, by which it is judged. Blocks."""
    with path.open("rb") as file:
        return file.read(BLOCK_BYTES)


def cut_off(path: Path, size: int) -> None:
    """Remove all bytes of a file but the first so many, and the file and its folder if none is left. Blocks."""
    with suppress(OSError):  # The job has ended, and with it all of its files.
        if size:
            os.truncate(path, size)
        else:
            path.unlink()
            path.parent.rmdir()


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size >= size
    except FileNotFoundError:
        return False


def _size_on_disk(path: Path) -> int:
    """Return how many bytes of a file are on the disk, once those that are written have been synced."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
            return size
    except FileNotFoundError:
        return 0


def _join(files: Sequence[tuple[Path, int]], target: Path, reserve_bytes: int, stop: threading.Event) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, sum(size for _, size in files), reserve_bytes)
    with target.open("wb") as joined:
        for path, size in files:
            with path.open("rb") as part:
                copied = 0
                while copied < size:
                    sent = os.sendfile(joined.fileno(), part.fileno(), copied, min(size - copied, _COPY_BYTES))
                    if not sent:
                        raise OSError(errno.EIO, "a part of an upload is shorter than its record says", str(path))
                    copied += sent
                    if stop.is_set():
                        raise Stopped
        os.fsync(joined.fileno())
