"""Digests for the whole store, what has changed in it, and another scan of it."""

from __future__ import annotations

import os
import random
import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.operations import whole_store
from open_workshop_storage.services.operations.findings import Finding, Severity
from open_workshop_storage.services.operations.whole_store import find_changed, give_digests, scan_store
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Facts, Files
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.opening import open_files
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.clamd import MARKER, MOST_BYTES, NAME, Clamd
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.object_store import settings_of

pytestmark = pytest.mark.anyio

FLIPPED_BYTES = 100
pytestmark = pytest.mark.anyio
NAMES = ("archive/mods/7/main.zip", "archive/mods/8/main.zip", "resource/a.bin", "resource/b", "avatar/7.webp")


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


def write(files: LocalFiles, name: str, content: bytes) -> Path:
    path = files._main_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def all_of(findings: AsyncIterator[Finding]) -> tuple[dict[str, str], str]:
    """Return the faults by the file's name, and the last line."""
    *faults, (severity, subject, summary) = [finding async for finding in findings]
    assert (severity, subject) == (Severity.OK, "digests")
    assert {finding.severity for finding in faults} <= {Severity.FAULT}
    return {finding.subject: finding.text for finding in faults}, summary


async def digest_of(files: LocalFiles, name: str) -> str | None:
    facts = await files.facts(await files.find(*name.split("/", 1)))
    return facts.sha256 if facts else None


async def test_every_file_without_a_digest_gets_one_and_keeps_what_else_is_known(files: LocalFiles) -> None:
    contents = {
        "archive/mods/7/main.zip": b"zip",
        "archive/free.zip": b"",
        "avatar/7.webp": os.urandom(700_000),
        "resource/a b/\u00fc": b"x",
    }
    for name, content in contents.items():
        write(files, name, content)
    file = await files.find("archive", "mods/7/main.zip")
    await files.keep(file, Facts(unpacked_bytes=5))
    assert await all_of(give_digests(files)) == ({}, "4 given, 0 known before")
    for name, content in contents.items():
        assert await digest_of(files, name) == sha256(content).hexdigest()
    assert (await files.facts(file) or Facts()).unpacked_bytes == 5


async def test_a_run_that_was_broken_off_is_gone_on_with(files: LocalFiles) -> None:
    for number in range(5):
        write(files, f"resource/{number}", b"x")
    await files.keep(await files.find("resource", "0"), Facts(sha256="5e" * 32))
    assert await all_of(give_digests(files)) == ({}, "4 given, 1 known before")
    assert await all_of(give_digests(files)) == ({}, "0 given, 5 known before")
    assert await digest_of(files, "resource/0") == "5e" * 32


async def test_an_edited_file_gets_another_digest(files: LocalFiles) -> None:
    path = write(files, "resource/x", b"old")
    await all_of(give_digests(files))
    path.write_bytes(b"new!")
    assert await digest_of(files, "resource/x") is None
    assert await all_of(give_digests(files)) == ({}, "1 given, 0 known before")
    assert await digest_of(files, "resource/x") == sha256(b"new!").hexdigest()


@pytest.mark.parametrize("looks_untouched", [True, False])
async def test_every_flipped_byte_is_found(looks_untouched: bool, files: LocalFiles) -> None:
    chance = random.Random(19)
    contents = {f"archive/mods/{number}/main.zip": chance.randbytes(1 + number * 500) for number in range(200)}
    paths = {name: write(files, name, content) for name, content in contents.items()}
    await all_of(give_digests(files))
    flipped = chance.sample(sorted(paths), FLIPPED_BYTES)
    for name in flipped:
        status = paths[name].stat()
        with paths[name].open("r+b") as file:
            at = file.seek(chance.randrange(status.st_size))
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        if looks_untouched:
            os.utime(paths[name], ns=(status.st_atime_ns, status.st_mtime_ns))
    faults, summary = await all_of(find_changed(files))
    assert faults == dict.fromkeys(flipped, "is not what it was")
    assert summary == "100 as they were, 0 without a digest"


async def test_what_has_no_digest_or_was_copied_as_it_is_is_no_fault(files: LocalFiles) -> None:
    write(files, "resource/new", b"x")
    path = write(files, "resource/old", b"x")
    await files.keep(await files.find("resource", "old"), Facts(sha256=sha256(b"x").hexdigest()))
    os.utime(path)
    assert await all_of(find_changed(files)) == ({}, "1 as they were, 1 without a digest")


