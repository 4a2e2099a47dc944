"""Parsers in child processes."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import CorruptArchive
from open_workshop_storage.services.archives.parsers import as_storage_errors, parsers
from open_workshop_storage.utils.archives.decompression import holds_tar
from open_workshop_storage.utils.archives.faults import CorruptData, NameTooLong, UnsafeEntry
from open_workshop_storage.utils.archives.kinds import Kind
from open_workshop_storage.utils.archives.zip_inspection import inspect_zip
from tests.archives.zips import Entry, zip_from
from tests.support.client import eventually
from tests.support.processes import descendants, send_signal

pytestmark = pytest.mark.anyio


async def test_a_parser_that_hangs_or_crashes_is_the_archives_fault() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as endless, open(write_end, "wb"):
        async with aclosing(parsers(1)) as pool:
            with pytest.raises(CorruptArchive), as_storage_errors():
                await pool.call(holds_tar, Kind.GZIP.name, files=[endless], seconds=0.5, cpu_seconds=1)
            before = set(descendants(os.getpid()))
            crashing = asyncio.create_task(
                pool.call(holds_tar, Kind.GZIP.name, files=[endless], seconds=60, cpu_seconds=60)
            )
            await eventually(lambda: set(descendants(os.getpid())) - before)
            send_signal(set(descendants(os.getpid())) - before, signal.SIGSEGV)
            with pytest.raises(CorruptArchive), as_storage_errors():
                await crashing


async def test_faults_and_results_come_out_of_the_child(tmp_path: Path) -> None:
    source = tmp_path / "source"
    cases: list[tuple[bytes, type[Exception]]] = [
        (zip_from([Entry(b"../a")]), UnsafeEntry),
        (zip_from([Entry(b"x" * 256)]), NameTooLong),
        (b"no zip", CorruptData),
    ]
    async with aclosing(parsers(1)) as pool:
        for sent, fault in cases:
            source.write_bytes(sent)
            with source.open("rb") as file, pytest.raises(fault) as raised:
                await pool.call(inspect_zip, 0, 0, files=[file], seconds=60, cpu_seconds=60)
            assert type(raised.value) is fault
        source.write_bytes(zip_from([Entry(b"a", bytes(1000))]))
        with source.open("rb") as file:
            assert await pool.call(inspect_zip, 0, 0, files=[file], seconds=60, cpu_seconds=60) == [
                1000,
                True,
                False,
                False,
                True,
            ]
            file.seek(0)
            with pytest.raises(CorruptData):
                await pool.call(holds_tar, Kind.GZIP.name, files=[file], seconds=60, cpu_seconds=60)
