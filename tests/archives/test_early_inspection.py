"""What is told of an archive while it still comes in (docs/ARCHITECTURE.md, "A job")."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from open_workshop_storage.core.errors import ArchiveTooLarge, EncryptedArchive, StorageError, UnsafeArchive
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.archives import Archives, Inspection
from open_workshop_storage.services.archives.early_inspection import inspect_early
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES
from open_workshop_storage.utils.files.growing_file import GrowingFile
from tests.archives.conftest import settings_with
from tests.archives.refused import REFUSED, SOUND, TEXT
from tests.archives.tars import member, sparse, tar_from
from tests.archives.zips import ENCRYPTED, Entry, streamed, zip_from
from tests.support.archives import SMALL_MOD, compressed_tar_of, seven_zip_of, tar_of, zip_of

pytestmark = pytest.mark.anyio

SECRET = Entry(b"secret", TEXT, flags=ENCRYPTED)
LINK = member("link", kind=tarfile.SYMTYPE, linkname="sound.txt")
OVER_ANY_RATIO = 300_000_000
"""More bytes than a small archive may have in it, with the ratio of the settings."""
ENOUGH_FOR_THEM = 1_300_000


_ENCRYPTED_FROM_THE_START = {
    "zip with ZipCrypto",
    "zip with AES",
    "zip with strong encryption",
    "zip with the AES method",
    "zip that says so in a local header only",
}


class ComingFile(GrowingFile):
    """A file of which everything has come, but for the news that it is all.

    Attributes:
        waits: Set once its reader waits for more.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path)
        # Less would not do to tell what it is.
        content = content.ljust(HEAD_BYTES, b"\0")
        path.write_bytes(content)
        self.grow(len(content))
        self.waits = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def read(self, size: int) -> bytes:
        """See `GrowingFile.read`."""
        if self.seek(0, os.SEEK_CUR) + size > self.written:
            self._loop.call_soon_threadsafe(self.waits.set)
        return super().read(size)


async def told_of(sent: bytes, path: Path, settings: Settings | None = None) -> Inspection | None:
    """Return what an early inspection tells that has seen all of a file before it hears of the end."""
    file = ComingFile(path, sent)
    inspecting = asyncio.create_task(inspect_early(file, settings or settings_with()))
    waiting = asyncio.create_task(file.waits.wait())
    await asyncio.wait([inspecting, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    file.end()
    return await inspecting


async def refusal_of(sent: bytes, path: Path, settings: Settings | None = None) -> type[StorageError] | None:
    """Return the error of an early inspection, if there is one."""
    try:
        await told_of(sent, path, settings)
    except StorageError as error:
        return type(error)
    return None


def can_be_told_early(case: str) -> bool:
    """Tell which of the archives that are refused are refused as they come in."""
    return case in _ENCRYPTED_FROM_THE_START or (case.startswith("tar with") and not case.endswith("cut off"))


def refused(early: bool) -> list[ParameterSet]:
    """Return those that are refused as they come in, or the others."""
    return [
        pytest.param(build, error, id=f"{error.reason}: {case}")
        for error, builders in REFUSED.items()
        for case, build in builders.items()
        if can_be_told_early(case) is early
    ]


@pytest.mark.parametrize(("build", "error"), refused(early=True))
async def test_it_is_refused_before_its_end_as_it_would_be_after_it(
    build: Callable[[], bytes], error: type[StorageError], tmp_path: Path
) -> None:
    assert await refusal_of(build(), tmp_path / "source") is error


@pytest.mark.parametrize(("build", "error"), refused(early=False))
async def test_it_is_not_judged_before_its_end(
    build: Callable[[], bytes], error: type[StorageError], tmp_path: Path
) -> None:
    assert await told_of(build(), tmp_path / "source") is None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_of(SMALL_MOD), id="sound"),
        pytest.param(zip_of({}), id="empty"),
        pytest.param(
            zip_from([SOUND, Entry(b"b", TEXT, before=b"stale" + zip_from([Entry(b"c")]))]),
            id="with an entry that its directory does not name",
        ),
        pytest.param(zip_from([SOUND, Entry(b"zip", zip_from([SECRET]), method=0)]), id="with an encrypted zip in it"),
        pytest.param(
            zip_from([streamed(Entry(b"zip", zip_from([SECRET]), method=0))]),
            id="with an encrypted zip in it and its size behind that",
        ),
        pytest.param(zip_from([SOUND, SECRET]), id="encrypted from its second file on"),
        pytest.param(zip_from([Entry(b"folder/", TEXT), SECRET]), id="encrypted behind a folder with content"),
        pytest.param(zip_from([streamed(Entry(b"folder/")), SECRET]), id="encrypted behind a folder of unknown size"),
    ],
)
async def test_a_zip_is_not_judged_beyond_its_first_file(sent: bytes, tmp_path: Path) -> None:
    assert await told_of(sent, tmp_path / "source") is None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_from([SECRET, SOUND]), id="at the start"),
        pytest.param(zip_from([Entry(b"a/", method=0), Entry(b"a/b/", method=0), SECRET]), id="behind folders"),
        pytest.param(zip_from([replace(SECRET, before=b"PK00")]), id="behind the mark of a single piece"),
    ],
)
async def test_a_zip_whose_first_file_is_encrypted_is_refused_before_its_end(sent: bytes, tmp_path: Path) -> None:
    directory = sent.index(b"PK\1\2")
    assert await refusal_of(sent[:directory], tmp_path / "source") is EncryptedArchive