async def test_a_file_that_was_replaced_while_it_was_looked_at_is_judged_as_what_it_is(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(files, "resource/x", b"old")
    old = await files.find("resource", "x")
    await files.keep(old, Facts(sha256=sha256(b"old").hexdigest()))
    (tmp_path / "source").write_bytes(b"new!")

    async def found_before() -> AsyncIterator[object]:
        yield old

    await files.put(tmp_path / "source", "resource/x", Facts(sha256=sha256(b"new!").hexdigest()))
    monkeypatch.setattr(files, "every_file", found_before)
    assert await all_of(find_changed(files)) == ({}, "1 as they were, 0 without a digest")


async def test_a_name_that_cannot_be_printed_is_told(files: LocalFiles) -> None:
    write(files, "resource/x\ny\udcff", b"x")
    await files.keep(await files.find("resource", "x\ny\udcff"), Facts(sha256="5e" * 32))
    faults, _ = await all_of(find_changed(files))
    assert faults == {"'resource/x\\ny\\udcff'": "is not what it was"}


async def test_without_the_store_nothing_is_said_of_its_files(tmp_path: Path) -> None:
    for command in (give_digests, find_changed):
        with pytest.raises(ServiceUnavailable):
            await all_of(command(LocalFiles(tmp_path / "nothing")))


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


async def scanned(settings: Settings, files: Files) -> list[tuple[Severity, str, str]]:
    return [(*finding,) async for finding in scan_store(settings, files)]


async def test_each_file_with_malware_is_named_and_none_is_changed(
    store: tuple[Settings, Files], tmp_path: Path
) -> None:
    settings, files = store
    contents = dict.fromkeys(NAMES, b"harmless") | {NAMES[1]: zip_of({"evil.dll": MARKER}), NAMES[3]: MARKER}
    await put(files, tmp_path, contents)
    assert await scanned(settings, files) == [
        (Severity.FAULT, NAMES[1], f"malware: {NAME}"),
        (Severity.FAULT, NAMES[3], f"malware: {NAME}"),
        (Severity.OK, "scan", "3 clean, 2 infected, 0 not judged"),
    ]
    assert [file.name async for file in files.every_file()] == [*NAMES]


async def test_what_cannot_be_judged_is_named(store: tuple[Settings, Files], tmp_path: Path) -> None:
    settings, files = store
    unreadable = zip_of(SMALL_MOD | {"evil.dll": MARKER * 99}, zipfile.ZIP_LZMA)
    await put(files, tmp_path, {NAMES[0]: bytes(MOST_BYTES + 1), NAMES[1]: unreadable, NAMES[2]: b"harmless"})
    large, method, last = await scanned(settings, files)
    assert large[:2] == (Severity.FAULT, NAMES[0]) and "not judged (limit)" in large[2]
    assert method == (Severity.FAULT, NAMES[1], "not judged (failure): packed in a method that scanners cannot undo")
    assert last == (Severity.OK, "scan", "1 clean, 0 infected, 2 not judged")


async def test_a_run_that_was_broken_off_is_gone_on_with_and_the_next_one_begins_anew(
    store: tuple[Settings, Files], clamd: Clamd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_store, "_NOTE_SECONDS", 0)
    settings, files = store
    await put(files, tmp_path, dict.fromkeys(NAMES, MARKER))
    async with aclosing(scan_store(settings, files)) as findings:
        async for finding in findings:
            if finding.subject == NAMES[2]:
                break
    clamd.kill()
    try:
        away = await scanned(settings, files)
        assert [finding[0] for finding in away] == [Severity.OK, Severity.FAULT] and "is away" in away[1][2]
    finally:
        clamd.start()
    subjects = [subject for _, subject, _ in await scanned(settings, files)]
    assert subjects == ["scan", *NAMES[2:], "scan"]
    assert [subject for _, subject, _ in await scanned(settings, files)] == [*NAMES, "scan"]


async def test_a_run_whose_place_is_gone_begins_anew(tmp_path: Path, clamd: Clamd) -> None:
    settings = make_settings(tmp_path, Secrets(), clamd_address=clamd.local)
    async with open_files(settings) as files:
        await put(files, tmp_path, {NAMES[0]: MARKER})
        (tmp_path / whole_store.PLACE).write_text("resource/deleted")
        assert [subject for _, subject, _ in await scanned(settings, files)] == [NAMES[0], "scan"]


async def test_a_run_whose_place_goes_while_it_looks_for_it_says_so(tmp_path: Path, clamd: Clamd) -> None:
    settings = make_settings(tmp_path, Secrets(), clamd_address=clamd.local)
    async with open_files(settings) as files:
        await put(files, tmp_path, dict.fromkeys(NAMES[:2], MARKER))
        (tmp_path / whole_store.PLACE).write_text(NAMES[1])
        async with aclosing(scan_store(settings, files)) as findings:
            assert (await anext(findings)).severity is Severity.OK
            (tmp_path / NAMES[1]).unlink()
            (last,) = [finding async for finding in findings]
        assert last.severity is Severity.FAULT and "has gone, and nothing was scanned" in last.text
        assert [subject for _, subject, _ in await scanned(settings, files)] == [NAMES[0], "scan"]


async def test_without_a_scanner_or_a_store_nothing_is_said_of_its_files(tmp_path: Path, clamd: Clamd) -> None:
    settings = make_settings(tmp_path, Secrets())
    async with open_files(settings) as files:
        ((severity, _, text),) = await scanned(settings, files)
    assert severity is Severity.FAULT and "CLAMD_ADDRESS is empty" in text
    gone = make_settings(tmp_path / "root", Secrets(), clamd_address=clamd.local)
    async with open_files(gone) as files:
        (tmp_path / "root").rename(tmp_path / "away")
        with pytest.raises(ServiceUnavailable):
            await scanned(gone, files)
