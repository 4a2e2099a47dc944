"""Reads what `7z` decompresses while it does so."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import ArchiveFault, CutOff
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.seven_zip import SevenZip
from open_workshop_storage.utils.processes.groups import without_group
from open_workshop_storage.utils.processes.threads import run_until_stopped

_SAMPLE_BYTES = 4 * 1024 * 1024
_PIPE_BYTES = 1024 * 1024
"""What an ordinary user's pipe may hold; the usual 64 KiB make the two sides wait for each other."""

Read = Callable[[BinaryIO, threading.Event], None]


async def read_decompressed(
    seven_zip: SevenZip,
    source: Path,
    type_switch: str,
    read: Read,
    on_percent: Callable[[float], None] | None = None,
) -> None:
    """Have `7z` decompress all that is in a file, and read the result in a thread while it does.

    Args:
        type_switch: The switch that names the compression to `7z`.
        read: Gets the stream, and an event that is set when it should stop.
        on_percent: Told each rise of the progress.

    Raises:
        ArchiveFault: What `SevenZip.run` raises: `SevenZipFailed` also if `read` returned before the stream's end.
        Exception: What `read` raises; `CutOff` only if the stream itself is sound.
    """

    async def reading() -> None:
        try:
            with output:
                await run_until_stopped(partial(read, output))
        except CutOff:
            # If the stream ends here because the data are broken, 7z says how.
            await asyncio.shield(decompressing)
            raise

    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as output, open(write_end, "wb", buffering=0) as entrance:
        # A user with many pipes may not enlarge another.
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        # Two tasks side by side, so that a cancellation kills 7z, which ends the stream, which ends the reading.
        with without_group():
            async with asyncio.TaskGroup() as group:
                decompressing = group.create_task(
                    seven_zip.run("x", "-so", type_switch, source, on_percent=on_percent, output=entrance)
                )
                group.create_task(reading())


async def holds_tar(seven_zip: SevenZip, source: Path, type_switch: str) -> bool:
    """Tell whether a compressed file begins as a tar does.

    Raises:
        ArchiveFault: It breaks off, or turns out to be broken, too early to tell.
    """
    is_tar: bool | None = None

    def read(file: BinaryIO, stop: threading.Event) -> None:
        nonlocal is_tar
        head = b"".join(_exactly(file, HEAD_BYTES))
        if kind_of(head) is not Kind.TAR:
            # A broken block looks like anything until its checksum is reached.
            for _ in _exactly(file, _SAMPLE_BYTES):
                pass
        is_tar = kind_of(head) is Kind.TAR

    try:
        await read_decompressed(seven_zip, source, type_switch, read)
    except CutOff:
        return False
    except ArchiveFault:
        # Once the sample is read, 7z fails because nothing reads its output.
        if is_tar is None:
            raise
    return bool(is_tar)


def _exactly(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(size)
        if not chunk:
            raise CutOff
        size -= len(chunk)
        yield chunk
