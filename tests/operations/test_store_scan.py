"""The whole store, scanned for malware once more."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.operations import store_scan
from open_workshop_storage.services.operations.findings import Verdict
from open_workshop_storage.services.operations.store_scan import scan_store
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.opening import open_files
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.clamd import MARKER, MOST_BYTES, NAME, Clamd
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.object_store import settings_of

pytestmark = pytest.mark.anyio

NAMES = ("archive/mods/7/main.zip", "archive/mods/8/main.zip", "resource/a.bin", "resource/b", "avatar/7.webp")


@pytest.fixture(params=["disk", "bucket"])
async def store(request: pytest.FixtureRequest, clamd: Clamd, tmp_path: Path) -> AsyncIterator[tuple[Settings, Files]]:
    """A store of each kind, with the settings that name it."""
    changes: dict[str, object] = {"clamd_address": clamd.local}
    if request.param == "bucket":
        bucket: Credentials = request.getfixturevalue("bucket")
        changes |= {name.lower(): value for name, value in settings_of(bucket, S3_PREFIX=tmp_path.name).items()}
    settings = make_settings(tmp_path, Secrets(), **changes)
    async with open_files(settings) as files:
        yield settings, files


async def put(files: Files, folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / "source").write_bytes(content)
        await files.put(folder / "source", name)


async def told(settings: Settings, files: Files) -> list[tuple[Verdict, str, str]]:
    return [(*finding,) async for finding in scan_store(settings, files)]


async def test_each_file_with_malware_is_named_and_none_is_changed(
    store: tuple[Settings, Files], tmp_path: Path
) -> None:
    settings, files = store
    contents = dict.fromkeys(NAMES, b"harmless") | {NAMES[1]: zip_of({"evil.dll": MARKER}), NAMES[3]: MARKER}
    await put(files, tmp_path, contents)
    assert await told(settings, files) == [
        (Verdict.FAULT, NAMES[1], f"malware: {NAME}"),
        (Verdict.FAULT, NAMES[3], f"malware: {NAME}"),
        (Verdict.OK, "scan", "3 clean, 2 infected, 0 not judged"),
    ]
    assert [file.name async for file in files.every_file()] == [*NAMES]


async def test_what_cannot_be_judged_is_named(store: tuple[Settings, Files], tmp_path: Path) -> None:
    settings, files = store
    unreadable = zip_of(SMALL_MOD | {"evil.dll": MARKER * 99}, zipfile.ZIP_LZMA)
    await put(files, tmp_path, {NAMES[0]: bytes(MOST_BYTES + 1), NAMES[1]: unreadable, NAMES[2]: b"harmless"})
    large, method, last = await told(settings, files)
    assert large[:2] == (Verdict.FAULT, NAMES[0]) and "not judged (limit)" in large[2]
    assert method == (Verdict.FAULT, NAMES[1], "not judged (failure): packed in a method that scanners cannot undo")
    assert last == (Verdict.OK, "scan", "1 clean, 0 infected, 2 not judged")


async def test_a_run_that_was_broken_off_is_gone_on_with_and_the_next_one_begins_anew(
    store: tuple[Settings, Files], clamd: Clamd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_scan, "_NOTE_SECONDS", 0)
    settings, files = store
    await put(files, tmp_path, dict.fromkeys(NAMES, MARKER))
    async with aclosing(scan_store(settings, files)) as findings:
        async for finding in findings:
            if finding.subject == NAMES[2]:
                break
    clamd.kill()
    try:
        away = await told(settings, files)
        assert [finding[0] for finding in away] == [Verdict.OK, Verdict.FAULT] and "is away" in away[1][2]
    finally:
        clamd.start()
    subjects = [subject for _, subject, _ in await told(settings, files)]
    assert subjects == ["scan", *NAMES[2:], "scan"]
    assert [subject for _, subject, _ in await told(settings, files)] == [*NAMES, "scan"]


async def test_a_run_whose_place_is_gone_begins_anew(tmp_path: Path, clamd: Clamd) -> None:
    settings = make_settings(tmp_path, Secrets(), clamd_address=clamd.local)
    async with open_files(settings) as files:
        await put(files, tmp_path, {NAMES[0]: MARKER})
        (tmp_path / store_scan.PLACE).write_text("resource/deleted")
        assert [subject for _, subject, _ in await told(settings, files)] == [NAMES[0], "scan"]


async def test_a_run_whose_place_goes_while_it_looks_for_it_says_so(tmp_path: Path, clamd: Clamd) -> None:
    settings = make_settings(tmp_path, Secrets(), clamd_address=clamd.local)
    async with open_files(settings) as files:
        await put(files, tmp_path, dict.fromkeys(NAMES[:2], MARKER))
        (tmp_path / store_scan.PLACE).write_text(NAMES[1])
        async with aclosing(scan_store(settings, files)) as findings:
            assert (await anext(findings)).verdict is Verdict.OK
            (tmp_path / NAMES[1]).unlink()
            (last,) = [finding async for finding in findings]
        assert last.verdict is Verdict.FAULT and "has gone, and nothing was scanned" in last.text
        assert [subject for _, subject, _ in await told(settings, files)] == [NAMES[0], "scan"]


async def test_without_a_scanner_or_a_store_nothing_is_said_of_its_files(tmp_path: Path, clamd: Clamd) -> None:
    settings = make_settings(tmp_path, Secrets())
    async with open_files(settings) as files:
        ((verdict, _, text),) = await told(settings, files)
    assert verdict is Verdict.FAULT and "CLAMD_ADDRESS is empty" in text
    gone = make_settings(tmp_path / "root", Secrets(), clamd_address=clamd.local)
    async with open_files(gone) as files:
        (tmp_path / "root").rename(tmp_path / "away")
        with pytest.raises(ServiceUnavailable):
            await told(gone, files)
