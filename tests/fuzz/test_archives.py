"""Real archives of each format with bytes changed."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_workshop_storage.core.errors import RepackFailed, StorageError
from open_workshop_storage.services.archives.archives import Archives
from tests.archives.conftest import archives_with
from tests.archives.rars import file4, file5, rar4, rar5
from tests.archives.workbench import Workbench
from tests.archives.zips import Entry, streamed, zip_from
from tests.support.archives import compressed_tar_of, seven_zip_of, tar_of, zip_of
from tests.support.processes import descendants, python_children

FILES = {"mod/a.txt": b"some text " * 40, "mod/b/c.bin": bytes(range(256)), "empty": b""}
SOUND: dict[str, bytes] = {
    "zip": zip_of(FILES),
    "stored zip": zip_of(FILES, 0),
    "zip with sizes after the data": zip_from([streamed(Entry(b"a", b"text " * 99)), streamed(Entry(b"b", bytes(99)))]),
    "7z": seven_zip_of(FILES),
    "7z with plain headers": seven_zip_of(FILES, "-mhc=off", "-ms=off"),
    "rar 4": rar4(*(file4(name.encode(), data) for name, data in FILES.items())),
    "rar 5": rar5(*(file5(name.encode(), data) for name, data in FILES.items())),
    "tar": tar_of(FILES),
    **{f"tar.{form}": compressed_tar_of(FILES, form) for form in ("gz", "bz2", "xz", "zst")},
}
PATCHES = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"../", b"/"])
CHANGES = st.lists(st.tuples(st.floats(0, 1), PATCHES, st.sampled_from(["over", "in", "cut"])), min_size=1, max_size=4)


def changed(archive: bytes, changes: list[tuple[float, bytes, str]]) -> bytes:
    """Return an archive with bytes written over, put in or cut out."""
    for place, patch, how in changes:
        at = int(len(archive) * place)
        until = at if how == "in" else at + len(patch)
        archive = archive[:at] + (b"" if how == "cut" else patch) + archive[until:]
    return archive


def judge(sent: bytes, archives: Archives) -> None:
    """Take an archive through all steps; what comes of it must be safe, and nothing may be left beside it."""
    before = commands_below()
    with tempfile.TemporaryDirectory() as outside:
        workbench = Workbench(archives, Path(outside, "job"))
        workbench.folder.mkdir()
        try:
            asyncio.run(workbench.accept(sent, 10_000_000))
            left = {"source", "extracted", "packed.zip"}
            if not workbench.packed.exists():
                assert asyncio.run(announced_by(workbench)) == bytes_in(workbench.source)
        except StorageError as error:
            # This one would be our own fault.
            assert not isinstance(error, RepackFailed), error.__cause__
            left = {"source"}
        assert os.listdir(outside) == ["job"]
        assert {path.name for path in workbench.folder.iterdir()} <= left
        assert not any(path.is_symlink() for path in workbench.folder.rglob("*"))
    assert commands_below() <= before


def commands_below() -> set[int]:
    """Return the processes that run below this one, but for the parsers that wait for more work."""
    return set(descendants(os.getpid())) - set(python_children(os.getpid()))


async def announced_by(workbench: Workbench) -> int:
    """Return the bytes that a ZIP announces to hold."""
    return (await workbench.archives.inspector.inspect(workbench.source, "file.bin", 0)).unpacked_bytes


def bytes_in(path: Path) -> int:
    """Return the bytes that come out of a ZIP."""
    return len(subprocess.run(["7z", "x", "-so", "-tzip", path], capture_output=True, check=True).stdout)


@pytest.fixture(scope="module")
def archives() -> Iterator[Archives]:
    """What is tested."""
    archives = archives_with()
    yield archives
    asyncio.run(archives.aclose())


@pytest.mark.parametrize("form", SOUND)
@given(CHANGES)
@settings(deadline=None, max_examples=max(8, settings().max_examples // 12))
def test_a_changed_archive_is_taken_in_safely_or_refused(
    form: str, archives: Archives, changes: list[tuple[float, bytes, str]]
) -> None:
    judge(changed(SOUND[form], changes), archives)


@given(CHANGES)
@settings(deadline=None, max_examples=max(8, settings().max_examples // 12))
def test_a_changed_tar_in_sound_compression_is_taken_in_safely_or_refused(
    archives: Archives, changes: list[tuple[float, bytes, str]]
) -> None:
    judge(gzip.compress(changed(SOUND["tar"], changes)), archives)
