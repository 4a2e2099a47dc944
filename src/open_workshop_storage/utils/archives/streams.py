"""Counts what `7z` unpacks."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from functools import partial
from pathlib import Path
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import CorruptData, CutOff
from open_workshop_storage.utils.archives.seven_zip import SevenZip
from open_workshop_storage.utils.files.durable_files import Stopped
from open_workshop_storage.utils.processes.task_groups import without_group
from open_workshop_storage.utils.processes.threads import run_until_stopped

_BLOCK_BYTES = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
"""What an ordinary user's pipe may hold; the usual 64 KiB make the two sides wait for each other."""


async def compare_size(seven_zip: SevenZip, source: Path, type_switch: str, unpacked_bytes: int) -> None:
    """Have `7z` unpack an archive into a pipe, and count what comes out.

    Args:
        type_switch: The switch that names the format to `7z`.
        unpacked_bytes: What all files together should have.

    Raises:
        ArchiveFault: What `SevenZip.run` raises, or the size is another one.
    """

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
                unpacking = group.create_task(seven_zip.run("x", "-so", type_switch, source, output=entrance))
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
