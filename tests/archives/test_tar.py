"""The parser of tars, in a child process."""

from __future__ import annotations

import asyncio
import gzip
import tarfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from open_workshop_storage.services.archives.parsers import parsers
from open_workshop_storage.utils.archives import tar
from open_workshop_storage.utils.archives.faults import CorruptData
from open_workshop_storage.utils.archives.kinds import Kind
from open_workshop_storage.utils.archives.tar import inspect_tar, unpack_tar
from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren
from tests.archives.refused import TEXT
from tests.archives.tars import member, sparse, tar_from
from tests.support.archives import tar_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def child() -> AsyncIterator[PythonChildren]:
    async with aclosing(parsers(1)) as child:
        yield child


def with_digits(count: int) -> bytes:
    """Return a tar with one header of an extended kind that has so many digits in it."""
    length = count + 16
    record = b"%d comment=" % length
    record += b"1" * (length - len(record) - 1) + b"\n"
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    return info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + tar_of({"a": TEXT})


async def test_a_header_that_the_library_needs_hours_for_ends_the_child_only(
    child: PythonChildren, tmp_path: Path
) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.write_bytes(gzip.compress(with_digits(1_000_000)))
    folder.mkdir()
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(beat())
    with source.open("rb") as file:
        try:
            # Where Python is mended, it is an ordinary tar.
            arguments = unpack_tar, Kind.GZIP.name, 0, 0
            unpacked = await child.call(*arguments, files=[file], folder=folder, seconds=600, cpu_seconds=600)
            assert unpacked == len(TEXT)
        except (CorruptData, ChildFailed):
            assert beats > 10
    beating.cancel()
    source.write_bytes(tar_of({"a": TEXT}))
    with source.open("rb") as file:
        assert await child.call(inspect_tar, 0, 0, files=[file], seconds=60, cpu_seconds=60) == len(TEXT)


def test_what_the_library_does_not_promise_still_holds(tmp_path: Path) -> None:
    # That its list of members may be cleared, that it reads headers by `read`, and that it ends at a block of zeros.
    source = tmp_path / "source"
    members = [member(str(number), TEXT) for number in range(3)]
    source.write_bytes(tar_from([*members, member("folder", kind=tarfile.DIRTYPE)]) + b"garbage")
    with source.open("rb") as file, tar._limited_steps():
        reader = tar._Source(file, Kind.TAR)
        found = [(len(vars(archive)["members"]), info.name) for archive, info in tar._members(reader)]
        assert found == [(0, "0"), (1, "1"), (1, "2"), (1, "folder")]
        assert reader.last_read == bytes(512)
    source.write_bytes(sparse("hole", 1000) + tar_of({}))
    with source.open("rb") as file, tar._limited_steps():
        ((archive, hole),) = tar._members(tar._Source(file, Kind.TAR))
        assert hole.issparse() and hole.size == 1000