@pytest.mark.parametrize("rest", [b"", bytes(5_000_000)])
async def test_a_sound_tar_needs_no_other_inspection(rest: bytes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    told = await told_of(tar_of(SMALL_MOD) + rest, source)
    assert told is not None
    assert told == await Archives(settings_with()).inspect(source, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"no archive",
        bytes(100_000),
        seven_zip_of(SMALL_MOD),
        compressed_tar_of(SMALL_MOD, "gz"),
        compressed_tar_of({"../evil": TEXT}, "zst"),
    ],
)
async def test_nothing_is_told_of_other_files(sent: bytes, tmp_path: Path) -> None:
    assert await told_of(sent, tmp_path / "source") is None


async def test_a_tar_over_a_limit_is_refused_before_its_end(tmp_path: Path) -> None:
    sent = tar_from([member("a", TEXT), member("b", TEXT)])
    for limit, error in ((2 * len(TEXT), None), (2 * len(TEXT) - 1, ArchiveTooLarge)):
        settings = settings_with(transfer_max_unpacked_bytes=limit)
        assert await refusal_of(sent, tmp_path / "source", settings) is error
    for entries, error in ((2, None), (1, ArchiveTooLarge)):
        settings = settings_with(transfer_max_entries=entries)
        assert await refusal_of(sent, tmp_path / "source", settings) is error


async def test_a_ratio_is_judged_before_its_end_only_if_no_rest_could_change_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    archives = Archives(settings_with())
    huge = sparse("huge", OVER_ANY_RATIO)
    for sent in (tar_from([]), tar_from([LINK])):
        # The inspection says that it is too large, and not what comes after that.
        assert await told_of(huge + sent, source) is None
        with pytest.raises(ArchiveTooLarge):
            await archives.inspect(source, 0)
    limited = settings_with(transfer_max_unpacked_bytes=OVER_ANY_RATIO - 1)
    assert await refusal_of(huge + tar_from([]), source, limited) is ArchiveTooLarge

    large = member("large", bytes(ENOUGH_FOR_THEM))
    told = await told_of(huge + tar_from([large]), source)
    assert told is not None
    assert told == await archives.inspect(source, 0)
    assert await refusal_of(huge + tar_from([large, LINK]), source) is UnsafeArchive


async def test_an_inspection_that_is_cancelled_has_ended_and_holds_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"

    def is_open() -> bool:
        return any(path.exists() and path.samefile(source) for path in Path("/proc/self/fd").iterdir())

    file = ComingFile(source, tar_of(SMALL_MOD)[:1000])
    inspecting = asyncio.create_task(inspect_early(file, settings_with()))
    await file.waits.wait()
    assert is_open()
    inspecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inspecting
    assert not is_open()
